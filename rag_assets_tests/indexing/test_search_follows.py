"""A process that searches again and again answers from what is live now, whatever was live at its last search."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from rag_assets.embedding.query_cache import QueryCache
from rag_assets.errors import RagAssetsError
from rag_assets.models import Vectors
from rag_assets.retrieval.passages import expected_live
from rag_assets.retrieval.search import SearchResult, search
from rag_assets.settings import RetrievalSettings
from rag_assets.stores import pgvector
from rag_assets.stores.protocol import Connection
from rag_assets_tests.driving import OpenIndex, WarmRuntime, corpus, live, query, run, write

MODES = ("dense", "lexical", "hybrid")


def ask(index: WarmRuntime, mode: str = "hybrid", question: str = "topic 9") -> SearchResult:
    return search(index, question, collection="default", k=3, retrieval=RetrievalSettings(mode=mode))  # type: ignore[arg-type]


def same_as_exact(index: WarmRuntime, found: SearchResult, mode: str, question: str = "topic 9") -> bool:
    settings = RetrievalSettings(mode=mode)  # type: ignore[arg-type]
    wanted = search(index, question, generation=live(index), k=3, exact=True, retrieval=settings)
    return [(hit.chunk_id, hit.scores) for hit in found.hits] == [(hit.chunk_id, hit.scores) for hit in wanted.hits]


@pytest.fixture
def asking(open_index: OpenIndex, source: Path) -> WarmRuntime:
    """Has asked in every mode; another process is about to change what is live."""
    corpus(source)
    run(open_index(embedder={"model": "old"}))
    asking = open_index(embedder={"model": "old"})
    for mode in MODES:
        assert same_as_exact(asking, ask(asking, mode), mode)
    return asking


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("model", ["old", "new"])
@pytest.mark.parametrize("dropped", [False, True])
def test_it_answers_from_the_generation_that_took_its_place(
    asking: WarmRuntime, open_index: OpenIndex, source: Path, mode: str, model: str, dropped: bool
) -> None:
    """``dropped``: the table that its last search read is gone."""
    before = live(asking)
    after = open_index(embedder={"model": model}, chunking={"max_tokens": 32, "overlap_tokens": 0})
    write(source, "d09.md", "# Nine\n\nAll of topic 9.\n")
    run(after)
    if dropped:
        with after.database.transaction() as connection:
            after.store_of(before).drop(connection, before)
    found = ask(asking, mode)
    assert found.generation.id == live(asking).id != before.id
    assert same_as_exact(asking, found, mode)
    assert ask(asking, mode).hits == found.hits


def test_a_model_that_is_gone_with_its_generation_is_not_asked_for(
    asking: WarmRuntime, open_index: OpenIndex, source: Path
) -> None:
    model = asking.fakes["old"]

    def shut_down(texts: Any) -> Vectors:
        raise RagAssetsError("The model's server can't be reached.")

    model.embed_queries = shut_down  # type: ignore[method-assign]
    with pytest.raises(RagAssetsError, match="server can't be reached"):
        ask(asking, question="topic 12")
    run(open_index(embedder={"model": "new"}))
    assert same_as_exact(asking, ask(asking, question="topic 12"), "hybrid", "topic 12")


def test_two_that_take_turns_faster_than_a_question_is_embedded_do_not_keep_it_from_being_answered(
    asking: WarmRuntime, open_index: OpenIndex
) -> None:
    """Whenever a model has embedded the question, the other's index is live."""
    old = live(asking)
    run(open_index(embedder={"model": "new"}))
    new = live(asking)
    ask(asking)
    embedded = []

    def overtaken(by: int, embed: Callable[[Any], Vectors]) -> Callable[[Any], Vectors]:
        def embed_queries(texts: Any) -> Vectors:
            vectors = embed(texts)
            embedded.append(by)
            query(asking, f"UPDATE collection SET live_generation = {by} WHERE name = 'default'")
            return vectors

        return embed_queries

    for fake, other in ((asking.fakes["old"], new), (asking.fakes["new"], old)):
        fake.embed_queries = overtaken(other.id, fake.embed_queries)  # type: ignore[method-assign]
    asking.query_cache = QueryCache(0)  # type: ignore[misc]

    found = ask(asking, question="topic 12")

    assert embedded == [old.id, new.id]
    assert found.generation.id == live(asking).id == new.id
    assert found.hits


