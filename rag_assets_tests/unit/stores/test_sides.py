"""Both sides of a question at once: nothing of it outlives the question, and a process that is frozen meanwhile holds nobody up."""

from collections.abc import Iterator

import numpy as np
import psycopg
import pytest
from psycopg import sql

from rag_assets.database.generations import Generation
from rag_assets.database.pool import Database
from rag_assets.errors import DatabaseLost
from rag_assets.settings import LexicalSettings
from rag_assets.stores import lexical_segments, sides
from rag_assets.stores.protocol import Connection, Sides
from rag_assets_tests.unit.stores import lexical_rows as rows


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    pool = Database(postgres_url)
    yield pool
    pool.close()


@pytest.fixture
def generation(database: Database) -> Generation:
    made = rows.begin(database)
    rows.put(database, made, {"a": "red house", "b": "green house"})
    return made


def ask(connection: Connection, generation: Generation) -> Sides:
    vector = np.full(rows.DIMENSION, 0.5, np.float32)
    return sides.at_once(
        connection, generation, "house", vector, 5, settings=LexicalSettings(), ef_search=100, similar=True
    )


def ask_without_postings(connection: Connection, generation: Generation) -> None:
    with connection.transaction():
        connection.execute(sql.SQL("DROP TABLE {}").format(lexical_segments.table(generation)))
        ask(connection, generation)


def matches(found: Sides) -> set[str]:
    return {match.chunk_id for match in found.found.matches}


def test_the_transaction_goes_on_without_a_limit_and_out_of_the_pipeline(
    database: Database, generation: Generation
) -> None:
    with database.transaction(snapshot=True) as connection:
        assert matches(ask(connection, generation)) == {rows.id_of("a"), rows.id_of("b")}
        assert connection.execute("SHOW transaction_timeout").fetchone() == ("0",)
        assert connection.info.pipeline_status == psycopg.pq.PipelineStatus.OFF


def test_the_server_ends_the_session_of_a_process_that_is_frozen_meanwhile(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sides, "_MOST_SECONDS", 0.2)
    # What sleeps is the server: to it that is the same, and no other limit ends it.
    with (
        pytest.raises(DatabaseLost),
        database.transaction(snapshot=True) as connection,
        sides.pipeline(connection),
    ):
        connection.execute("SELECT pg_sleep(20)").fetchone()


def test_an_error_meanwhile_is_told_as_it_is_and_the_connection_stays_of_use(
    database: Database, generation: Generation
) -> None:
    with database.pool.connection() as connection:
        with pytest.raises(psycopg.errors.UndefinedTable):
            ask_without_postings(connection, generation)
        assert matches(ask(connection, generation)) == {rows.id_of("a"), rows.id_of("b")}
