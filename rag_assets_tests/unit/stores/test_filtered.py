"""Filtered searches against the plain meaning of filters, by every way and in every mode."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.types.json import Jsonb

from rag_assets.database.generations import Generation
from rag_assets.database.pool import Database
from rag_assets.fingerprint import hash_parts
from rag_assets.models import Condition
from rag_assets.retrieval.candidates import Asked
from rag_assets.retrieval.candidates import find as find_candidates
from rag_assets.retrieval.filters import parse_filters
from rag_assets.settings import IndexSettings, LexicalSettings, RetrievalSettings
from rag_assets.stores import filtered, lexical, payload_index, pgvector
from rag_assets.stores.postgres import PostgresSearcher
from rag_assets.stores.protocol import Plan
from rag_assets_tests.filter_oracle import passes
from rag_assets_tests.unit.stores import lexical_rows
from rag_assets_tests.unit.stores.tables import (
    DIMENSION,
    begin,
    build,
    fill,
    force_index,
    payload,
    random_units,
    search_filtered,
    unit,
)

FIELDS = ("type", "tags", "page", "document", "we'ird \"%s\\ {key}", "ключ")
WORDS = ("", "pdf", "Pdf", "7", "7.0", "007", "true", "a,b", "50%", "_", "\\", "guides/", "guides/a", "guides_a", "x' OR '1'='1", "$.a",
         "2024", "2024-05", "2024-05-01", "2024-05-01T10:00:00", "2024-05-01 10:00", "20240501", "2024-05-01T10:00:00+02:00")  # fmt: skip
NUMBERS = ("7", "-1", "0.5", "2024", "+3", "100000000000000000")
texts = st.sampled_from(WORDS) | st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=4)
scalars = texts | st.integers(-3, 9) | st.sampled_from([7.0, 0.5, -0.0, 1e30, 2024, 1e-9]) | st.booleans() | st.none()
stored = (
    scalars
    | st.lists(scalars | st.lists(scalars, max_size=2), max_size=3)
    | st.dictionaries(texts, scalars, max_size=2)
)
# A document's name is always a text.
payloads = st.builds(
    lambda found, name: found | {"document": name}, st.dictionaries(st.sampled_from(FIELDS), stored, max_size=5), texts
)
conditions = st.one_of(
    st.builds(
        Condition,
        st.sampled_from(FIELDS),
        st.sampled_from(["=", "!="]),
        st.lists(texts | st.sampled_from(NUMBERS), min_size=1, max_size=3).map(tuple),
    ),
    st.builds(
        Condition,
        st.sampled_from(FIELDS),
        st.just("^="),
        st.lists(texts.filter(bool), min_size=1, max_size=2).map(tuple),
    ),
    st.builds(
        Condition,
        st.sampled_from(FIELDS),
        st.sampled_from(["<", "<=", ">", ">="]),
        st.sampled_from([*NUMBERS, "2024-05", "2024-05-01", "2024-05-01T10:00:00", "2024-05-01 10:00"]).map(lambda v: (v,)),
    ),
)  # fmt: skip


@pytest.fixture
def generation(database: Database) -> Generation:
    """One with every index, and no row."""
    made = lexical_rows.begin(database)
    with database.transaction() as connection:
        pgvector.build_index(connection, made, IndexSettings())
    return made


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(payloads, min_size=1, max_size=8), st.lists(conditions, min_size=1, max_size=3))
def test_every_way_and_mode_finds_the_rows_that_pass_and_no_other(
    database: Database, generation: Generation, rows: Sequence[Mapping[str, Any]], filters: Sequence[Condition]
) -> None:
    ids = {hash_parts([str(number)]): row for number, row in enumerate(rows)}
    expected = {chunk_id for chunk_id, row in ids.items() if passes(row, filters)}
    vector = np.full(lexical_rows.DIMENSION, 0.5, np.float32)
    with database.transaction() as connection:
        insert(connection, generation, ids)
        lexical.apply(connection, generation, list(ids), [])
        through_graph = Plan("index", len(ids), len(expected), 1000)
        for way in (through_graph, replace(through_graph, way="exact")):
            found, _, _ = filtered.find(connection, generation, vector, max(1, len(expected)), filters, plan=way)
            assert set(found) == expected
        words = lexical.search(connection, generation, "fish", 100, filters=filters)
        assert {match.chunk_id for match in words.matches} == expected
        for mode in ("dense", "lexical", "hybrid"):
            asked = Asked("fish", None if mode == "lexical" else vector, filters)
            retrieval = RetrievalSettings(mode=mode)
            both = find_candidates(
                PostgresSearcher(connection, generation), asked, 100, retrieval, LexicalSettings(), 100
            )
            assert set(both.order) == expected
        connection.execute(sql.SQL("DELETE FROM {}").format(pgvector.table(generation)))
        lexical.apply(connection, generation, [], list(ids))


def insert(connection: pgvector.Connection, generation: Generation, rows: Mapping[str, Mapping[str, Any]]) -> None:
    vector = np.full(lexical_rows.DIMENSION, 0.5, np.float32)
    connection.cursor().executemany(
        sql.SQL("INSERT INTO {} VALUES (%s, %s, 'd', 't', 'a fish', %s, %s::halfvec, 'embedder')").format(
            pgvector.table(generation)
        ),
        [(generation.id, chunk_id, Jsonb(dict(row)), vector) for chunk_id, row in rows.items()],
    )


@pytest.fixture
def table(database: Database) -> Generation:
    return begin(database, "index")


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["language=de"], set(range(1, 100, 2))),
        (["language=de,en"], set(range(100))),
        (["tags=b"], set(range(0, 100, 10))),
        (["tags!=a"], set(range(100)) - set(range(0, 100, 10))),
        (["page=7"], {7}),
        (["page>=7", "page<9"], {7, 8}),
        (["language=en", "tags=a"], set(range(0, 100, 10))),
        (["language=de", "tags=a"], set()),
        (["language^=d"], set(range(1, 100, 2))),
        (["nothing=x"], set()),
        (["nothing!=x"], set(range(100))),
        (["nothing>1"], set()),
        (["language=de' OR '1'='1"], set()),
        ([r"language^=' OR 1=1 --"], set()),
        (["x' = 'x' OR 'a=a"], set()),
        (["a\"} || true=1"], set()),
        (["language=%s"], set()),
        (["50%=%(vector)s"], set()),
        (["{equal}={0}"], set()),
    ],
)  # fmt: skip
def test_what_filters_mean(database: Database, table: Generation, filters: list[str], expected: set[int]) -> None:
    fill(database, table, random_units(100), payload)
    build(database, table)
    found, _ = search_filtered(database, table, unit(3), 100, *filters)
    assert {int(chunk_id) for chunk_id in found} == expected


def test_the_way_goes_by_how_many_rows_pass(database: Database, table: Generation) -> None:
    fill(database, table, random_units(5000), lambda number: {"half": number % 2, "part": number % 100, "all": "x"})
    build(database, table)
    ways = {}
    for name in ("half=1", "part=7", "all=x", "all=y", "part<1", "all!=y"):
        _, ways[name] = search_filtered(database, table, unit(1), 10, name)
    assert {name: way.way for name, way in ways.items()} == {
        "half=1": "index", "part=7": "exact", "all=x": "index", "all=y": "exact", "part<1": "exact", "all!=y": "index"
    }  # fmt: skip
    assert 1500 < (ways["half=1"].passing or 0) < 3500
    assert (ways["part=7"].passing or 0) < 250
    assert all(way.rows == 5000 for way in ways.values())
    # The fewer pass, the wider the beam.
    assert ways["half=1"].beam > ways["all=x"].beam
    _, asked_for = search_filtered(database, table, unit(1), 10, "all=x", exact=True)
    assert asked_for.way == "exact"


@pytest.mark.parametrize("far", [False, True])
def test_as_many_results_come_as_were_asked_for_when_they_exist(
    database: Database, table: Generation, far: bool
) -> None:
    """Also by the way that is not good for it."""
    vectors, query = random_units(3000), unit(3)
    order = np.argsort(vectors @ query)
    # 1 % of the rows: scattered, or the very ones farthest from the question.
    chosen = set(order[:30].tolist()) if far else set(range(0, 3000, 100))
    fill(database, table, vectors, lambda number: {"team": "x" if number in chosen else "y", "page": number})
    build(database, table)
    exact, _ = search_filtered(database, table, query, 10, "team=x", exact=True)
    assert len(exact) == 10
    for plan in (None, Plan("index", 3000, 30, 10)):
        found, taken = search_filtered(database, table, query, 10, "team=x", plan=plan)
        assert found == exact
        # The scan of the graph ends after 500 rows here, of which about 5 pass.
        assert taken.way == "exact"
        assert taken.fell_back == (plan is not None and not taken.misses_rows)


def test_rows_that_are_elsewhere_than_the_question_are_compared_one_by_one(
    database: Database, table: Generation
) -> None:
    """Half of all rows pass, but none near the question: the graph's walk would end before it has seen the best of them."""
    vectors, query = random_units(4000), unit(3)
    near = set(np.argsort(-(vectors @ query))[:2000].tolist())
    fill(database, table, vectors, lambda number: {"near": number in near})
    build(database, table)
    exact, _ = search_filtered(database, table, query, 10, "near=false", exact=True)
    plan = Plan("index", 4000, 2000, 400)
    found, taken = search_filtered(database, table, query, 10, "near=false", plan=plan)
    assert (found, taken.way, taken.near) == (exact, "exact", 0)
    _, taken = search_filtered(database, table, query, 10, "near=true", plan=plan)
    assert (taken.way, taken.near) == ("index", 1)


