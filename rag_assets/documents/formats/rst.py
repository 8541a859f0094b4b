"""reStructuredText, by way of docutils and HTML."""

import re
from typing import Any

from rag_assets.documents.draft import Draft, cut_long_words
from rag_assets.documents.formats.markup import html_draft
from rag_assets.documents.guards import check_text
from rag_assets.documents.normalise import decode_text

_SETTINGS = {
    # The first four keep a document from reading other files, running raw HTML, or configuring docutils.
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "_disable_config": True,
    "embed_stylesheet": False,
    "stylesheet_path": "",
    # Problems in the markup are no problem of ours: keep what can be read.
    "report_level": 5,
    "halt_level": 5,
    "doctitle_xform": False,
    "docinfo_xform": False,
    "initial_header_level": 1,
    "syntax_highlight": "none",
    "math_output": "LaTeX",
    "toc_backlinks": False,
    # docutils drops a whole file for one longer line.
    "line_length_limit": 1_000_000_000,
}
_SPHINX_DIRECTIVES = (
    "versionadded versionchanged deprecated seealso only tab-set tab-item grid card dropdown "
    "function class method attribute data module exception describe option envvar "
    "py:function py:class py:method py:attribute py:data py:module py:exception"
)
"""Directives of Sphinx whose content is prose; plain docutils would leave it out."""
_SPHINX_ROLES = (
    "any attr class cls command const data dfn doc download envvar exc file func guilabel kbd keyword makevar meth "
    "menuselection mod numref obj option pep program py:attr py:class py:data py:exc py:func py:meth py:mod py:obj "
    "ref rfc samp term token type"
)
_TARGET = re.compile(r"\s*<[^<>]*>\Z")


def read_rst(data: bytes, max_characters: int) -> Draft:
    """A reStructuredText file; sections become headings, included files are not read."""
    from docutils.core import publish_parts

    check_text(data)
    _register_sphinx_markup()
    text = cut_long_words(decode_text(data))
    return html_draft(publish_parts(text, writer="html5", settings_overrides=_SETTINGS)["html_body"])


def _register_sphinx_markup() -> None:
    from docutils import nodes
    from docutils.parsers.rst import Directive, directives, roles

    class Prose(Directive):
        """Shows its argument and its content, whatever the directive means to Sphinx."""

        optional_arguments = 1
        final_argument_whitespace = True
        has_content = True
        option_spec = _AnyOption()

        def run(self) -> list[nodes.Node]:
            box = nodes.container()
            if self.arguments:
                box += nodes.paragraph(text=self.arguments[0])
            self.state.nested_parse(self.content, self.content_offset, box)
            return [box]

    for name in _SPHINX_DIRECTIVES.split():
        directives.register_directive(name, Prose)

    def shown(
        role: str, raw: str, text: str, line: int, inliner: Any, options: Any = None, content: Any = None
    ) -> tuple[list[nodes.Node], list[nodes.Node]]:
        return [nodes.inline(raw, _TARGET.sub("", text).lstrip("~!"))], []

    for name in _SPHINX_ROLES.split():
        roles.register_canonical_role(name, shown)  # type: ignore[arg-type]


class _AnyOption(dict[str, Any]):
    """An option specification that accepts every option."""

    def __missing__(self, name: str) -> Any:
        return str

    def __bool__(self) -> bool:
        return True
