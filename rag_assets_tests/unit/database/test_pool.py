"""What the pool promises of its transactions, on a real server."""

import threading

import psycopg
import pytest

from rag_assets.database.pool import BRIEF, Database
from rag_assets.errors import DatabaseLost


def test_a_process_that_is_frozen_in_the_middle_of_a_pipeline_holds_nobody_up(postgres_url: str) -> None:
    """To the server it is not idle, so that only the limit of a brief transaction ends it."""
    database = Database(postgres_url, frozen_seconds=0.5)
    other = Database(postgres_url)
    with other.transaction() as connection:
        connection.execute("INSERT INTO collection (name) VALUES ('held')")
    sending, thaw = threading.Event(), threading.Event()
    ended: list[BaseException] = []

    def write() -> None:
        try:
            with database.transaction(pipelined=True) as connection:
                connection.execute("SELECT 1 FROM collection WHERE name = 'held' FOR UPDATE").fetchone()
                sending.set()
                thaw.wait(60)
                connection.execute("DELETE FROM collection")
        except BaseException as error:
            ended.append(error)

    frozen = threading.Thread(target=write)
    frozen.start()
    assert sending.wait(60)
    try:
        # Waits for the row until the server has ended the session that holds it.
        with other.transaction() as connection:
            connection.execute("SET LOCAL lock_timeout = '60s'")
            connection.execute("UPDATE collection SET name = 'free' WHERE name = 'held'")
    finally:
        thaw.set()
        frozen.join()
        database.close()
    assert [type(error) for error in ended] == [DatabaseLost]
    with other.transaction() as connection:
        assert connection.execute("SELECT name FROM collection").fetchall() == [("free",)]
    other.close()


def test_a_brief_transaction_has_a_limit_and_another_has_none(postgres_url: str) -> None:
    database = Database(postgres_url, frozen_seconds=1)
    with database.transaction(brief=True) as connection:
        shown = connection.execute("SHOW transaction_timeout").fetchone()
        assert shown == (f"{BRIEF}s",)
    with database.transaction(snapshot=True, pipelined=True) as connection:
        assert connection.execute("SHOW transaction_timeout").fetchone() == (f"{BRIEF}s",)
        assert connection.execute("SHOW transaction_isolation").fetchone() == ("repeatable read",)
    with database.transaction() as connection:
        assert connection.execute("SHOW transaction_timeout").fetchone() == ("0",)
    database.close()


def test_a_pipeline_writes_all_or_nothing_and_leaves_an_ordinary_connection(postgres_url: str) -> None:
    database = Database(postgres_url)

    def add(name: str, failing: str | None = None, then: Exception | None = None) -> None:
        with database.transaction(pipelined=True) as connection:
            connection.execute("INSERT INTO collection (name) VALUES (%s)", (name,))
            if failing:
                connection.execute(failing)
            if then:
                raise then

    add("kept")
    with pytest.raises(psycopg.errors.UndefinedTable):
        add("lost", "SELECT * FROM nowhere")
    with pytest.raises(psycopg.errors.UniqueViolation):
        add("kept")
    with pytest.raises(KeyError):
        add("lost", then=KeyError())
    with database.transaction() as connection:
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        assert connection.execute("SELECT name FROM collection").fetchall() == [("kept",)]
    with database.pool.connection() as connection:
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert database.pool.get_stats().get("connections_lost", 0) == 0
    database.close()


def test_a_snapshot_in_a_pipeline_sees_no_later_change_and_writes_nothing(postgres_url: str) -> None:
    database = Database(postgres_url)
    with database.transaction(snapshot=True, pipelined=True) as reader:
        assert reader.execute("SELECT count(*) FROM collection").fetchone() == (0,)
        with database.transaction() as writer:
            writer.execute("INSERT INTO collection (name) VALUES ('later')")
        assert reader.execute("SELECT count(*) FROM collection").fetchone() == (0,)
    with (
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
        database.transaction(snapshot=True, pipelined=True) as reader,
    ):
        reader.execute("DELETE FROM collection")
    database.close()


@pytest.mark.parametrize("pipelined", [False, True])
def test_a_session_that_the_server_ended_a_moment_after_its_last_answer_is_not_lent(
    postgres_url: str, pipelined: bool
) -> None:
    database = Database(postgres_url)
    for _ in range(3):
        with database.transaction(pipelined=pipelined) as connection:
            row = connection.execute("SELECT pg_backend_pid()").fetchone()
            assert row is not None
        with psycopg.connect(postgres_url, autocommit=True) as other:
            # Returns when it has ended.
            assert other.execute("SELECT pg_terminate_backend(%s, 10000)", row).fetchone() == (True,)
    database.close()
