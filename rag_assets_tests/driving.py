"""Drives a whole index in tests: a runtime whose parsers stay warm and whose models are fakes, and what it left behind."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from rag_assets.chunking import chunk_document, identify
from rag_assets.database.generations import Generation
from rag_assets.database.pool import Database
from rag_assets.documents.parsing import ParserPool
from rag_assets.fingerprint import document_id
from rag_assets.indexing.planning import make_plan
from rag_assets.indexing.sync import sync
from rag_assets.indexing.sync_report import SyncReport
from rag_assets.plan import Plan
from rag_assets.retrieval.search import search
from rag_assets.runtime import Runtime
from rag_assets.settings import EmbedderSettings, ParsingSettings, Settings
from rag_assets_tests.fakes import DirectRunner, FakeEmbedder, index_rows


class WarmRuntime(Runtime):
    """A runtime that borrows its parsing processes, for they take seconds to start, and makes fakes of models.

    A model's name becomes the fake's version, so that the embedder of every retained generation can be made again.
    """

    def __init__(self, settings: Settings, parsers: ParserPool) -> None:
        super().__init__(settings)
        self._warm = parsers
        self.fakes: dict[str, FakeEmbedder] = {}

    @property
    def parsers(self) -> ParserPool:  # type: ignore[override]
        return self._warm

    def _embedder(self, settings: EmbedderSettings) -> FakeEmbedder:
        return self.fakes.setdefault(settings.model, FakeEmbedder(version=settings.model, dimension=64))

    @property
    def embedded(self) -> list[str]:
        """Every text the configured model embedded as a document."""
        return self._embedder(self.settings.embedder).embedded


OpenIndex = Callable[..., WarmRuntime]


@pytest.fixture(scope="session")
def parsers() -> Iterator[ParserPool]:
    """One warm parsing process for the session."""
    with ParserPool(ParsingSettings()) as pool:
        yield pool


@pytest.fixture
def open_index(tmp_path: Path, source: Path, postgres_url: str, parsers: ParserPool) -> Iterator[OpenIndex]:
    """Open the same source and database under any settings, as separate processes would."""
    made: list[WarmRuntime] = []

    def open_(*, collection: dict[str, Any] | None = None, **settings: Any) -> WarmRuntime:
        defaults: dict[str, Any] = {"sync": {"shards": 3}, "chunking": {"max_tokens": 64, "overlap_tokens": 0}}
        # It takes time by its nature; who tests it turns it on.
        defaults["benchmark"] = {"enabled": False}
        defaults["collections"] = {"default": {"source": source, **(collection or {})}}
        chosen = Settings(home=tmp_path / "home", postgres_url=postgres_url, **{**defaults, **settings})
        made.append(WarmRuntime(chosen, parsers))
        return made[-1]

    yield open_
    for runtime in made:
        runtime.close()


@pytest.fixture
def index(open_index: OpenIndex) -> WarmRuntime:
    """An index under default settings."""
    return open_index()


def run(runtime: Runtime, **options: bool) -> SyncReport:
    """One sync, without Dagster."""
    return sync(runtime, "default", lambda: DirectRunner(runtime), **options)


def planned(runtime: Runtime) -> Plan:
    """What the next sync would do."""
    return make_plan(runtime, "default").plan


def write(source: Path, name: str, text: str) -> Path:
    """Write a document."""
    path = source / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def corpus(source: Path, count: int = 8) -> None:
    """``d00.md`` …: one heading and three short paragraphs each, none the same."""
    for number in range(count):
        paragraphs = "\n\n".join(
            f"Paragraph {n} of document {number} tells of topic {number * 7 + n}." for n in range(3)
        )
        write(source, f"d{number:02d}.md", f"# Document {number}\n\n{paragraphs}\n")


def live(runtime: Runtime) -> Generation:
    """The live generation."""
    found = runtime.live("default")
    assert found is not None
    return found


def live_rows(runtime: Runtime) -> dict[str, Any]:
    """Every row of the live generation, by chunk id."""
    return index_rows(runtime, live(runtime).id)


def wanted_rows(runtime: WarmRuntime, source: Path) -> dict[str, Any]:
    """The oracle: the rows the Markdown files of a folder ask for, computed without ledger, plan or database."""
    embedder = FakeEmbedder(version=runtime.settings.embedder.model, dimension=64)
    rows: dict[str, Any] = {}
    for path in sorted(source.rglob("*.md")):
        name, data = path.relative_to(source).as_posix(), path.read_bytes()
        if not data:
            continue
        drafts = chunk_document(runtime.parsers.parse(name, data), runtime.chunking("default"), embedder)
        for chunk in identify(document_id("default", name.encode()), drafts):
            vector = embedder.vector(chunk.draft.embedded_text).astype(np.float16).astype(np.float32)
            rows[chunk.chunk_id] = (name, chunk.draft.text, chunk.text_hash, tuple(vector.tolist()))
    return rows


def documents(runtime: Runtime) -> set[str]:
    """Documents that have rows in the live generation."""
    return {row[0] for row in live_rows(runtime).values()}


def answers(runtime: Runtime, *questions: str) -> list[list[tuple[str, str, float | None]]]:
    """(document, chunk, score) of every hit of each question."""
    found = [search(runtime, question, collection="default", k=5).hits for question in questions]
    return [[(hit.document, hit.chunk_id, hit.scores["dense"]) for hit in hits] for hits in found]


def query(runtime: Runtime, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Rows of a statement."""
    with runtime.database.transaction() as connection:
        cursor = connection.execute(statement, parameters)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []  # type: ignore[no-any-return]


class InterruptedDatabase:
    """Lets something else happen just before the ``at``-th transaction (counted from 1) begins."""

    def __init__(self, database: Database, at: int, interruption: Callable[[], None]) -> None:
        self._database, self._at, self._interruption = database, at, interruption
        self.begun = 0

    @contextmanager
    def transaction(
        self, *, snapshot: bool = False, brief: bool = False, pipelined: bool = False
    ) -> Iterator[psycopg.Connection[Any]]:
        self.begun += 1
        if self.begun == self._at:
            self._interruption()
        with self._database.transaction(snapshot=snapshot, brief=brief) as connection:
            yield connection

    def close(self) -> None:
        self._database.close()