def test_recall_behind_filters_of_every_width(database: Database, table: Generation) -> None:
    """20,000 rows in 200 clusters; one filter scattered, one that goes with the clusters. evals/benchmarks/filters.py has 100,000."""
    count, chance = 20_000, np.random.default_rng(2)
    centres = chance.standard_normal((200, DIMENSION))
    cluster = chance.integers(0, 200, count)
    vectors = centres[cluster] + 0.3 * chance.standard_normal((count, DIMENSION))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    drawn = chance.integers(0, 1000, count)
    fill(database, table, vectors, lambda n: {"lot": int(drawn[n]), "of": int(cluster[n])})
    build(database, table)
    for filters, least in (("lot>=0", 20_000), ("lot<100", 2000), ("lot=7,8,9,10,11,12,13,14,15,16", 200), ("lot=7", 20),
                           ("of<100", 10_000), ("of<20", 2000), ("of=3,4", 200)):  # fmt: skip
        recalls, conditions_ = [], parse_filters([filters])
        for seed in range(20):
            query = (vectors[seed * 991] + 0.1 * unit(seed)).astype(np.float32)
            query /= np.linalg.norm(query)
            with database.transaction(snapshot=True) as connection:
                found, _, _ = filtered.find(connection, table, query, 10, conditions_)
                exact, passing, _ = filtered.find(connection, table, query, 10, conditions_, exact=True)
            assert passing is not None
            assert len(found) == 10 <= len(passing)
            assert len(passing) > least / 2
            recalls.append(len(set(found) & set(exact)) / 10)
        assert np.mean(recalls) >= 0.95, filters


