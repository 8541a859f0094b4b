"""Text in one form, decided in one place: what is hashed, stored and searched never holds a byte PostgreSQL refuses."""

import re
import unicodedata

_REPLACED = re.compile("[\x00\ud800-\udfff]")
"""PostgreSQL stores neither NUL nor lone surrogates; U+FFFD shows that something was there."""
_REMOVED = re.compile("[\x01-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\ufeff]")
"""C0 and C1 controls, and the invisible soft hyphen and byte order mark, which split words in two for a tokeniser."""
_NEW_LINES = re.compile("\r\n?|[\x0b\x0c\x1c-\x1f\x85\u2028\u2029]")
_SPACES = re.compile(r"[^\S\n\t ][^\S\n\t]*| [^\S\n\t]+")
"""Every run of spaces but a single ordinary one, which need not be replaced."""
_TRAILING = re.compile(r"[ \t]+(?=\n)|[ \t]+\Z")
_BLANK_LINES = re.compile(r"\n{3,}")

_COMBINING = "[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_STACKED_MARKS = re.compile(f"({_COMBINING}{{30}}){_COMBINING}+")
"""The Stream-Safe Text Format (UAX #15, section 13) allows 30 combining marks in a row: normalising sorts them, in time
that grows with the square of their number."""

_SAMPLE_BYTES = 256_000
"""Enough to recognise an encoding by; charset-normalizer takes about 0.3 s for it."""
_WESTERN_SHARE = 0.4
"""Below this share of non-ASCII bytes, text is in a Latin script: other scripts use them for most letters."""
_SIGN_IN_WORD = re.compile(r"[^\W\d_][\xa1-\xbf\xd7\xf7][^\W\d_]")
"""What letters of other Latin code pages turn into when read as Windows-1252: `³ódŸ` for `łódź`."""
_OTHER_LATIN_CODE_PAGES = ["cp1250", "cp1254", "cp1257"]


def normalise_text(text: str, *, keep_spaces: bool = False) -> str:
    """``text`` in Unicode NFC with ``\\n`` line ends, free of controls; applying it twice changes nothing.

    NUL and lone surrogates become U+FFFD; other controls except newline and tab vanish; runs of spaces become one space
    (not with ``keep_spaces``, for code), spaces before a line end vanish, and at most one blank line stays in a row.
    """
    text = _REPLACED.sub("\ufffd", text)
    text = _REMOVED.sub("", text)
    text = _NEW_LINES.sub("\n", text)
    text = _STACKED_MARKS.sub(r"\1", text)
    if not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    if not keep_spaces:
        text = _SPACES.sub(" ", text)
    return _BLANK_LINES.sub("\n\n", _TRAILING.sub("", text))


def decode_text(data: bytes) -> str:
    """Bytes of a text file as text; never fails.

    A byte order mark decides; then UTF-8 (a few bad bytes among good ones are replaced), then UTF-16 without a mark,
    then the best guess of charset-normalizer, then Windows-1252.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if text and "\x00" not in text[:2000]:
        return text
    wide = _unmarked_utf16(data)
    if wide:
        return data.decode(wide, "replace")
    return text or _decode_legacy(data)


_MARKS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\x00\x00", "utf-32-le"),
    (b"\x00\x00\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
"""Longest first: a UTF-32 mark begins with a UTF-16 one."""


def _unmarked_utf16(data: bytes) -> str | None:
    """The byte order of UTF-16 text that is mostly ASCII: every other byte is NUL."""
    sample = data[:4096]
    if len(sample) < 4 or len(sample) % 2:
        sample = sample[: len(sample) // 2 * 2]
    pairs = len(sample) // 2
    if not pairs:
        return None
    even, odd = sample[::2].count(0) / pairs, sample[1::2].count(0) / pairs
    if odd > 0.4 and even < 0.05:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 and odd < 0.05 else None


def _decode_legacy(data: bytes) -> str:
    replaced = data.decode("utf-8", "replace")
    good = sum(1 for char in replaced[:_SAMPLE_BYTES] if char > "\x7f" and char != "\ufffd")
    bad = replaced[:_SAMPLE_BYTES].count("\ufffd")
    if bad <= good:
        # Mostly valid multi-byte sequences: this is UTF-8 with some damage.
        return replaced
    encoding = _guess_encoding(data[:_SAMPLE_BYTES])
    return data.decode(encoding, "replace")


def _guess_encoding(sample: bytes) -> str:
    from charset_normalizer import from_bytes

    share = sum(1 for byte in sample if byte > 0x7F) / max(1, len(sample))
    # On a few accented words charset-normalizer is no better than chance, so the most common code page goes first.
    if share < _WESTERN_SHARE and not _SIGN_IN_WORD.search(sample.decode("cp1252", "replace")):
        return "cp1252"
    best = from_bytes(sample, cp_isolation=_OTHER_LATIN_CODE_PAGES if share < _WESTERN_SHARE else None).best()
    return best.encoding if best is not None else "cp1252"
