"""The ledger: fenced writes, and what it says exists."""

import threading

import pytest

from rag_assets.database import ledger
from rag_assets.database.ledger import FileOutcome, ShardLease
from rag_assets.database.pool import Database
from rag_assets.errors import Superseded
from rag_assets.fingerprint import bucket_of, document_id, shard_of
from rag_assets.models import SkippedFile, SourceFile

SHARDS = 4


def outcome(name: str, *, content: str = "hash", reason: str | None = None) -> FileOutcome:
    path = name.encode()
    return FileOutcome(document_id("c", path), path, name, 3, 7, content, "parser", reason)


def lease(database: Database, shard: int = 0) -> ShardLease:
    with database.transaction() as connection:
        return ledger.take_lease(connection, "c", SHARDS, shard)


def write(database: Database, held: ShardLease, *names: str) -> None:
    with database.transaction() as connection:
        for name in names:
            ledger.record_files(connection, "c", [outcome(name)])
        ledger.spend_lease(connection, held)


def known(database: Database) -> set[str]:
    with database.transaction() as connection:
        return {state.uri for state in ledger.read_have(connection, "c", "chunker", None).files.values()}


def test_a_writer_whose_shard_was_written_meanwhile_writes_nothing(database: Database) -> None:
    slow, fast = lease(database), lease(database)
    write(database, fast, "fast.md")
    with pytest.raises(Superseded, match="Shard 0 of 'c' was written by another run meanwhile"):
        write(database, slow, "slow.md", "fast.md")
    assert known(database) == {"fast.md"}


def test_a_lease_is_spent_once(database: Database) -> None:
    held = lease(database)
    write(database, held, "a.md")
    with pytest.raises(Superseded):
        write(database, held, "b.md")
    write(database, lease(database), "b.md")
    assert known(database) == {"a.md", "b.md"}


def test_writes_grow_with_the_shards_asked_about_and_with_any_shard_of_another_number(database: Database) -> None:
    def writes(*shards: int) -> int:
        with database.transaction() as connection:
            return ledger.writes(connection, "c", SHARDS, shards)

    write(database, lease(database, 0), "a.md")
    write(database, lease(database, 0), "b.md")
    write(database, lease(database, 1), "c.md")
    assert (writes(0), writes(1), writes(2), writes(0, 1)) == (2, 1, 0, 3)
    with database.transaction() as connection:
        ledger.spend_lease(connection, ledger.take_lease(connection, "c", 2 * SHARDS, 3))
    assert (writes(0), writes(2)) == (3, 1)


def test_shards_do_not_fence_each_other(database: Database) -> None:
    first, second = lease(database, 0), lease(database, 1)
    write(database, first, "a.md")
    write(database, second, "b.md")
    assert known(database) == {"a.md", "b.md"}


