"""A sample document as the bytes of a text format: Markdown, plain text, reStructuredText, HTML, JSON, XML, mail."""

import csv
import io
import json
import re
import textwrap
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from html import escape

from binary_renderers import render_docx, render_epub, render_pdf, render_pptx, render_xlsx
from sample_document import SampleDocument, split_paragraphs

_PARAGRAPH = 700
"""Characters of a paragraph, at most: the original texts have no paragraphs within a section."""
_LIKE_A_LIST_ITEM = re.compile(r"[-+•*#]|(?:\(?\w{1,4}[.)])\s")
"""A paragraph that starts like this is read as a list or a heading by Markdown and reStructuredText."""


def render(document: SampleDocument) -> bytes:
    """The file of ``document``, in its format."""
    return _RENDERERS[document.format](document)


def _escaped(paragraph: str, special: str) -> str:
    """Backslashes before special characters, and before a first one that would make the paragraph something else."""
    text = re.sub(f"([{special}])", r"\\\1", paragraph)
    if text[0] == "\\" or not _LIKE_A_LIST_ITEM.match(paragraph):
        return text
    marker = re.search(r"[-+•*#.)(]", text)
    return text if marker is None else f"{text[: marker.start()]}\\{text[marker.start() :]}"


def _markdown(document: SampleDocument) -> bytes:
    lines = []
    if document.number % 2 == 0:
        tags = ", ".join(document.path.split("/")[:-1])
        title = json.dumps(document.title, ensure_ascii=False)
        lines += ["---", f"title: {title}", f"author: {document.team}", f"reviewed: {document.date:%Y-%m-%d}"]
        lines += [f"tags: [{tags}]", f"language: {document.language}", "---", ""]
    lines += [f"# {document.title}", ""]
    for heading, text in document.sections:
        if heading:
            lines += [f"## {heading}", ""]
        for paragraph in split_paragraphs(text, _PARAGRAPH):
            lines += [_escaped(paragraph, r"\\`*_"), ""]
    return "\n".join(lines).encode()


def _plain_text(document: SampleDocument) -> bytes:
    lines = [document.title, ""]
    for heading, text in document.sections:
        if heading:
            lines += [heading, ""]
        for paragraph in split_paragraphs(text, _PARAGRAPH):
            lines += [textwrap.fill(paragraph, 96, break_long_words=False, break_on_hyphens=False), ""]
    return "\n".join(lines).encode()


def _restructured_text(document: SampleDocument) -> bytes:
    # A title line counts characters, and wider ones twice: twice the length is always enough.
    bar = "=" * (2 * len(document.title))
    lines = [bar, document.title, bar, "", f":Author: {document.team}", f":Date: {document.date:%Y-%m-%d}", ""]
    for heading, text in document.sections:
        if heading:
            lines += [heading, "-" * (2 * len(heading)), ""]
        for paragraph in split_paragraphs(text, _PARAGRAPH):
            lines += [_escaped(paragraph, r"\\`*_|"), ""]
    return "\n".join(lines).encode()


def _body(document: SampleDocument) -> str:
    parts = [f"<h1>{escape(document.title)}</h1>"]
    for heading, text in document.sections:
        if heading:
            parts.append(f"<h2>{escape(heading)}</h2>")
        parts += [f"<p>{escape(paragraph)}</p>" for paragraph in split_paragraphs(text, _PARAGRAPH)]
    return "\n".join(parts)


def _html(document: SampleDocument) -> bytes:
    return f"""<!DOCTYPE html>
<html lang="{document.language}">
<head>
<meta charset="utf-8">
<title>{escape(document.title)}</title>
<meta name="author" content="{document.team}">
<style>body {{ max-width: 40em; margin: auto; font-family: serif }}</style>
</head>
<body>
<main>
{_body(document)}
</main>
</body>
</html>
""".encode()


def _table(document: SampleDocument, delimiter: str) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    writer.writerow(["title", "section", "text"])
    writer.writerows([document.title, heading, text] for heading, text in document.sections)
    return out.getvalue().encode()


def _csv(document: SampleDocument) -> bytes:
    return _table(document, ",")


def _tsv(document: SampleDocument) -> bytes:
    return _table(document, "\t")


def _json(document: SampleDocument) -> bytes:
    sections = [
        {"heading": heading, "text": text} if heading else {"text": text} for heading, text in document.sections
    ]
    value = {"title": document.title, "language": document.language, "sections": sections}
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode()


def _xml(document: SampleDocument) -> bytes:
    root = ElementTree.Element("document", {"xml:lang": document.language})
    ElementTree.SubElement(root, "title").text = document.title
    for heading, text in document.sections:
        section = ElementTree.SubElement(root, "section")
        if heading:
            ElementTree.SubElement(section, "heading").text = heading
        for paragraph in split_paragraphs(text, _PARAGRAPH):
            ElementTree.SubElement(section, "paragraph").text = paragraph
    ElementTree.indent(root)
    body: str = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{body}\n'.encode()


def _mail(document: SampleDocument) -> bytes:
    """A mail with a plain text; every second one has an HTML alternative too."""
    message = EmailMessage(policy=SMTP)
    message["Subject"] = document.title
    message["From"] = f"{document.team}@example.org"
    message["To"] = "everyone@example.org"
    message["Date"] = format_datetime(document.date)
    message["Message-ID"] = f"<{document.id}@example.org>"
    lines = []
    for heading, text in document.sections:
        lines += [heading, ""] if heading else []
        for paragraph in split_paragraphs(text, _PARAGRAPH):
            lines += [paragraph, ""]
    message.set_content("\n".join(lines), cte="quoted-printable")
    if document.number % 2 == 0:
        message.add_alternative(f"<html><body>\n{_body(document)}\n</body></html>", "html", cte="quoted-printable")
        message.set_boundary(f"=_{document.number:010}")
    return message.as_bytes()


_RENDERERS: dict[str, Callable[[SampleDocument], bytes]] = {
    "csv": _csv,
    "docx": render_docx,
    "eml": _mail,
    "epub": render_epub,
    "html": _html,
    "json": _json,
    "md": _markdown,
    "pdf": render_pdf,
    "pptx": render_pptx,
    "rst": _restructured_text,
    "tsv": _tsv,
    "txt": _plain_text,
    "xlsx": render_xlsx,
    "xml": _xml,
}
