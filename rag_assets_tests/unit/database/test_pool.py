"""What the pool promises of its transactions, on a real server."""

import threading

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
