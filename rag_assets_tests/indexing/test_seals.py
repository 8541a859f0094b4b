"""The graph and the posting lists are looked through once for what nobody has written since."""

from pathlib import Path

import pytest

from rag_assets.database.generations import Generation
from rag_assets.stores import pgvector, seals
from rag_assets.stores.protocol import Connection
from rag_assets.stores.seals import Findings, graph_seal, words_seal
from rag_assets_tests.driving import WarmRuntime, corpus, live, query, run

ROW = "(SELECT min(chunk_id) FROM index_entry)"
BOTH, GRAPH, WORDS = {graph_seal, words_seal}, {graph_seal}, {words_seal}
WRITES = {
    f"UPDATE index_entry SET payload = payload WHERE chunk_id = {ROW}": BOTH,
    f"DELETE FROM index_entry WHERE chunk_id = {ROW}": BOTH,
    "UPDATE lexical_segment SET row_count = row_count": WORDS,
    "UPDATE lexical_posting_g1 SET postings = postings WHERE term = (SELECT min(term) FROM lexical_posting_g1)": WORDS,
    f"UPDATE chunk SET context = 'other' WHERE chunk_id = {ROW}": WORDS,
    "UPDATE document SET title = title": set(),
    "ANALYZE index_entry": set(),
}


class Looks:
    """Counts how often each seal had its look."""

    def __init__(self, runtime: WarmRuntime) -> None:
        self.runtime, self.findings = runtime, Findings()

    def again(self) -> set[object]:
        """The seals that a look was taken for."""
        taken: set[object] = set()
        generation = live(self.runtime)
        with self.runtime.database.transaction(snapshot=True) as connection:
            for seal in (graph_seal, words_seal):

                def look(_: Connection, __: Generation, seal: object = seal) -> str:
                    taken.add(seal)
                    return "found"

                assert self.findings.of(look, connection, generation, seal) == "found"
        return taken


def test_what_was_found_holds_until_something_it_is_of_is_written(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    assert live(index).id == 1
    looks = Looks(index)
    assert looks.again() == BOTH
    assert looks.again() == set()
    for statement, seals_broken in WRITES.items():
        query(index, statement)
        assert looks.again() == seals_broken, statement
        assert looks.again() == set()
    with index.database.transaction() as connection:
        pgvector.rebuild_index(connection, live(index))
    assert looks.again() == GRAPH


def test_what_was_found_long_ago_is_looked_for_again(
    index: WarmRuntime, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus(source, 2)
    run(index)
    looks = Looks(index)
    assert looks.again() == BOTH
    monkeypatch.setattr(seals, "FRESH_SECONDS", -1.0)
    assert looks.again() == BOTH
