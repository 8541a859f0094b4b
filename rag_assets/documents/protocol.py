"""What the parent and a parsing process say to each other: length-prefixed frames of JSON, and bytes of a file.

A frame is two lengths (4 bytes each, big-endian), a JSON object and a body. The parent never unpickles anything.
"""

import json
import struct
from typing import Any, BinaryIO

from rag_assets.models import Element, ParsedDocument

_LENGTHS = struct.Struct(">II")


class BrokenFrame(Exception):
    """The other side is gone, or what it sent is not a frame."""


def write_frame(stream: BinaryIO, header: dict[str, Any], body: bytes = b"") -> None:
    """Send one frame and flush."""
    encoded = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
    stream.write(_LENGTHS.pack(len(encoded), len(body)))
    stream.write(encoded)
    stream.write(body)
    stream.flush()


def read_frame(stream: BinaryIO, max_bytes: int) -> tuple[dict[str, Any], bytes]:
    """Receive one frame of at most ``max_bytes``.

    Raises:
        BrokenFrame: end of file, an oversized frame, or something that is not JSON.
    """
    header_size, body_size = _LENGTHS.unpack(_read_exactly(stream, _LENGTHS.size))
    if header_size + body_size > max_bytes:
        raise BrokenFrame(f"a frame of {header_size + body_size:,} bytes is over the limit of {max_bytes:,}")
    encoded = _read_exactly(stream, header_size)
    try:
        header = json.loads(encoded)
    except (ValueError, RecursionError):
        raise BrokenFrame("a frame is not JSON") from None
    if not isinstance(header, dict):
        raise BrokenFrame("a frame is not a JSON object")
    return header, _read_exactly(stream, body_size)


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size) if size else b""
    if len(data) != size:
        raise BrokenFrame("the other side closed the pipe")
    return data


def document_to_json(document: ParsedDocument) -> dict[str, Any]:
    """A JSON-serialisable form that writes each heading path once."""
    paths: dict[tuple[str, ...], int] = {}
    elements = [
        [element.kind, element.text, paths.setdefault(element.headings, len(paths)), element.page]
        for element in document.elements
    ]
    return {
        "title": document.title,
        "metadata": dict(document.metadata),
        "headings": [list(path) for path in paths],
        "elements": elements,
    }


def document_from_json(value: dict[str, Any]) -> ParsedDocument:
    """The inverse of ``document_to_json``."""
    paths = [tuple(path) for path in value["headings"]]
    elements = tuple(Element(kind, text, paths[path], page) for kind, text, path, page in value["elements"])
    return ParsedDocument(value["title"], elements, value["metadata"])
