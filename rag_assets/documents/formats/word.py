"""Word documents."""

import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from rag_assets.documents.draft import Block, Draft
from rag_assets.documents.formats.elements import LANGUAGES, blocks_of
from rag_assets.documents.formats.office import core_properties
from rag_assets.documents.guards import open_zip
from rag_assets.errors import UnparsableDocument

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_STRICT = b"purl.oclc.org/ooxml"
_LOOK_AHEAD = 5
"""Headings searched for the one that a block is: some never become a block."""


def read_docx(data: bytes, max_characters: int) -> Draft:
    """A Word document; headings are the paragraphs whose style, or own outline level, says so."""
    import docx

    archive = open_zip(data)
    if "_rels/.rels" in archive.namelist() and _STRICT in archive.read("_rels/.rels"):
        raise UnparsableDocument("is a Strict Open XML document; save it as an ordinary Word document (.docx)")
    document = docx.Document(io.BytesIO(data))
    if _show_everything(document.element.body):
        shown = io.BytesIO()
        document.save(shown)
        data = shown.getvalue()
    title, metadata = core_properties(document)
    return Draft(_blocks(data, document), title, metadata)


def _show_everything(body: Any) -> bool:
    """Move text out of formulas, text boxes and content controls, which unstructured skips. True if there was any."""
    formulas = list(body.iter(_M + "oMathPara", _M + "oMath"))
    boxes = list(body.iter(_W + "txbxContent"))
    controls = list(body.iter(_W + "sdt"))
    for formula in formulas:
        if formula.getparent() is not None and next(formula.iterancestors(_M + "oMathPara"), None) is None:
            run = formula.makeelement(_W + "r")
            text = run.makeelement(_W + "t")
            text.text = "".join(part.text or "" for part in formula.iter(_M + "t"))
            run.append(text)
            formula.getparent().replace(formula, run)
    for box in boxes:
        paragraph = next(box.iterancestors(_W + "p"), None)
        # Every text box is written twice: as it is, and for programs of before 2010.
        if paragraph is not None and next(box.iterancestors(_FALLBACK), None) is None:
            _move_after(paragraph, box)
    for control in controls:
        content = control.find(_W + "sdtContent")
        # A table of contents repeats every heading of the document.
        galleries = {node.get(_W + "val") for node in control.iter(_W + "docPartGallery")}
        if content is not None and "Table of Contents" not in galleries:
            _move_after(control, content)
        control.getparent().remove(control)
    return bool(formulas or boxes or controls)


def _move_after(anchor: Any, container: Any) -> None:
    for child in reversed(list(container)):
        anchor.addnext(child)


def _blocks(data: bytes, document: Any) -> Iterator[Block]:
    from unstructured.partition.docx import partition_docx

    headings = list(_headings(document))
    for block in blocks_of(partition_docx(file=io.BytesIO(data), languages=LANGUAGES)):
        if block.kind in ("Header", "Footer"):
            continue
        level = None if block.kind == "Table" else _take_level(block.text, headings)
        if level is not None:
            yield replace(block, kind="Title", level=level)
        else:
            # What is left of unstructured's titles are guesses from their wording.
            yield replace(block, kind="Text", level=None) if block.kind == "Title" else block


def _take_level(text: str, headings: list[tuple[str, int]]) -> int | None:
    """The level of the next heading that is ``text``, but for a number that Word puts before it."""
    words = " ".join(text.split())
    for index, (heading, level) in enumerate(headings[:_LOOK_AHEAD]):
        if words == heading or (words.endswith(" " + heading) and " " not in words.removesuffix(" " + heading)):
            del headings[: index + 1]
            return level
    return None


def _headings(document: Any) -> Iterator[tuple[str, int]]:
    """(text, level) of the heading paragraphs, in order; the document's Title has level 1 like its first headings."""
    levels = {style.style_id: _style_level(style) for style in document.styles if style.type == 1}
    for paragraph in document.paragraphs:
        own = paragraph._p.xpath("./w:pPr/w:outlineLvl/@w:val")
        level = int(own[0]) + 1 if own else levels.get(paragraph._p.style)
        text = " ".join(paragraph.text.split())
        if level is not None and level <= 9 and text:
            yield text, level


def _style_level(style: Any) -> int | None:
    """The outline level (from 1) of a paragraph style or the one it is based on; 1 for Title."""
    for _ in range(20):
        if style is None:
            return None
        found = style.element.xpath("./w:pPr/w:outlineLvl/@w:val")
        if found:
            return int(found[0]) + 1
        if style.name == "Title":
            return 1
        style = style.base_style
    return None
