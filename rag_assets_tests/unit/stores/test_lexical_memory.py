"""Posting lists that a process has in memory are not read again, and are never those of other rows."""

from collections import OrderedDict
from contextlib import suppress

import pytest
from psycopg import sql

from rag_assets.database.generations import Generation
from rag_assets.database.pool import Database
from rag_assets.stores import lexical, lexical_memory, lexical_segments
from rag_assets_tests.unit.stores import lexical_rows as rows


@pytest.fixture
def generation(database: Database) -> Generation:
    made = rows.begin(database)
    rows.put(database, made, {"a": "red house", "b": "green house", "c": "blue boat"})
    return made


class _Undo(Exception):
    pass


def without_postings(database: Database, generation: Generation, questions: list[str]) -> list[list[str]]:
    """What questions find while no posting list is in the database."""
    found = []
    with suppress(_Undo), database.transaction() as connection:
        connection.execute(sql.SQL("DELETE FROM {}").format(lexical_segments.table(generation)))
        for question in questions:
            found.append([m.chunk_id for m in lexical.search(connection, generation, question, 10).matches])
        raise _Undo
    return found


def test_words_asked_before_are_scored_without_reading_their_lists(database: Database, generation: Generation) -> None:
    known = [match.chunk_id for match in rows.ask(database, generation, "house")]
    assert len(known) == 2
    assert without_postings(database, generation, ["house", "boat"]) == [known, []]


def test_a_write_makes_memory_of_no_use(database: Database, generation: Generation) -> None:
    assert len(rows.ask(database, generation, "house yacht")) == 2
    rows.put(database, generation, {"d": "yellow house", "e": "yacht"})
    assert {match.chunk_id for match in rows.ask(database, generation, "house yacht")} == {
        rows.id_of(name) for name in "abde"
    }


def test_memory_is_bounded(database: Database, generation: Generation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lexical_memory, "POSTING_BYTES", 500)
    monkeypatch.setattr(lexical_memory, "_memory", OrderedDict())  # it is shared by all generations there are
    for word in ("red", "green", "blue", "house", "boat"):
        rows.ask(database, generation, word)
    kept = lexical_memory.last_rows(generation)
    assert kept is not None
    assert kept.posting_bytes <= 500
    assert list(kept.postings) == ["hous", "boat"][-len(kept.postings) :]
