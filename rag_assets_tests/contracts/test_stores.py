"""One contract for every store: the same rows, the same answers, whatever keeps them.

``pytest rag_assets_tests/contracts -rA`` prints backend × test. A real Weaviate server takes part where ``WEAVIATE_URL`` names
one (gRPC port in ``WEAVIATE_GRPC_PORT``, default 50051): its collections begin with ``RagAssetsTest`` and are deleted.
"""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_assets.database import generations
from rag_assets.database.generations import Generation, GenerationKey
from rag_assets.database.pool import Database
from rag_assets.models import Condition
from rag_assets.retrieval.filters import parse_filters
from rag_assets.settings import IndexSettings, LexicalSettings, Settings, WeaviateSettings
from rag_assets.stores.choosing import build_store
from rag_assets.stores.protocol import HybridQuery, Near, Searcher, Store
from rag_assets_tests.filter_oracle import passes
from rag_assets_tests.unit.stores.tables import CHUNKER, DIMENSION, EMBEDDER, put, unit, vector_of
from rag_assets_tests.weaviate_fake import FakeWeaviate

FILTERS: tuple[str | tuple[str, ...], ...] = (
    "type=pdf", "type=pdf,md", "type!=pdf", "missing!=x", "tags=red", "tags!=red,blue", "year=2024", "year=2024.0", "draft=true",
    "year>=2023", "year<2024", "date<=2024-06", "date>2024", "document^=hr/", "document^=hr/,it/", "title^=Title of hr",
    "page=3", "page!=3", "position=1", "position>=0.5", "position<1", "tokens<=5.5", "start>0", "missing=x", "year^=2",
    "owner=O'Hara; DROP TABLE", ("type=pdf,md", "tags=red", "position=0"), ("type!=md", "document^=it/,hr/", "page!=2"),
)  # fmt: skip
METADATA: tuple[dict[str, Any], ...] = (
    {"type": "pdf", "tags": ["red", "green"], "year": 2024, "draft": True, "date": "2024-06-30"},
    {"type": "md", "tags": ["blue"], "year": 2023.5, "draft": False, "date": "2025-01-01"},
    {"type": "pdf", "tags": [], "year": "2024", "owner": "O'Hara; DROP TABLE"},
    {"tags": "red", "year": 7, "nested": {"a": 1}, "draft": "true"},
)
NAMES = ("hr/leave.md", "hr/pay.md", "it/vpn.md", "law/terms.md")
WORDS = ("zebras graze quietly", "a zebra and another zebra", "lions sleep", "the parental leave of zebras and lions")


@dataclass
class Kept:
    """A store under test, with one generation."""

    store: Store
    database: Database
    generation: Generation

    def fill(self) -> None:
        for number, (name, metadata) in enumerate(zip(NAMES, METADATA, strict=True)):
            self.put(name, [f"{text} {number}" for text in WORDS[: number + 1]], metadata)

    def put(self, name: str, texts: Sequence[str], metadata: dict[str, Any] | None = None) -> str:
        doc_id = put(self.database, name, texts, metadata)
        self.apply(doc_id)
        return doc_id

    def apply(self, *doc_ids: str) -> None:
        with self.database.transaction() as connection:
            self.store.apply(connection, self.generation, doc_ids)
        self.store.settle(self.database, self.generation)

    @contextmanager
    def searcher(self) -> Iterator[Searcher]:
        with self.database.transaction(snapshot=True) as connection:
            yield self.store.searcher(connection, self.generation)

    def nearest(self, text: str, k: int, *filters: str, exact: bool = False) -> Near:
        with self.searcher() as searcher:
            return searcher.nearest(vector_of(text), k, filters=parse_filters(filters), exact=exact)

    def payloads(self) -> dict[str, dict[str, Any]]:
        with self.database.transaction() as connection:
            found = connection.execute(
                "SELECT chunk_id, payload FROM index_entry WHERE generation_id = %s", (self.generation.id,)
            )
            return dict(found.fetchall())

    def texts(self, found: Near) -> list[str]:
        with self.searcher() as searcher:
            rows = searcher.fetch(list(found.found))
        return [rows[chunk_id].text for chunk_id in found.found]

    def faults(self) -> tuple[int, int, int, int]:
        with self.database.transaction(snapshot=True) as connection:
            found = self.store.faults(connection, self.generation)
        return found.missing, found.extra, found.wrong, found.unreachable + found.lexical


