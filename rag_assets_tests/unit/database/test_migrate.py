"""Migrations on a real server: each once, in order, whole or not at all, and never backwards."""

import threading
import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from rag_assets.database.migrate import migrate, migrations
from rag_assets.errors import RagAssetsError
from rag_assets_tests.conftest import drop_database


@pytest.fixture
def empty_url(postgres_server: str) -> Iterator[str]:
    """URL of a database without our schema."""
    name = f"empty_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    parts = urlsplit(postgres_server)
    yield urlunsplit((parts.scheme, parts.netloc, f"/{name}", parts.query, ""))
    drop_database(postgres_server, name)


def tables(connection: psycopg.Connection) -> set[str]:
    rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'rag'").fetchall()
    return {row[0] for row in rows}


def test_an_empty_database_gets_every_migration_in_order_and_a_second_run_does_nothing(empty_url: str) -> None:
    with psycopg.connect(empty_url) as connection:
        assert migrate(connection) == [name for _, name, _ in migrations()]
        assert {"source_file", "document", "chunk", "embedding", "generation", "index_entry"} <= tables(connection)
        assert migrate(connection) == []


def test_migrations_are_numbered_without_gaps() -> None:
    assert [number for number, _, _ in migrations()] == list(range(1, len(migrations()) + 1))


def test_processes_that_start_together_migrate_once(empty_url: str) -> None:
    applied: list[list[str]] = []

    def start() -> None:
        with psycopg.connect(empty_url) as connection:
            applied.append(migrate(connection))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(applied) == [[], [], [], [name for _, name, _ in migrations()]]


def test_a_database_of_a_newer_release_is_refused_and_left_alone(postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("INSERT INTO rag.migration VALUES (9999, '9999_future.sql')")
        with pytest.raises(RagAssetsError, match="has migration 9999, which this release does not know"):
            migrate(connection)
        assert "source_file" in tables(connection)


def test_a_migration_that_fails_leaves_nothing_behind(empty_url: str) -> None:
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA rag")
        # In the way of the last table of the first migration.
        connection.execute("CREATE TABLE rag.throughput (x int)")
        with pytest.raises(psycopg.errors.DuplicateTable):
            migrate(connection)
        assert tables(connection) == {"throughput"}
        connection.execute("DROP TABLE rag.throughput")
        assert migrate(connection) == [name for _, name, _ in migrations()]


def test_data_survives_another_start(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("INSERT INTO rag.collection (name) VALUES ('kept')")
        migrate(connection)
        assert connection.execute("SELECT name FROM rag.collection").fetchall() == [("kept",)]


def test_a_generation_of_an_earlier_release_keeps_its_rows_and_takes_none_of_another_model(empty_url: str) -> None:
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA rag")
        connection.execute("SET search_path = rag, public")
        connection.execute("CREATE TABLE migration (number int PRIMARY KEY, name text NOT NULL)")
        for number, name, statements in migrations():
            if number < 12:
                connection.execute(statements.encode())
                connection.execute("INSERT INTO migration VALUES (%s, %s)", (number, name))
        connection.execute("INSERT INTO collection (name) VALUES ('c')")
        connection.execute(
            "INSERT INTO generation (collection, sequence, chunker_fp, embedder_fp, index_fp, config, dimension, state)"
            " VALUES ('c', 1, 'k', 'mine', 'i', '{}', 2, 'live')"
        )
        connection.execute("CREATE TABLE index_entry_g1 (LIKE index_entry INCLUDING ALL)")
        connection.execute("ALTER TABLE index_entry_g1 ADD CHECK (generation_id = 1)")
        connection.execute("ALTER TABLE index_entry ATTACH PARTITION index_entry_g1 FOR VALUES IN (1)")
        connection.execute("INSERT INTO index_entry_g1 VALUES (1, 'old', 'd', 't', 'x', '{}', '[1,0]')")
        assert migrate(connection)
        assert connection.execute("SELECT chunk_id, embedder_fp FROM index_entry").fetchall() == [("old", None)]
        insert = "INSERT INTO index_entry_g1 VALUES (1, %s, 'd', 't', 'x', '{}', '[0,1]', %s)"
        connection.execute(insert, ("new", "mine"))
        for stranger in ("other", None):
            with pytest.raises(psycopg.errors.CheckViolation, match="index_entry_embedder"):
                connection.execute(insert, ("stranger", stranger))
        # As the store rewrites the payload of a row that is there.
        connection.execute(
            "UPDATE index_entry_g1 SET payload = '{\"a\": 1}', embedder_fp = 'mine' WHERE chunk_id = 'old'"
        )
        assert connection.execute("SELECT count(*) FROM index_entry WHERE embedder_fp = 'mine'").fetchone() == (2,)
