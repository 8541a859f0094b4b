"""An index whose model runs on an HTTP server: proved before anything is written, and stopped with the figures when it drifts."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_assets.documents.parsing import ParserPool
from rag_assets.errors import RagAssetsError
from rag_assets.indexing.garbage import collect_garbage
from rag_assets.indexing.planning import make_plan
from rag_assets.indexing.preview import preview
from rag_assets.retrieval.search import search
from rag_assets.runtime import Runtime
from rag_assets.settings import Settings
from rag_assets_tests import embedding_server as lies
from rag_assets_tests.driving import corpus, live, live_rows, query, run, write
from rag_assets_tests.embedding_server import EmbeddingServer, embedding_server
from rag_assets_tests.fakes import FakeEmbedder

MODEL = FakeEmbedder(version="served", dimension=48)
WRITTEN = ("source_file", "document", "chunk", "embedding", "index_entry", "generation", "embedder_reference")


class PlainRuntime(Runtime):
    """A runtime that borrows its parsing processes, and nothing else."""

    def __init__(self, settings: Settings, parsers: ParserPool) -> None:
        super().__init__(settings)
        self._warm = parsers

    @property
    def parsers(self) -> ParserPool:  # type: ignore[override]
        return self._warm


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with embedding_server(MODEL.embed_queries) as found:
        yield found


Open = Callable[..., PlainRuntime]


@pytest.fixture
def open_served(
    tmp_path: Path, source: Path, postgres_url: str, parsers: ParserPool, server: EmbeddingServer
) -> Iterator[Open]:
    """The index as another process would open it."""
    made: list[PlainRuntime] = []

    def open_(**embedder: Any) -> PlainRuntime:
        given = {
            "backend": "litellm",
            "model": "openai/served",
            "api_base": server.url,
            "tokenizer": "all-MiniLM-L6-v2",
        }
        settings = Settings(
            home=tmp_path / "home", postgres_url=postgres_url, sync={"shards": 2}, benchmark={"enabled": False},
            chunking={"max_tokens": 64, "overlap_tokens": 0}, collections={"default": {"source": source}},
            embedder={**given, "retries": 0, **embedder},
        )  # fmt: skip
        made.append(PlainRuntime(settings, parsers))
        return made[-1]

    yield open_
    for runtime in made:
        runtime.close()


def everything(runtime: Runtime) -> list[Any]:
    """Every row of every table that a sync writes to."""
    return [sorted(query(runtime, f"SELECT t::text FROM {table} t")) for table in WRITTEN]


def test_a_folder_is_indexed_and_searched_over_http(open_served: Open, server: EmbeddingServer, source: Path) -> None:
    corpus(source, 4)
    runtime = open_served(usd_per_million_tokens=3.0)
    planned = preview(runtime, make_plan(runtime, "default"))
    assert planned.estimated_cost_usd == pytest.approx(planned.tokens * 3e-6)
    assert run(runtime).generation["state"] == "live"
    rows = live_rows(runtime)
    assert len(rows) == planned.chunks["added"] > 0
    texts = {text for request in server.requests for text in request["input"]}
    for (vector,) in query(runtime, "SELECT vector FROM embedding"):
        assert any(np.abs(MODEL.vector(text) - vector.to_numpy()).max() < 1e-5 for text in texts)
    bills = [result.facts for result in runtime.results if result.stage == "embeddings"]
    assert sum(bill["server_requests"] for bill in bills) > 0
    assert sum(bill["cost_usd"] for bill in bills) == pytest.approx(
        sum(bill["server_tokens"] for bill in bills) * 3e-6, abs=1e-5
    )
    hits = search(open_served(), "document 2 tells of topic 14", collection="default", k=3).hits
    assert hits[0].document == "d02.md"


def test_a_server_with_another_model_stops_the_next_run_before_it_writes_anything(
    open_served: Open, server: EmbeddingServer, source: Path
) -> None:
    corpus(source, 3)
    run(open_served())
    write(source, "new.md", "# New\n\nSomething that was not there before.\n")
    before = everything(open_served())
    server.embed = FakeEmbedder(version="other", dimension=48).embed_queries
    with pytest.raises(
        RagAssetsError, match=r"12 of 12 reference texts have a cosine below 0\.999.*Nothing was written"
    ):
        run(open_served())
    assert everything(open_served()) == before
    with pytest.raises(RagAssetsError, match="gives other vectors"):
        search(open_served(), "topic 14", collection="default", k=3)
    server.embed = MODEL.embed_queries
    run(open_served())
    assert len({row[0] for row in live_rows(open_served()).values()}) == 4


@pytest.mark.parametrize(
    "lie", [lies.reversed_, lies.replacing(float("nan")), lies.replacing(0.0), lies.of_dimension(32)]
)
def test_a_server_that_begins_to_lie_gets_no_vector_into_the_index(
    open_served: Open, server: EmbeddingServer, source: Path, lie: Any
) -> None:
    corpus(source, 3)
    run(open_served())
    rows = live_rows(open_served())
    runtime = open_served()
    runtime.prove("default")
    server.lie = lie
    write(source, "new.md", "# New\n\nSomething that was not there before.\n")
    with pytest.raises(RagAssetsError, match="Nothing of"):
        run(runtime)
    assert live_rows(runtime) == rows
    assert query(runtime, "SELECT count(*) FROM embedding") == [(len({row[2] for row in rows.values()}),)]


def test_a_server_that_is_gone_stops_a_run_that_embeds_and_no_other(open_served: Open, source: Path) -> None:
    corpus(source, 3)
    run(open_served())
    with embedding_server(MODEL.embed_queries) as gone:
        pass
    (source / "d01.md").unlink()
    run(open_served(api_base=gone.url))
    assert {row[0] for row in live_rows(open_served()).values()} == {"d00.md", "d02.md"}
    before = everything(open_served())
    write(source, "new.md", "# New\n\nSomething that was not there before.\n")
    with pytest.raises(RagAssetsError, match=rf"{gone.url} .*can't be reached \(tried for up to 60 s\)"):
        run(open_served(api_base=gone.url))
    assert everything(open_served()) == before


def test_an_index_moves_away_from_a_server_that_is_gone(
    open_served: Open, server: EmbeddingServer, source: Path
) -> None:
    corpus(source, 3)
    with embedding_server(MODEL.embed_queries) as gone:
        run(open_served(api_base=gone.url))
        first = live(open_served()).id
    write(source, "new.md", "# New\n\nSomething that was not there before.\n")
    runtime = open_served(revision="2")
    run(runtime)
    assert live(runtime).id != first
    assert "new.md" in {row[0] for row in live_rows(runtime).values()}
    # What vouches for the first model stays as long as an index of it does.
    assert query(runtime, "SELECT count(DISTINCT embedder_fp) FROM embedder_reference") == [(2,)]
    query(runtime, "DELETE FROM promotion")
    query(runtime, "DELETE FROM generation WHERE id = %s", first)
    collect_garbage(runtime, "default")
    assert query(runtime, "SELECT DISTINCT embedder_fp FROM embedder_reference") == [(runtime.embedder.fingerprint,)]
