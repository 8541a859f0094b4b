"""Small real files of every format, made with the libraries people make them with."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any


def zipped(files: Mapping[str, str | bytes]) -> bytes:
    """A zip archive of ``files``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def word(paragraphs: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]] = (), title: str = "") -> bytes:
    """A Word document of (style, text) paragraphs and one table."""
    import docx

    document = docx.Document()
    document.core_properties.title = title
    document.core_properties.author = "Ada"
    for style, text in paragraphs:
        document.add_paragraph(text, style=style)
    if rows:
        table = document.add_table(len(rows), len(rows[0]))
        for index, row in enumerate(rows):
            for cell, text in zip(table.rows[index].cells, row, strict=True):
                cell.text = text
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def slides() -> bytes:
    """Three slides: with title, body and notes; without a title; with a chart."""
    import pptx
    from pptx.chart.data import CategoryChartData
    from pptx.enum.chart import XL_CHART_TYPE
    from pptx.util import Inches

    deck = pptx.Presentation()
    first = deck.slides.add_slide(deck.slide_layouts[1])
    first.shapes.title.text = "Quarterly results"
    first.placeholders[1].text = "Revenue grew by a fifth."
    first.notes_slide.notes_text_frame.text = "Mention the new office."
    second = deck.slides.add_slide(deck.slide_layouts[6])
    box = second.shapes.add_textbox(Inches(1), Inches(1), Inches(4), Inches(1))
    box.text_frame.text = "A slide that has no title."
    third = deck.slides.add_slide(deck.slide_layouts[5])
    third.shapes.title.text = "Ducks by year"
    data: Any = CategoryChartData()  # type: ignore[no-untyped-call]
    data.categories = ["2019", "2020"]
    data.add_series("Mallards", (120, 130))
    third.shapes.add_chart(XL_CHART_TYPE.BAR_CLUSTERED, Inches(1), Inches(2), Inches(4), Inches(3), data)
    buffer = io.BytesIO()
    deck.save(buffer)
    return buffer.getvalue()


def workbook(sheets: Mapping[str, Sequence[Sequence[object]]]) -> bytes:
    """An Excel workbook."""
    import openpyxl

    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def pdf(
    pages: Sequence[Sequence[str]], *, password: str | None = None, outline: Sequence[tuple[str, int]] = ()
) -> bytes:
    """A PDF of lines of text; ``outline`` holds (title, level from 0), all on the first page."""
    from reportlab.pdfgen.canvas import Canvas

    buffer = io.BytesIO()
    canvas = Canvas(buffer, encrypt=password)
    for number, lines in enumerate(pages):
        for index, line in enumerate(lines):
            canvas.drawString(50, 800 - 14 * index, line)
        if number == 0:
            for title, level in outline:
                canvas.bookmarkPage(title)
                canvas.addOutlineEntry(title, title, level)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def epub(chapters: Mapping[str, str]) -> bytes:
    """An EPUB whose spine holds the chapters in the order given."""
    items = "".join(f'<item id="{name}" href="{name}.xhtml" media-type="application/xhtml+xml"/>' for name in chapters)
    spine = "".join(f'<itemref idref="{name}"/>' for name in chapters)
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        "<dc:title>A Book</dc:title><dc:creator>Ada</dc:creator></metadata>"
        f"<manifest>{items}</manifest><spine>{spine}</spine></package>"
    )
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
    )
    bodies = {f"OEBPS/{name}.xhtml": f"<html><body>{body}</body></html>" for name, body in sorted(chapters.items())}
    return zipped({"META-INF/container.xml": container, "OEBPS/book.opf": package, **bodies})