@pytest.fixture(params=["pgvector", "weaviate fake 1.33", "weaviate fake 1.32, tenants", "weaviate"])
def kept(request: pytest.FixtureRequest, postgres_url: str, tmp_path: Path) -> Iterator[Kept]:
    """Every store, empty."""
    with _settings(request.param, tmp_path) as settings:
        database, store = Database(postgres_url), build_store(settings.store, settings)
        outside = settings.weaviate.model_dump(include={"multi_tenancy", "replication_factor"})
        config = {
            "index": {"m": 16, "ef_construction": 64},
            "lexical": {"language": "auto", "stop_words": True},
            **({"store": {"kind": "weaviate", **outside}} if settings.store == "weaviate" else {}),
        }
        with database.transaction() as connection:
            generation = generations.create(connection, "c", GenerationKey(CHUNKER, EMBEDDER, "i"), config, DIMENSION)
            store.create(connection, generation)
        yield Kept(store, database, generation)
        with database.transaction() as connection:
            store.drop(connection, generation)
        store.sweep(database)
        store.close()
        database.close()


@contextmanager
def _settings(backend: str, home: Path) -> Iterator[Settings]:
    if backend == "pgvector":
        yield Settings(home=home)
        return
    if backend == "weaviate":
        url = os.environ.get("WEAVIATE_URL")
        if not url:
            pytest.skip("WEAVIATE_URL names no server; the fake takes its place")
        port = int(os.environ.get("WEAVIATE_GRPC_PORT", "50051"))
        prefix = f"RagAssetsTest{secrets.token_hex(4)}"
        yield Settings(home=home, store="weaviate", weaviate=WeaviateSettings(url=url, grpc_port=port, prefix=prefix))
        return
    with FakeWeaviate(version="1.32.4" if "1.32" in backend else "1.33.0") as fake:
        made = WeaviateSettings(**fake.settings, multi_tenancy=backend.endswith("tenants"), batch_size=3)
        yield Settings(home=home, store="weaviate", weaviate=made)


def test_rows_come_change_and_go_and_nothing_else_is_there(kept: Kept) -> None:
    first, second = kept.put("a.md", ["ant", "bee"]), kept.put("b.md", ["cat"])
    assert kept.faults() == (0, 0, 0, 0)
    assert kept.texts(kept.nearest("bee", 1)) == ["bee"]

    kept.put("a.md", ["bee", "dog"])
    assert set(kept.texts(kept.nearest("bee", 10))) == {"bee", "dog", "cat"}
    with kept.database.transaction() as connection:
        connection.execute("DELETE FROM source_file WHERE doc_id = %s", (second,))
        connection.execute("DELETE FROM chunked WHERE doc_id = %s", (second,))
    kept.apply(second, first)

    assert set(kept.texts(kept.nearest("cat", 10))) == {"bee", "dog"}
    assert kept.faults() == (0, 0, 0, 0)
    kept.apply(first)
    assert kept.faults() == (0, 0, 0, 0)


def test_metadata_alone_can_change(kept: Kept) -> None:
    kept.put("a.md", ["ant"], {"team": "x"})
    kept.put("a.md", ["ant"], {"team": "y"})
    assert len(kept.nearest("ant", 5, "team=y").found) == 1
    assert len(kept.nearest("ant", 5, "team=x").found) == 0
    assert kept.faults() == (0, 0, 0, 0)


