"""Checks on the bytes of a file before any parser sees them. Each raises UnparsableDocument with the reason."""

import io
import zipfile

from rag_assets.errors import UnparsableDocument

MAX_INFLATED = 200_000_000
"""Bytes a zip-based document may hold uncompressed."""
MAX_ENTRIES = 20_000
"""Files inside a zip-based document; a thousand-slide presentation has about 5,000."""
_MAX_CONTROL_SHARE = 0.05
"""Text has next to no control characters; random bytes have about a tenth."""
_SAMPLE = 65_536
_CONTROLS = bytes(byte for byte in range(32) if byte not in b"\t\n\r\f\x1b") + b"\x7f"
_TEXT_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\x00\x00\xfe\xff")
_BINARY_MARKS = (
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"GIF8",
    b"%PDF-",
    b"PK\x03\x04",
    b"\x7fELF",
    b"\x1f\x8b",
    b"BZh",
    b"7z\xbc",
)
_OLE_MARK = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def check_text(data: bytes) -> None:
    """Refuse bytes that are no text in any encoding."""
    sample = data[:_SAMPLE]
    if sample.startswith(_TEXT_MARKS):
        return
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    if _looks_like_utf16(sample):
        controls -= sample.count(0)
    if sample.startswith((*_BINARY_MARKS, _OLE_MARK)) or controls > _MAX_CONTROL_SHARE * len(sample):
        raise UnparsableDocument("looks binary, not text; give it the extension of its real format, or exclude it")


def is_out_of_memory(error: BaseException) -> bool:
    """True for MemoryError and for the syntax error that lxml raises instead (libxml2's XML_ERR_NO_MEMORY is 2)."""
    return isinstance(error, MemoryError) or (isinstance(error, SyntaxError) and getattr(error, "code", None) == 2)


def _looks_like_utf16(sample: bytes) -> bool:
    zeros = (sample[::2].count(0), sample[1::2].count(0))
    return max(zeros) > 0.4 * (len(sample) / 2) and min(zeros) < 0.05 * (len(sample) / 2)


def open_zip(data: bytes) -> zipfile.ZipFile:
    """Open a zip-based document after checking what its directory says it holds.

    ``zipfile`` never returns more of an entry than the directory states, so the sum of those sizes is a true bound.
    """
    if data.startswith(_OLE_MARK):
        if "EncryptedPackage".encode("utf-16-le") in data:
            raise UnparsableDocument("is protected by a password; save a copy without one")
        raise UnparsableDocument("is in the old binary Office format; save it as .docx, .xlsx or .pptx")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError) as error:
        raise UnparsableDocument(f"is damaged or cut short: {error}; save or copy it again") from None
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise UnparsableDocument(f"holds {len(entries):,} files inside; at most {MAX_ENTRIES:,} are read")
    inflated = sum(entry.file_size for entry in entries)
    if inflated > MAX_INFLATED:
        raise UnparsableDocument(
            f"inflates to {inflated / 1e6:,.0f} MB; at most {MAX_INFLATED / 1e6:,.0f} MB are read; split the file"
        )
    if any(entry.flag_bits & 1 for entry in entries):
        raise UnparsableDocument("is protected by a password; save a copy without one")
    return archive
