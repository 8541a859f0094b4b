"""A sample document as the bytes of a binary format: PDF, Word, PowerPoint, Excel, EPUB.

The same input gives the same bytes: dates are the document's, and archives are written again with fixed entries.
"""

import io
import re
import zipfile
from html import escape
from typing import Any

from sample_document import SampleDocument, split_paragraphs

_PARAGRAPH = 700
_SLIDE = 650
"""Characters on a slide, at most: what fits at 16 points."""
_CORE_DATES = re.compile(rb"(<dcterms:(?:created|modified)[^>]*>)[^<]*")


def render_pdf(document: SampleDocument) -> bytes:
    """A4 pages with a heading per section and the page number in the footer; no paragraph runs over a page break."""
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import KeepTogether, Paragraph, SimpleDocTemplate

    styles = getSampleStyleSheet()
    story: list[Any] = [Paragraph(escape(document.title), styles["Title"])]
    for heading, text in document.sections:
        start = [Paragraph(escape(heading), styles["Heading2"])] if heading else []
        for paragraph in split_paragraphs(text, _PARAGRAPH):
            story.append(KeepTogether([*start, Paragraph(escape(paragraph), styles["BodyText"])]))
            start = []

    def footer(canvas: Any, template: Any) -> None:
        canvas.setFont("Helvetica", 8)
        canvas.drawCentredString(A4[0] / 2, 30, f"Page {template.page}")

    out = io.BytesIO()
    template = SimpleDocTemplate(
        out, pagesize=A4, title=document.title, author=document.team, invariant=1, pageCompression=0
    )
    template.build(story, onFirstPage=footer, onLaterPages=footer)
    return out.getvalue()


def render_docx(document: SampleDocument) -> bytes:
    """Title and heading styles, body paragraphs."""
    import docx

    word = docx.Document()
    _set_core_properties(word.core_properties, document)
    word.add_heading(document.title, level=0)
    for heading, text in document.sections:
        if heading:
            word.add_heading(heading, level=1)
        for paragraph in split_paragraphs(text, _PARAGRAPH):
            word.add_paragraph(paragraph)
    out = io.BytesIO()
    word.save(out)
    return _rezipped(out.getvalue(), document)


def render_pptx(document: SampleDocument) -> bytes:
    """A title slide, then a slide per section; a long section goes on over more slides."""
    import pptx
    from pptx.util import Pt

    deck = pptx.Presentation()
    _set_core_properties(deck.core_properties, document)
    first = deck.slides.add_slide(deck.slide_layouts[0])
    first.shapes.title.text = document.title
    first.placeholders[1].text = f"{document.team}, {document.date:%B %Y}"
    for heading, text in document.sections:
        name = heading or document.title
        for number, paragraph in enumerate(split_paragraphs(text, _SLIDE)):
            slide = deck.slides.add_slide(deck.slide_layouts[1])
            slide.shapes.title.text = f"{name} (continued)" if number else name
            frame = slide.placeholders[1].text_frame
            frame.text = paragraph
            frame.paragraphs[0].runs[0].font.size = Pt(16)
    out = io.BytesIO()
    deck.save(out)
    return _rezipped(out.getvalue(), document)


def render_xlsx(document: SampleDocument) -> bytes:
    """One sheet with a row per section."""
    import openpyxl
    from openpyxl.styles import Alignment, Font

    book = openpyxl.Workbook()
    book.properties.title, book.properties.creator = document.title, document.team
    sheet = book.active
    sheet.title = "Sections"
    sheet.append(["title", "section", "text"])
    for heading, text in document.sections:
        sheet.append([document.title, heading, text])
    for cell in sheet[1]:
        cell.font = Font(bold=True)
    for column, width in (("A", 30), ("B", 20), ("C", 100)):
        sheet.column_dimensions[column].width = width
        for cell in sheet[column]:
            cell.alignment = Alignment(wrap_text=True, vertical="top")
    out = io.BytesIO()
    book.save(out)
    return _rezipped(out.getvalue(), document)


