"""Runs that are killed, repeated or overtaken: whole or not at all, and the next sync completes what was begun."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rag_assets.errors import RagAssetsError, Superseded, UnparsableDocument
from rag_assets.indexing import chunks, embeddings, index_entries, raw_documents
from rag_assets.indexing.planning import make_plan, note_listing
from rag_assets.models import ParsedDocument, Vectors
from rag_assets_tests.driving import (
    InterruptedDatabase,
    OpenIndex,
    WarmRuntime,
    corpus,
    live_rows,
    planned,
    query,
    run,
    wanted_rows,
    write,
)
from rag_assets_tests.fakes import DirectRunner, FakeEmbedder

LEDGER = ("source_file", "document", "chunked", "chunk", "embedding", "indexed", "index_entry")


def state(runtime: WarmRuntime) -> list[list[tuple[Any, ...]]]:
    """Everything that is stored of the documents."""
    return [query(runtime, f"SELECT t::text FROM {table} t ORDER BY 1") for table in LEDGER]


def stages(runtime: WarmRuntime, count: int) -> None:
    """The first ``count`` stages of every dirty shard, as a run does that is killed after them."""
    made = make_plan(runtime, "default")
    note_listing(runtime, made)
    for shard in made.plan.dirty_shards:
        if count > 0:
            raw_documents.materialize(runtime, made.plan, shard)
        for stage in (chunks, embeddings, index_entries)[: count - 1]:
            stage.materialize(runtime, "default", shard)


def change_everything(source: Path) -> None:
    write(source, "d00.md", "# Changed\n\nIt says something else now.\n")
    write(source, "new.md", "# New\n\nIt was not there before.\n")
    (source / "d01.md").unlink()
    (source / "d02.md").rename(source / "moved.md")
    write(source, "d03.md", "")


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_sync_completes_what_a_killed_run_began(index: WarmRuntime, source: Path, count: int) -> None:
    corpus(source)
    run(index)
    change_everything(source)
    stages(index, count)
    run(index)
    assert live_rows(index) == wanted_rows(index, source)
    assert run(index).nothing_changed


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_first_sync_completes_what_a_killed_one_began(index: WarmRuntime, source: Path, count: int) -> None:
    corpus(source)
    stages(index, count)
    report = run(index)
    assert report.generation["promoted"]
    assert live_rows(index) == wanted_rows(index, source)
    assert len(index.embedded) == len(set(index.embedded))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_readers_see_the_old_rows_until_the_last_stage_has_run(index: WarmRuntime, source: Path, count: int) -> None:
    corpus(source)
    run(index)
    before = live_rows(index)
    change_everything(source)
    stages(index, count)
    assert live_rows(index) == before


@pytest.mark.parametrize("stage", [chunks, embeddings, index_entries])
def test_a_stage_that_runs_again_writes_nothing(index: WarmRuntime, source: Path, stage: Any) -> None:
    corpus(source)
    run(index)
    before = state(index)
    for shard in range(3):
        stage.materialize(index, "default", shard)
    assert state(index) == before


def test_a_run_that_overtakes_the_chunks_of_a_removed_document_leaves_no_rows_of_it(
    index: WarmRuntime, source: Path
) -> None:
    """One run has removed a document and not yet its chunks when another one writes the shard's rows."""
    corpus(source)
    run(index)
    (source / "d01.md").unlink()
    plan = planned(index)
    for shard in plan.dirty_shards:
        raw_documents.materialize(index, plan, shard)
        index_entries.materialize(index, "default", shard)
    run(index)
    assert live_rows(index) == wanted_rows(index, source)


