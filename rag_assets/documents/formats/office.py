"""What Word and PowerPoint files have in common."""

from typing import Any

_PLACEHOLDERS = ("PowerPoint Presentation", "Word Document")
"""What Office writes as the title of a file that nobody gave one."""


def core_properties(document: Any) -> tuple[str, dict[str, Any]]:
    """(title, metadata) from the core properties of a python-docx or python-pptx document."""
    core = document.core_properties
    title = "" if core.title in _PLACEHOLDERS else core.title or ""
    return title, {"title": title, "author": core.author, "subject": core.subject, "keywords": core.keywords}
