"""Every strategy makes a sound index, and what it shows follows the document even where what it embeds stays the same."""

from pathlib import Path
from typing import Any

import pytest

from rag_assets.chunking import STRATEGIES
from rag_assets.indexing.integrity import inspect
from rag_assets_tests.driving import OpenIndex, WarmRuntime, corpus, live, live_rows, query, run, write

SENTENCES = [f"Sentence {word} tells of the {word} things." for word in ("one", "two", "three", "four", "five", "six")]
WINDOW = {"strategy": "sentence-window", "sentence_tokens": 12, "max_tokens": 32, "contextual": False}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_index_of_every_strategy_is_sound_and_found(open_index: OpenIndex, source: Path, strategy: str) -> None:
    corpus(source, 4)
    index = open_index(chunking={"strategy": strategy, "max_tokens": 64, "overlap_tokens": 0})
    report = run(index)
    assert report.refused is None
    assert inspect(index, live(index)).faults == 0
    assert {row[0] for row in live_rows(index).values()} == {f"d{number:02d}.md" for number in range(4)}
    assert set(index.embedded) >= {row[0] for row in query(index, _EMBEDDED)}


_EMBEDDED = "SELECT CASE context WHEN '' THEN '' ELSE context || E'\\n' END || coalesce(embedded, text) FROM chunk"


def windows(index: WarmRuntime) -> dict[str, str]:
    """What is embedded → what is shown."""
    rows: Any = query(
        index, "SELECT c.embedded, e.text FROM index_entry e JOIN chunk c USING (chunk_id) ORDER BY c.position"
    )
    return dict(rows)


def test_a_sentence_that_stays_is_shown_with_its_new_neighbours_and_not_embedded_again(
    open_index: OpenIndex, source: Path
) -> None:
    write(source, "a.txt", " ".join(SENTENCES))
    index = open_index(chunking=WINDOW)
    run(index)
    assert windows(index)[SENTENCES[2]] == " ".join(SENTENCES[1:4])
    embedded = len(index.embedded)
    changed = [*SENTENCES[:3], "Another sentence came in here.", *SENTENCES[4:]]
    write(source, "a.txt", " ".join(changed))
    run(index)
    assert index.embedded[embedded:] == [changed[3]]
    assert windows(index)[SENTENCES[2]] == " ".join(changed[1:5])
    found = inspect(index, live(index))
    assert (found.wrong, found.lexical, found.faults) == (0, 0, 0)


def test_only_the_space_between_sentences_changes_and_so_does_the_data_version(
    open_index: OpenIndex, source: Path
) -> None:
    write(source, "a.txt", " ".join(SENTENCES))
    index = open_index(chunking=WINDOW, sync={"shards": 1})
    run(index)
    embedded = len(index.embedded)
    write(source, "a.txt", "\n\n".join(SENTENCES))
    run(index)
    assert len(index.embedded) == embedded
    assert windows(index)[SENTENCES[2]] == "\n\n".join(SENTENCES[1:4])
    first, second = [result for result in index.results if result.stage == "chunks"]
    assert (second.counts["added"], second.counts["removed"]) == (0, 0)
    assert first.data_version != second.data_version
