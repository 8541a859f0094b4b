"""Readers: one function per format, from the bytes of a file to a ``Draft``.

Nothing heavy is imported before the first file of a format: the table below only names what each one needs.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from rag_assets.documents.draft import Draft
from rag_assets.errors import UnparsableDocument

Reader = Callable[[bytes, int], Draft]
"""(bytes of the file, max_characters) -> what is in it. Raises UnparsableDocument, or whatever its library raises."""


@dataclass(frozen=True, slots=True)
class Format:
    """Where the reader of a format is, and which libraries to import before the clock of the first file starts."""

    module: str
    function: str
    libraries: tuple[str, ...] = ()

    @cache  # noqa: B019  # there are as many as lines in the table below
    def load(self) -> Reader:
        """Import the reader and its libraries, once."""
        if any(library.startswith("unstructured.") for library in self.libraries):
            from rag_assets.documents.offline_nlp import install

            install()
        for library in self.libraries:
            importlib.import_module(library)
        reader: Reader = getattr(importlib.import_module(f"{__name__}.{self.module}"), self.function)
        return reader


_TEXT = Format("text", "read_text", ("unstructured.partition.text",))
_HTML = Format("markup", "read_html", ("unstructured.partition.html",))
_MARKDOWN = Format("markup", "read_markdown", ("unstructured.partition.html", "markdown_it", "yaml"))
FORMATS = {
    ".txt": _TEXT,
    ".text": _TEXT,
    ".log": _TEXT,
    ".md": _MARKDOWN,
    ".markdown": _MARKDOWN,
    ".html": _HTML,
    ".htm": _HTML,
    ".rst": Format(
        "rst", "read_rst", ("unstructured.partition.html", "docutils.core", "docutils.writers.html5_polyglot")
    ),
    ".epub": Format("epub", "read_epub", ("unstructured.partition.html",)),
    ".csv": Format("tables", "read_csv"),
    ".tsv": Format("tables", "read_tsv"),
    ".xlsx": Format("tables", "read_xlsx", ("openpyxl",)),
    ".docx": Format("word", "read_docx", ("unstructured.partition.docx",)),
    ".pptx": Format("slides", "read_pptx", ("unstructured.partition.pptx",)),
    ".eml": Format("mail", "read_eml", ("unstructured.partition.html", "unstructured.partition.text")),
    ".json": Format("data", "read_json"),
    ".jsonl": Format("data", "read_jsonl"),
    ".xml": Format("data", "read_xml", ("lxml.etree",)),
    ".pdf": Format("pdf", "read_pdf", ("unstructured.partition.text", "pypdfium2")),
}


def format_of(suffix: str) -> Format:
    """The format of an extension (lower case, with its dot).

    Raises:
        UnparsableDocument: there is no reader for it.
    """
    if suffix not in FORMATS:
        raise UnparsableDocument(f"is in no supported format (supported: {', '.join(sorted(FORMATS))})")
    return FORMATS[suffix]
