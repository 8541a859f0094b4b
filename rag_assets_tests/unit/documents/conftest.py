"""A warm parser shared by the tests of this folder: starting one takes a second or two."""

from collections.abc import Callable, Iterator

import pytest

from rag_assets.documents.parsing import ParserPool
from rag_assets.errors import UnparsableDocument
from rag_assets.models import ParsedDocument
from rag_assets.settings import ParsingSettings

Parse = Callable[[str, bytes], ParsedDocument]
ReasonFor = Callable[[str, bytes], str]


@pytest.fixture(scope="session")
def pool() -> Iterator[ParserPool]:
    with ParserPool(ParsingSettings(timeout_seconds=30)) as shared:
        yield shared


@pytest.fixture
def parse(pool: ParserPool) -> Parse:
    return pool.parse


@pytest.fixture
def reason_for(pool: ParserPool) -> ReasonFor:
    """Why a file is quarantined; fails when it is not."""

    def reason(uri: str, data: bytes) -> str:
        with pytest.raises(UnparsableDocument) as caught:
            pool.parse(uri, data)
        return str(caught.value)

    return reason