def test_the_nearest_rows_are_those_of_exact_search_with_their_true_similarity(kept: Kept) -> None:
    kept.fill()
    with kept.database.transaction() as connection:
        kept.store.build(connection, kept.generation, IndexSettings())
    exact, found = kept.nearest("zebras", 6, exact=True), kept.nearest("zebras", 6)
    assert list(found.found) == list(exact.found)
    assert np.allclose(list(found.found.values()), list(exact.found.values()), atol=1e-6)
    with kept.searcher() as searcher:
        ids = [*exact.found][:3]
        similar = searcher.similarities(ids, vector_of("zebras"))
        rows = searcher.fetch(ids, vector_of("zebras"))
    assert np.allclose([similar[item] for item in ids], [exact.found[item] for item in ids], atol=1e-6)
    assert np.allclose([rows[item].dense for item in ids], [exact.found[item] for item in ids], atol=1e-6)


def test_rows_are_the_same_whether_a_search_for_them_came_before_or_not(kept: Kept) -> None:
    kept.fill()
    zebras, lions = vector_of("zebras"), vector_of("lions")
    with kept.searcher() as searcher:
        ids = list(searcher.nearest(zebras, 5).found)
        near, far, bare = (searcher.fetch(ids[1:], vector) for vector in (zebras, lions, None))
    for vector, rows in ((zebras, near), (lions, far), (None, bare)):
        with kept.searcher() as searcher:
            anew = searcher.fetch(ids[1:], vector)
        assert rows.keys() == anew.keys() == set(ids[1:])
        for chunk_id, row in anew.items():
            assert (rows[chunk_id].doc_id, rows[chunk_id].text, rows[chunk_id].payload) == (
                row.doc_id,
                row.text,
                row.payload,
            )
            assert np.allclose(rows[chunk_id].dense, row.dense, atol=1e-6, equal_nan=True)


def test_both_sides_at_once_are_each_side_with_what_it_says_of_the_others_finds(kept: Kept) -> None:
    kept.fill()
    with kept.database.transaction() as connection:
        kept.store.build(connection, kept.generation, IndexSettings())
    with kept.database.transaction(snapshot=True, pipelined=True) as connection:
        searcher = kept.store.searcher(connection, kept.generation)
        for exact, filters in ((False, ()), (True, ()), (False, ("type=pdf,md",))):
            _compare_sides(searcher, exact, parse_filters(filters))


def _compare_sides(searcher: Searcher, exact: bool, filters: Sequence[Condition]) -> None:
    question, vector, settings = "lions and parental leave", vector_of("zebras graze quietly 0"), LexicalSettings()
    sides = searcher.both(HybridQuery(question, vector, 3, settings, exact=exact, filters=filters))
    near = searcher.nearest(vector, 3, exact=exact, filters=filters)
    words = searcher.words(question, 3, settings=settings, near=near, filters=filters, also=tuple(near.found))
    matched = [match.chunk_id for match in words.matches]
    assert sides.near.found == near.found
    assert sides.found.matches == words.matches
    others = {item: score for item, score in sides.found.others.items() if item not in matched}
    assert others == {item: score for item, score in words.others.items() if item not in matched}
    assert others, "nothing was found by its vector alone"
    assert sides.similar == searcher.similarities([item for item in matched if item not in near.found], vector)
    assert sides.similar, "nothing was found by its words alone"
    without = HybridQuery(question, vector, 3, settings, filters=filters, similar=False)
    assert searcher.both(without).similar == {}


def test_a_filter_passes_what_it_says_and_k_rows_come_whenever_k_pass(kept: Kept) -> None:
    kept.fill()
    payloads = kept.payloads()
    for written in FILTERS:
        filters = parse_filters([written] if isinstance(written, str) else written)
        wanted = {chunk_id for chunk_id, payload in payloads.items() if passes(payload, filters)}
        with kept.searcher() as searcher:
            dense = searcher.nearest(unit(1), 100, filters=filters)
            few = searcher.nearest(unit(1), 2, filters=filters)
            words = searcher.words("zebra lions", 100, settings=LexicalSettings(), filters=filters)
        assert set(dense.found) == wanted, written
        assert len(few.found) == min(2, len(wanted)), written
        assert {match.chunk_id for match in words.matches} == wanted, written


