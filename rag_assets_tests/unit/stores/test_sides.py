"""Both sides of a question at once find the same as one after the other, and fail as they do."""

import numpy as np
import psycopg
import pytest
from psycopg import sql

from rag_assets.database.generations import Generation
from rag_assets.database.pool import Database
from rag_assets.settings import LexicalSettings
from rag_assets.stores import lexical_segments, sides
from rag_assets.stores.protocol import Connection, HybridQuery, Sides
from rag_assets_tests.unit.stores import lexical_rows as rows


@pytest.fixture
def generation(database: Database) -> Generation:
    made = rows.begin(database)
    rows.put(database, made, {"a": "red house", "b": "green house"})
    return made


def ask(connection: Connection, generation: Generation) -> Sides:
    vector = np.full(rows.DIMENSION, 0.5, np.float32)
    return sides.at_once(connection, generation, HybridQuery("house", vector, 5, LexicalSettings()))


def ask_without_postings(database: Database, generation: Generation) -> None:
    with database.transaction(pipelined=True) as connection:
        connection.execute(sql.SQL("DROP TABLE {}").format(lexical_segments.table(generation)))
        ask(connection, generation)


def matches(found: Sides) -> set[str]:
    return {match.chunk_id for match in found.found.matches}


def test_a_pipeline_finds_what_a_plain_transaction_finds(database: Database, generation: Generation) -> None:
    with database.transaction(snapshot=True) as connection:
        plain = ask(connection, generation)
    with database.transaction(snapshot=True, pipelined=True) as connection:
        assert connection.info.pipeline_status == psycopg.pq.PipelineStatus.ON
        found = ask(connection, generation)
    assert (found.near, found.found, found.similar) == (plain.near, plain.found, plain.similar)
    assert matches(found) == {rows.id_of("a"), rows.id_of("b")}


def test_an_error_meanwhile_is_told_as_it_is_and_the_connection_stays_of_use(
    database: Database, generation: Generation
) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable):
        ask_without_postings(database, generation)
    with database.transaction(pipelined=True) as connection:
        assert matches(ask(connection, generation)) == {rows.id_of("a"), rows.id_of("b")}
