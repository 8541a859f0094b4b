"""Rules about file names: which are documents, which are ignored, and how any name is shown to people."""

import fnmatch
import re
from collections.abc import Callable, Sequence

SUPPORTED = frozenset(
    {
        ".csv",
        ".docx",
        ".eml",
        ".epub",
        ".htm",
        ".html",
        ".json",
        ".jsonl",
        ".log",
        ".markdown",
        ".md",
        ".pdf",
        ".pptx",
        ".rst",
        ".text",
        ".tsv",
        ".txt",
        ".xlsx",
        ".xml",
    }
)
"""Extensions that are parsed, lower case."""

_IGNORED_FOLDERS = frozenset({b"node_modules", b"__pycache__", b"__MACOSX", b"venv"})
_IGNORED_FILES = frozenset({b"thumbs.db", b"desktop.ini"})
_UNFINISHED = (b"~", b".part", b".partial", b".swp", b".swo", b".tmp", b".temp", b".crdownload", b".download")


def suffix_of(name: bytes) -> str:
    """The extension of a file name, lower case, with its dot; empty when there is none."""
    stem, dot, suffix = name.rpartition(b".")
    return "." + suffix.decode("utf-8", "backslashreplace").lower() if dot and stem else ""


def unsupported(suffix: str) -> str | None:
    """Why files with this extension (as ``suffix_of`` gives it) are not indexed; None: they are."""
    if suffix in SUPPORTED:
        return None
    what = f"{display_uri(suffix.encode())} files are" if suffix else "a file without an extension is"
    return f"{what} not supported (supported: {', '.join(sorted(SUPPORTED))})"


def is_ignored_folder(name: bytes) -> bool:
    """True for hidden, version-control, environment and state folders: nobody means these as documents."""
    return name.startswith(b".") or name in _IGNORED_FOLDERS


def is_ignored_file(name: bytes) -> bool:
    """True for hidden files, editors' temporary files and unfinished downloads."""
    lowered = name.lower()
    return (
        name.startswith((b".", b"~$"))
        or lowered.endswith(_UNFINISHED)
        or lowered in _IGNORED_FILES
        or (name.startswith(b"#") and name.endswith(b"#"))
    )


def display_uri(path: bytes) -> str:
    r"""A relative path as people see it: printable, and different for different paths.

    Undecodable bytes appear as ``\xff``, control and invisible characters as ``\n`` or ``\u202e``, and a literal
    backslash as two, so that no two byte paths share a uri.
    """
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError:
        # Surrogate escapes keep each undecodable byte as one character, apart from what is really in the name.
        text = path.decode("utf-8", "surrogateescape")
    if "\\" not in text and text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(char: str) -> str:
    if char == "\\":
        return "\\\\"
    if "\udc80" <= char <= "\udcff":
        return f"\\x{ord(char) - 0xDC00:02x}"
    if char.isprintable():
        return char
    # `\x85` already means the undecodable byte 0x85, so U+0085 has to be spelt `\u0085`.
    code = ord(char)
    return char.encode("unicode_escape").decode("ascii") if code < 0x80 or code > 0xFF else f"\\u{code:04x}"


def is_excluded(uri: str, exclude: Sequence[str]) -> bool:
    """Whether a listing leaves a file out for one of these patterns, be it by a folder above it."""
    matches = pattern_matcher(exclude)
    folders = [uri[:end] for end, character in enumerate(uri) if character == "/"]
    return bool(matches(uri)) or any(matches(folder) or matches(folder + "/") for folder in folders)


def pattern_matcher(patterns: Sequence[str]) -> Callable[[str], object]:
    """A function that tells whether a uri matches one of these fnmatch patterns (``*`` crosses ``/``)."""
    return re.compile("|".join(map(fnmatch.translate, patterns))).match if patterns else lambda uri: None