def test_words_are_found_by_their_stems_and_scored_as_bm25_does(kept: Kept) -> None:
    kept.fill()
    with kept.searcher() as searcher:
        found = searcher.words("grazing zebra", 10, settings=LexicalSettings(), also=[*kept.payloads()])
        texts = searcher.fetch([match.chunk_id for match in found.matches])
        none = searcher.words("the of and", 10, settings=LexicalSettings(), also=[found.matches[0].chunk_id])
    assert all("zebra" in row.text for row in texts.values())
    assert "graze" in texts[found.matches[0].chunk_id].text
    scores = [match.score for match in found.matches]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > 0
    # Of the rows that were asked for by id, those without any of the words score 0.
    assert {item for item, score in found.others.items() if score > 0} == {match.chunk_id for match in found.matches}
    assert (list(none.matches), set(none.others.values())) == ([], {0.0})


def test_a_row_comes_back_whole(kept: Kept) -> None:
    kept.put(
        "ü/ö.md", ["naïve “text” \\ with\nlines"], {"tags": ["a", 1, None, True], "nested": {"x": [1.5]}, "n": 10**15}
    )
    with kept.searcher() as searcher:
        (row,) = searcher.fetch(list(kept.payloads())).values()
        assert searcher.fetch(["nobody"]) == {}
    assert row.text == "naïve “text” \\ with\nlines"
    assert dict(row.payload) == kept.payloads()[row.chunk_id]
    assert row.payload["document"] == "ü/ö.md"


def test_a_forgotten_document_is_nowhere(kept: Kept) -> None:
    kept.fill()
    doc_id = kept.put("secret.md", ["zanzibar", "zanzibar again"])
    with kept.database.transaction() as connection:
        rows = connection.execute("DELETE FROM index_entry WHERE doc_id = %s RETURNING chunk_id", (doc_id,)).fetchall()
        kept.store.forget(connection, kept.generation, doc_id, [row[0] for row in rows])
    assert sum(kept.store.left_of(kept.database, kept.generation, doc_id).values()) == 0
    with kept.searcher() as searcher:
        assert not searcher.words("zanzibar", 10, settings=LexicalSettings()).matches
        assert not searcher.fetch([row[0] for row in rows])
    assert "zanzibar" not in kept.texts(kept.nearest("zanzibar", 20))
    kept.store.catch_up(kept.database, kept.generation)
    assert kept.faults()[:3] == (0, 0, 0)


def test_what_differs_from_the_rows_is_found_and_put_right(kept: Kept) -> None:
    kept.fill()
    assert kept.store.resync(kept.database, kept.generation) == 0
    # Behind the store's back.
    with kept.database.transaction() as connection:
        (gone,) = connection.execute(
            "DELETE FROM index_entry WHERE chunk_id = (SELECT min(chunk_id) FROM index_entry) RETURNING chunk_id"
        ).fetchall()[0]
    assert kept.faults() != (0, 0, 0, 0)
    kept.store.resync(kept.database, kept.generation)
    with kept.database.transaction() as connection:
        kept.store.rebuild_words(connection, kept.generation)
    assert kept.faults() == (0, 0, 0, 0)
    assert gone not in kept.nearest("zebras", 100).found


def test_a_dropped_generation_leaves_nothing(kept: Kept) -> None:
    kept.fill()
    kept.store.announce(kept.database, "c", kept.generation)
    with kept.database.transaction() as connection:
        kept.store.drop(connection, kept.generation)
    kept.store.sweep(kept.database)
    assert kept.store.sweep(kept.database) in ((), [])
    with kept.database.transaction() as connection:
        assert generations.by_id_or_none(connection, kept.generation.id) is None
