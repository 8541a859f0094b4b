"""Parsing without a process of its own: what the parsing process does with a file, as a function."""

import sys
import threading
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import PurePosixPath

from rag_assets.documents.draft import finish
from rag_assets.documents.formats import format_of
from rag_assets.documents.parsing import parser_fingerprint
from rag_assets.documents.protocol import document_from_json, document_to_json
from rag_assets.errors import UnparsableDocument
from rag_assets.models import ParsedDocument
from rag_assets.settings import ParsingSettings

MAX_CHARACTERS = ParsingSettings().max_characters
_known: dict[tuple[str, bytes], ParsedDocument | UnparsableDocument] = {}
_parsing = threading.Lock()
"""Parsers keep PyTorch out of the process meanwhile, which is no matter of one thread."""


def parsed(uri: str, data: bytes) -> ParsedDocument | UnparsableDocument:
    """What ``ParserPool`` makes of a file; remembered, for only its bytes and its extension decide."""
    suffix = PurePosixPath(uri).suffix.lower()
    if (suffix, data) not in _known:
        with _parsing:
            _known[suffix, data] = _parse(uri, suffix, data)
    return _known[suffix, data]


def _parse(uri: str, suffix: str, data: bytes) -> ParsedDocument | UnparsableDocument:
    if not data:
        return UnparsableDocument("is empty")
    try:
        document = finish(format_of(suffix).load()(data, MAX_CHARACTERS), uri, MAX_CHARACTERS)
    except UnparsableDocument as error:
        return error
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        return UnparsableDocument(f"can't be parsed as {suffix}: {type(error).__name__}: {reason}")
    finally:
        # A parsing process keeps PyTorch out; other tests of this one need it.
        if sys.modules.get("torch", sys) is None:
            del sys.modules["torch"]
    return document_from_json(document_to_json(document))


@cache
def default_parser_fp() -> str:
    """The fingerprint of the parsers under default settings; looking it up takes longer than many a trial."""
    return parser_fingerprint(ParsingSettings())


class InProcessParsers:
    """Has the methods of ``ParserPool``; for trials, whose processes are too many to give each a parsing process."""

    def parse(self, uri: str, data: bytes) -> ParsedDocument:
        result = parsed(uri, data)
        if isinstance(result, UnparsableDocument):
            raise result
        return result

    def parse_many(self, items: Iterable[tuple[str, bytes]]) -> Iterator[ParsedDocument | UnparsableDocument]:
        return (parsed(uri, data) for uri, data in items)

    def warm(self, uris: Iterable[str]) -> None:
        pass

    def close(self) -> None:
        pass