def test_a_rare_value_is_found_by_an_index_and_a_generation_without_one_gets_it(
    database: Database, table: Generation
) -> None:
    fill(database, table, random_units(3000), lambda number: {"document": f"a/{number}", "page": number})
    build(database, table)
    with database.transaction() as connection:
        for name in ("payload", "document"):
            connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(f"index_entry_g{table.id}_{name}")))
    before = [search_filtered(database, table, unit(1), 5, one)[0] for one in ("page=7", "document^=a/7")]
    assert build(database, table) is False
    with database.transaction() as connection:
        assert payload_index.exists(connection, table)
    assert [search_filtered(database, table, unit(1), 5, one)[0] for one in ("page=7", "document^=a/7")] == before
    for one, index in (("page=7", "payload"), ("document^=a/7", "document")):
        assert f"index_entry_g{table.id}_{index}" in scan_of(database, table, one)


def scan_of(database: Database, generation: Generation, written: str) -> str:
    """How the server finds the rows that pass."""
    from rag_assets.stores.conditions import clause

    condition = clause(parse_filters([written]))
    with database.transaction(snapshot=True) as connection:
        force_index(connection)
        statement = sql.SQL("EXPLAIN SELECT chunk_id FROM {} WHERE {}").format(
            pgvector.table(generation), condition.sql
        )
        return "\n".join(row[0] for row in connection.execute(statement, condition.parameters).fetchall())


def test_a_document_s_name_of_any_length_is_indexed_and_found(database: Database, table: Generation) -> None:
    names = {"0": "x/" + "ü€" * 2000, "1": "x/" + "ü€" * 1999 + "z"}
    build(database, table)
    fill(database, table, random_units(2), lambda number: {"document": names[str(number)]})
    for prefix, expected in (("x/", {0, 1}), ("x/" + "ü€" * 499, {0, 1}), ("y/", set()), ("x_", set()), ("x%", set())):
        found, _ = search_filtered(database, table, unit(1), 5, f"document^={prefix}")
        assert {int(chunk_id) for chunk_id in found} == expected


def test_what_runs_after_a_filtered_search_is_planned_as_before(database: Database, table: Generation) -> None:
    fill(database, table, random_units(100), payload)
    with database.transaction(snapshot=True) as connection:
        for plan in (Plan("exact", 100), Plan("index", 100, 50, 100)):
            filtered.find(connection, table, unit(1), 5, parse_filters(["language=de"]), plan=plan)
            for name in ("enable_seqscan", "enable_bitmapscan", "enable_indexscan"):
                assert connection.execute("SELECT current_setting(%s)", (name,)).fetchone() == ("on",)