def test_documents_that_were_written_since_are_found(asking: WarmRuntime, open_index: OpenIndex, source: Path) -> None:
    write(source, "d10.md", "# Zyxwomat\n\nThe zyxwomat hums.\n")
    run(open_index(embedder={"model": "old"}))
    assert [hit.document for hit in search(asking, "zyxwomat", collection="default", k=1).hits] == ["d10.md"]


def test_nothing_is_live_any_more(asking: WarmRuntime) -> None:
    query(asking, "UPDATE collection SET live_generation = NULL WHERE name = 'default'")
    for _ in range(2):
        with pytest.raises(RagAssetsError, match="has no live index yet"):
            ask(asking)


def test_a_wider_beam_that_was_measured_since_is_in_force_from_the_second_search_on(asking: WarmRuntime) -> None:
    with asking.database.transaction() as connection:
        connection.execute("UPDATE generation SET beam = 640 WHERE id = %s", (live(asking).id,))
    ask(asking)
    assert asking.beam_of(expected_live(asking, "default")) == 640


def test_a_search_by_vector_alone_is_one_statement(asking: WarmRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    def begun(**_: bool) -> NoReturn:
        raise AssertionError("A transaction was begun.")

    expected = ask(asking, "dense")
    with monkeypatch.context() as from_now_on:
        from_now_on.setattr(asking.database, "transaction", begun)
        assert ask(asking, "dense").hits == expected.hits
        with pytest.raises(AssertionError):
            ask(asking, "hybrid")


class OneConnection:
    """A database whose pool has one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @contextmanager
    def statement(self) -> Iterator[Connection]:
        """See ``Database``."""
        yield self._connection


def test_a_search_in_one_statement_is_planned_with_its_beam(asking: WarmRuntime) -> None:
    """As the ordinary way is, which evaluation measures: of few rows and a wide beam the planner makes an exact search."""
    vector = asking.embedder.embed_queries(["topic 9"])[0]
    found, store = live(asking), asking.store_of(live(asking))
    with asking.database.statement() as connection:
        database: Any = OneConnection(connection)
        for k, ef_search, in_force in ((3, 123, "123"), (7, 2000, "1000"), (7, 40, "40"), (7, 5, "7")):
            assert len(store.nearest_if_live(database, found, vector, k, ef_search=ef_search)) == k
            assert connection.execute("SHOW hnsw.ef_search").fetchone() == (in_force,)
            assert connection.execute("SHOW hnsw.iterative_scan").fetchone() == ("strict_order",)


def test_one_statement_finds_nothing_in_what_is_not_live_as_it_was(asking: WarmRuntime) -> None:
    found, vector = live(asking), asking.embedder.embed_queries(["topic 9"])[0]

    def rows() -> int:
        with asking.database.statement() as connection:
            return len(pgvector.nearest_if_live(connection, found, vector, 3))

    assert rows() == 3
    query(asking, "UPDATE generation SET beam = 321")
    assert rows() == 0
    query(asking, "UPDATE generation SET beam = NULL, created_at = created_at - interval '1 second'")
    assert rows() == 0
    query(asking, "UPDATE generation SET created_at = created_at + interval '1 second'")
    assert rows() == 3
    query(asking, "UPDATE generation SET embedder_fp = 'another'")
    assert rows() == 0
    query(asking, f"UPDATE generation SET embedder_fp = '{found.key.embedder_fp}'")
    assert rows() == 3
    query(asking, "UPDATE collection SET live_generation = NULL WHERE name = 'default'")
    assert rows() == 0