def test_of_writers_that_come_together_exactly_one_writes(database: Database) -> None:
    leases = [lease(database) for _ in range(4)]
    lost: list[Superseded] = []

    def start(number: int) -> None:
        try:
            write(database, leases[number], f"{number}.md")
        except Superseded as error:
            lost.append(error)

    threads = [threading.Thread(target=start, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lost) == 3
    assert len(known(database)) == 1


def test_a_recorded_file_comes_back_as_it_was(database: Database) -> None:
    raw = b"\xff/a.md"
    doc_id = document_id("c", raw)
    with database.transaction() as connection:
        ledger.ensure_collection(connection, "c")
        ledger.record_files(connection, "c", [FileOutcome(doc_id, raw, "\\xff/a.md", 3, 7, None, "parser", "is empty")])
        (state,) = ledger.read_have(connection, "c", "chunker", None).files.values()
    assert (state.doc_id, state.path, state.uri, state.size, state.changed_ns) == (doc_id, raw, "\\xff/a.md", 3, 7)
    assert (state.content_hash, state.quarantined, state.parser_fp, state.pending) == (None, True, "parser", False)


def test_a_healed_file_loses_its_reason_and_a_forgotten_one_is_gone(database: Database) -> None:
    with database.transaction() as connection:
        ledger.ensure_collection(connection, "c")
        ledger.record_files(connection, "c", [outcome("a.md", reason="is empty")])
        ledger.record_files(connection, "c", [outcome("b.md", reason="is broken")])
        assert ledger.quarantined(connection, "c") == [("a.md", "is empty"), ("b.md", "is broken")]
        ledger.record_files(connection, "c", [outcome("a.md")])
        assert ledger.quarantined(connection, "c") == [("b.md", "is broken")]
        ledger.forget_files(connection, [document_id("c", b"b.md")])
        assert ledger.quarantined(connection, "c") == []
    assert known(database) == {"a.md"}


def test_quarantined_files_are_listed_by_shard(database: Database) -> None:
    names = [f"{number}.md" for number in range(12)]
    with database.transaction() as connection:
        ledger.ensure_collection(connection, "c")
        for name in names:
            ledger.record_files(connection, "c", [outcome(name, reason="is empty")])
        for shard in range(SHARDS):
            expected = sorted(name for name in names if shard_of(document_id("c", name.encode()), SHARDS) == shard)
            assert [uri for uri, _ in ledger.quarantined(connection, "c", (SHARDS, shard))] == expected


def test_new_stats_of_a_touched_file_are_noted(database: Database) -> None:
    with database.transaction() as connection:
        ledger.ensure_collection(connection, "c")
        ledger.record_files(connection, "c", [outcome("a.md")])
        ledger.refresh_stats(connection, [(document_id("c", b"a.md"), SourceFile(b"a.md", "a.md", 5, 99))])
        (state,) = ledger.read_have(connection, "c", "chunker", None).files.values()
    assert (state.size, state.changed_ns) == (5, 99)


def test_problems_of_a_listing_replace_those_of_the_one_before(database: Database) -> None:
    first = [SkippedFile(b"a.exe", "a.exe", "not supported"), SkippedFile(b"b", "b", "no permission", True)]
    with database.transaction() as connection:
        ledger.ensure_collection(connection, "c")
        ledger.record_problems(connection, "c", first)
        assert ledger.problems(connection, "c") == [("a.exe", "not supported"), ("b", "no permission")]
        ledger.record_problems(connection, "c", first[:1])
        assert ledger.problems(connection, "c") == [("a.exe", "not supported")]
        ledger.record_problems(connection, "c", [SkippedFile(b"a.exe", "a.exe", "too big")])
        assert ledger.problems(connection, "c") == [("a.exe", "too big")]
        ledger.record_problems(connection, "c", [])
        assert ledger.problems(connection, "c") == []


def test_another_collection_is_never_read_or_replaced(database: Database) -> None:
    with database.transaction() as connection:
        for collection in ("c", "d"):
            ledger.ensure_collection(connection, collection)
            ledger.record_problems(connection, collection, [SkippedFile(b"x", "x", "y")])
        ledger.record_problems(connection, "d", [])
        assert ledger.problems(connection, "c") == [("x", "y")]
        ledger.record_files(connection, "c", [outcome("a.md")])
        assert ledger.read_have(connection, "d", "chunker", None).files == {}


def document(database: Database, name: str, version: str) -> str:
    file = outcome(name)
    with database.transaction() as connection:
        ledger.ensure_collection(connection, "c")
        ledger.record_files(connection, "c", [file])
        connection.execute(
            "INSERT INTO document VALUES (%s, 'c', %s, 'hash', 'parser', 't', '[]', '{}', 'body', %s)"
            " ON CONFLICT (doc_id) DO UPDATE SET document_hash = EXCLUDED.document_hash",
            (file.doc_id, bucket_of(file.doc_id), version),
        )
    return file.doc_id


def chunked(database: Database, doc_id: str, version: str, chunker: str = "chunker") -> None:
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO chunked VALUES (%s, %s, 'c', %s, %s) ON CONFLICT (chunker_fp, doc_id)"
            " DO UPDATE SET document_hash = EXCLUDED.document_hash",
            (chunker, doc_id, bucket_of(doc_id), version),
        )


def indexed(database: Database, doc_id: str, version: str, generation: int) -> None:
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO indexed VALUES (%s, %s, %s, %s) ON CONFLICT (generation_id, doc_id)"
            " DO UPDATE SET document_hash = EXCLUDED.document_hash",
            (generation, doc_id, bucket_of(doc_id), version),
        )


def generation(database: Database) -> int:
    with database.transaction() as connection:
        row = connection.execute(
            "INSERT INTO generation (collection, sequence, chunker_fp, embedder_fp, index_fp, config, dimension, state)"
            " VALUES ('c', 1, 'chunker', 'e', 'i', '{}', 8, 'building') RETURNING id"
        ).fetchone()
    assert row is not None
    return int(row[0])


def is_pending(database: Database, doc_id: str, generation_id: int | None) -> bool:
    with database.transaction() as connection:
        return ledger.read_have(connection, "c", "chunker", generation_id).files[doc_id].pending


def test_a_document_is_pending_until_its_very_version_is_cut_and_indexed(database: Database) -> None:
    doc_id = document(database, "a.md", "v1")
    target = generation(database)
    assert is_pending(database, doc_id, target)
    chunked(database, doc_id, "v1")
    assert is_pending(database, doc_id, target)
    indexed(database, doc_id, "v1", target)
    assert not is_pending(database, doc_id, target)
    assert is_pending(database, doc_id, None)
    document(database, "a.md", "v2")
    assert is_pending(database, doc_id, target)
    indexed(database, doc_id, "v2", target)
    assert is_pending(database, doc_id, target)
    chunked(database, doc_id, "v2")
    assert not is_pending(database, doc_id, target)


def test_rows_of_a_file_that_no_longer_parses_are_pending_work(database: Database) -> None:
    doc_id = document(database, "a.md", "v1")
    target = generation(database)
    chunked(database, doc_id, "v1")
    with database.transaction() as connection:
        connection.execute("DELETE FROM document")
    assert is_pending(database, doc_id, target)


@pytest.mark.parametrize("chunker", ["chunker", "an earlier one"])
def test_what_is_left_of_a_forgotten_file_is_an_orphan(database: Database, chunker: str) -> None:
    doc_id = document(database, "a.md", "v1")
    chunked(database, doc_id, "v1", chunker)
    with database.transaction() as connection:
        ledger.forget_files(connection, [doc_id])
        assert ledger.read_have(connection, "c", "chunker", None).orphans == {doc_id}