def render_epub(document: SampleDocument) -> bytes:
    """EPUB 3: a chapter per section, a table of contents, metadata."""
    chapters = [f"chapter{number}.xhtml" for number in range(1, len(document.sections) + 1)]
    entries = {"mimetype": "application/epub+zip", "META-INF/container.xml": _EPUB_CONTAINER}
    items = "".join(
        f'<item id="c{number}" href="{name}" media-type="application/xhtml+xml"/>\n'
        for number, name in enumerate(chapters, start=1)
    )
    spine = "".join(f'<itemref idref="c{number}"/>' for number in range(1, len(chapters) + 1))
    entries["OEBPS/content.opf"] = _EPUB_PACKAGE.format(
        id=escape(document.id),
        title=escape(document.title),
        creator=escape(document.team),
        language=document.language,
        modified=f"{document.date:%Y-%m-%dT%H:%M:%SZ}",
        items=items,
        spine=spine,
    )
    links = "".join(
        f'<li><a href="{name}">{escape(heading or document.title)}</a></li>'
        for name, (heading, _) in zip(chapters, document.sections, strict=True)
    )
    contents = f'<nav xmlns:epub="http://www.idpf.org/2007/ops" epub:type="toc"><ol>{links}</ol></nav>'
    entries["OEBPS/nav.xhtml"] = _xhtml(document, contents)
    for number, (name, (heading, text)) in enumerate(zip(chapters, document.sections, strict=True)):
        title = f"<h1>{escape(document.title)}</h1>\n" if number == 0 else ""
        paragraphs = "\n".join(f"<p>{escape(paragraph)}</p>" for paragraph in split_paragraphs(text, _PARAGRAPH))
        entries[f"OEBPS/{name}"] = _xhtml(document, f"{title}<h2>{escape(heading)}</h2>\n{paragraphs}")
    return _zipped({name: text.encode() for name, text in entries.items()})


def _set_core_properties(properties: Any, document: SampleDocument) -> None:
    """Office's core properties; it keeps dates without a time zone, in UTC."""
    moment = document.date.replace(tzinfo=None)
    properties.title, properties.author = document.title, document.team
    properties.created = properties.modified = moment
    properties.language = document.language


def _rezipped(archive: bytes, document: SampleDocument) -> bytes:
    """The archive with fixed entry dates, and without the moment of saving that openpyxl writes."""
    with zipfile.ZipFile(io.BytesIO(archive)) as source:
        entries = {name: source.read(name) for name in source.namelist()}
    moment = f"{document.date:%Y-%m-%dT%H:%M:%SZ}".encode()
    entries["docProps/core.xml"] = _CORE_DATES.sub(rb"\g<1>" + moment, entries["docProps/core.xml"])
    return _zipped(entries)


def _zipped(entries: dict[str, bytes]) -> bytes:
    """A zip archive of ``entries`` in their order, all dated 1980-01-01; ``mimetype`` is stored, as EPUB demands."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in entries.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return out.getvalue()


def _xhtml(document: SampleDocument, body: str) -> str:
    return f"""<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="{document.language}">
<head><title>{escape(document.title)}</title></head>
<body>
{body}
</body>
</html>
"""


_EPUB_CONTAINER = """<?xml version="1.0"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="OEBPS/content.opf" media-type="application/oebps-package+xml"/></rootfiles>
</container>
"""

_EPUB_PACKAGE = """<?xml version="1.0" encoding="utf-8"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:identifier id="id">urn:sample:{id}</dc:identifier>
<dc:title>{title}</dc:title>
<dc:creator>{creator}</dc:creator>
<dc:language>{language}</dc:language>
<meta property="dcterms:modified">{modified}</meta>
</metadata>
<manifest>
<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
{items}</manifest>
<spine>{spine}</spine>
</package>
"""
