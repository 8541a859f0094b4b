"""EPUB: a zip file of XHTML chapters, in the order of the package's spine."""

import posixpath
import zipfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from rag_assets.documents.draft import Block, Draft
from rag_assets.documents.formats.markup import html_draft
from rag_assets.documents.guards import open_zip
from rag_assets.documents.normalise import decode_text
from rag_assets.errors import UnparsableDocument

_CONTAINER = "META-INF/container.xml"
_CHAPTERS = ("application/xhtml+xml", "text/html")


def read_epub(data: bytes, max_characters: int) -> Draft:
    """An EPUB book (version 2 or 3); title, authors and language go to the metadata."""
    archive = open_zip(data)
    try:
        container = _xml(archive.read(_CONTAINER))
        package_path = str(container.xpath("string(//*[local-name()='rootfile']/@full-path)"))
        package = _xml(archive.read(package_path))
    except KeyError as error:
        raise UnparsableDocument(f"is not a complete EPUB book: {error.args[0]}") from None
    hrefs = {
        item.get("id"): item.get("href")
        for item in package.xpath("//*[local-name()='manifest']/*[local-name()='item']")
        if item.get("media-type") in _CHAPTERS
    }
    order = [ref.get("idref") for ref in package.xpath("//*[local-name()='spine']/*[local-name()='itemref']")]
    folder = posixpath.dirname(package_path)
    paths = [posixpath.normpath(posixpath.join(folder, unquote(hrefs[ref]))) for ref in order if hrefs.get(ref)]
    title = _dublin_core(package, "title")[:1]
    metadata = {
        "title": title[0] if title else "",
        "authors": _dublin_core(package, "creator"),
        "language": _dublin_core(package, "language")[:1],
    }
    return Draft(_chapters(archive, paths), title[0] if title else "", metadata)


def _chapters(archive: zipfile.ZipFile, paths: list[str]) -> Iterator[Block]:
    present = set(archive.namelist())
    for path in paths:
        if path in present:
            yield from html_draft(decode_text(archive.read(path))).blocks


def _dublin_core(package: Any, name: str) -> list[str]:
    nodes = package.xpath(f"//*[local-name()='metadata']/*[local-name()='{name}']")
    return [" ".join("".join(node.itertext()).split()) for node in nodes]


def _xml(data: bytes) -> Any:
    from lxml import etree

    return etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False))