def test_doing_an_old_plan_again_changes_nothing(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    change_everything(source)
    old = planned(index)
    run(index)
    before = live_rows(index)
    for shard in old.dirty_shards:
        raw_documents.materialize(index, old, shard)
        for stage in (chunks, embeddings, index_entries):
            stage.materialize(index, "default", shard)
    assert live_rows(index) == before == wanted_rows(index, source)


def interrupt(slow: WarmRuntime, at: int, interruption: Callable[[], None]) -> InterruptedDatabase:
    """From now on ``interruption`` happens before the ``at``-th transaction of ``slow``."""
    slow.__dict__["database"] = InterruptedDatabase(slow.database, at, interruption)
    return slow.__dict__["database"]  # type: ignore[no-any-return]


def shard_of_d00(runtime: WarmRuntime, source: Path, text: str) -> int:
    write(source, "d00.md", f"# Document 0\n\n{text}\n")
    (shard,) = planned(runtime).dirty_shards
    return shard


def test_a_parsing_run_that_was_overtaken_writes_nothing(open_index: OpenIndex, source: Path) -> None:
    corpus(source)
    slow, fast = open_index(), open_index()
    run(slow)
    shard = shard_of_d00(slow, source, "Second version.")
    plan = planned(slow)
    written = []

    def overtake() -> None:
        raw_documents.materialize(fast, planned(fast), shard)
        written.append(state(fast))
        write(source, "d00.md", "# Document 0\n\nThird version.\n")

    # The lease, which models embed here, and what is written.
    database = interrupt(slow, 3, overtake)
    with pytest.raises(Superseded, match=f"Shard {shard} of 'default' was written by another run"):
        raw_documents.materialize(slow, plan, shard)
    assert database.begun == 3
    assert [state(fast)] == written
    run(fast)
    assert live_rows(fast) == wanted_rows(fast, source)


@pytest.mark.parametrize(("stage", "at"), [(chunks, 3), (index_entries, 5)])
def test_a_later_stage_that_was_overtaken_writes_nothing(
    open_index: OpenIndex, source: Path, stage: Any, at: int
) -> None:
    corpus(source)
    slow, fast = open_index(), open_index()
    run(slow)
    shard = shard_of_d00(slow, source, "Second version.")
    stages(fast, 3 if stage is index_entries else 1)
    written = []

    def overtake() -> None:
        write(source, "d00.md", "# Document 0\n\nThird version.\n")
        stages(fast, 3 if stage is index_entries else 1)
        written.append(state(fast))

    interrupt(slow, at, overtake)
    with pytest.raises(Superseded):
        stage.materialize(slow, "default", shard)
    assert [state(fast)] == written
    run(fast)
    assert live_rows(fast) == wanted_rows(fast, source)


def test_a_sync_that_was_overtaken_plans_again_and_ends_right(open_index: OpenIndex, source: Path) -> None:
    corpus(source)
    slow, fast = open_index(), open_index()
    run(slow)
    write(source, "d00.md", "# Document 0\n\nSecond version.\n")

    class Overtaken(DirectRunner):
        times = 0

        def update_shard(self, collection: str, shard: int) -> None:
            self.times += 1
            if self.times == 1:
                run(fast)
                raise Superseded("overtaken")
            super().update_shard(collection, shard)

    from rag_assets.indexing.sync import sync

    runner = Overtaken(slow)
    sync(slow, "default", lambda: runner)
    assert runner.times == 2
    assert live_rows(slow) == wanted_rows(slow, source)


def test_a_sync_that_is_overtaken_for_ever_says_so_and_leaves_no_plan(index: WarmRuntime, source: Path) -> None:
    class AlwaysOvertaken(DirectRunner):
        def update_shard(self, collection: str, shard: int) -> None:
            raise Superseded("overtaken")

    from rag_assets.indexing.sync import sync

    corpus(source)
    with pytest.raises(Superseded, match=r"Shards \[0, 1, 2\] of 'default' could not be written"):
        sync(index, "default", lambda: AlwaysOvertaken(index))
    # A later run in this process must make its own plan.
    assert index.plans == {}


class BreakingParsers:
    """Parses ``good`` documents and then fails, as a full disk or a bug would make it."""

    def __init__(self, inner: Any, good: int) -> None:
        self._inner, self._good = inner, good

    def parse_many(self, items: Any) -> Iterator[ParsedDocument | UnparsableDocument]:
        for number, (uri, data) in enumerate(items):
            if number >= self._good:
                raise OSError("No space left on device")
            yield self._inner.parse(uri, data)


def test_a_shard_that_fails_half_way_is_as_it_was(open_index: OpenIndex, source: Path) -> None:
    corpus(source)
    index = open_index(sync={"shards": 1})
    run(index)
    before = state(index)
    for number in range(4):
        write(source, f"d{number:02d}.md", f"# Changed\n\nVersion two of {number}.\n")
    whole = index._warm
    index._warm = BreakingParsers(whole, 2)  # type: ignore[assignment]
    with pytest.raises(OSError, match="No space left"):
        stages(index, 1)
    index._warm = whole
    assert state(index) == before
    run(index)
    assert live_rows(index) == wanted_rows(index, source)


class Faulty(FakeEmbedder):
    """Returns what no index should take."""

    fault = ""

    def embed_documents(self, texts: Any) -> Vectors:
        vectors = super().embed_documents(texts)
        if self.fault == "too few":
            return vectors[:-1]
        if self.fault == "too short":
            halved = vectors[:, : self.dimension // 2]
            return halved / (halved**2).sum(axis=1, keepdims=True) ** 0.5
        if self.fault == "zero":
            vectors[0] = 0
        if self.fault == "not a number":
            vectors[0, 0] = float("nan")
        if self.fault == "long":
            vectors *= 2
        return vectors


@pytest.mark.parametrize("fault", ["too few", "too short", "zero", "not a number", "long"])
def test_vectors_that_are_not_what_was_asked_for_are_refused_and_not_stored(
    index: WarmRuntime, source: Path, fault: str
) -> None:
    corpus(source)
    embedder = Faulty(version="all-MiniLM-L6-v2", dimension=64)
    embedder.fault = fault
    index.fakes["all-MiniLM-L6-v2"] = embedder
    with pytest.raises(RagAssetsError, match="The embedder 'fake-all-MiniLM-L6-v2' returned"):
        run(index)
    assert query(index, "SELECT count(*) FROM embedding") == [(0,)]
    embedder.fault = ""
    run(index)
    assert live_rows(index) == wanted_rows(index, source)


def test_rows_are_not_written_before_their_texts_are_embedded(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    stages(index, 2)
    with pytest.raises(RagAssetsError, match=r"chunks of shard 0 of 'default' have no vector .* Materialize `embed"):
        index_entries.materialize(index, "default", 0)
