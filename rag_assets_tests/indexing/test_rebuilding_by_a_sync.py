"""A sync that changes much of a live index builds another beside it; one that changes little changes it in place."""

from pathlib import Path

import pytest

from rag_assets.database import generations
from rag_assets.errors import RagAssetsError
from rag_assets.indexing import sync as syncing
from rag_assets.indexing.integrity import inspect
from rag_assets.indexing.planning import make_plan
from rag_assets.indexing.preview import reasons
from rag_assets.indexing.promotion import rollback
from rag_assets_tests.driving import OpenIndex, WarmRuntime, corpus, live, live_rows, run, wanted_rows, write
from rag_assets_tests.fakes import DirectRunner
from rag_assets_tests.indexing.test_following import REFUSING, question_file, states
from rag_assets_tests.indexing.test_rebuilding import churn

SYNC = {"shards": 3, "rebuild_change_rows": 3}


@pytest.fixture
def index(open_index: OpenIndex) -> WarmRuntime:
    """Three rows are enough to be worth it."""
    return open_index(sync=SYNC)


def test_much_at_once_is_loaded_beside_and_the_live_index_rests_until_it_is_replaced(
    index: WarmRuntime, source: Path
) -> None:
    corpus(source)
    assert run(index).rebuilt_because is None
    index.embedded.clear()
    churn(source, 5)
    (source / "d07.md").unlink()
    write(source, "d08.md", "# Document 8\n\nIt is another one.\n")
    assert any("built beside default#1" in reason for reason in reasons(index, make_plan(index, "default")))
    report = run(index)
    assert report.rebuilt_because == (
        "7 of 9 documents change at once, which writes or deletes more than 50% as many rows as there are"
    )
    assert report.generation["promoted"]
    assert len(index.embedded) == 6
    assert states(index) == {"default#1": "retired", "default#2": "live"}
    with index.database.transaction() as connection:
        before = next(g for g in generations.all_generations(connection, "default") if g.sequence == 1)
    # Not one row of the old graph was changed for it.
    assert before.churned_rows == 0
    assert (live(index).churned_rows, live(index).built_rows) == (0, 8)
    assert live_rows(index) == wanted_rows(index, source)
    assert inspect(index, live(index)).faults == 0
    assert run(index).nothing_changed


@pytest.mark.parametrize(("edits", "share", "rows"), [(1, 0.3, 1), (2, 0.5, 1), (4, 0.2, 9)])
def test_little_or_few_is_changed_in_place(
    open_index: OpenIndex, source: Path, edits: int, share: float, rows: int
) -> None:
    index = open_index(sync={**SYNC, "rebuild_change_share": share, "rebuild_change_rows": rows})
    corpus(source)
    run(index)
    churn(source, edits)
    assert run(index).rebuilt_because is None
    assert states(index) == {"default#1": "live"}
    assert live_rows(index) == wanted_rows(index, source)


@pytest.mark.parametrize(
    ("edited", "added", "removed", "beside"),
    [(3, 0, 0, True), (0, 4, 0, False), (0, 5, 0, True), (0, 0, 4, False), (1, 2, 0, False), (1, 2, 1, True)],
)
def test_an_edit_counts_as_a_removal_and_an_addition(
    open_index: OpenIndex, source: Path, edited: int, added: int, removed: int, beside: bool
) -> None:
    index = open_index(sync={**SYNC, "max_vanished_share": 1})
    corpus(source)
    run(index)
    churn(source, edited)
    for number in range(added):
        write(source, f"new{number}.md", f"# New {number}\n\nIt is about {number}.\n")
    for number in range(removed):
        (source / f"d{7 - number:02d}.md").unlink()
    assert bool(run(index).rebuilt_because) is beside
    assert live_rows(index) == wanted_rows(index, source)


def test_a_live_index_without_a_document_takes_a_few_as_it_is(open_index: OpenIndex, source: Path) -> None:
    index = open_index(sync={"shards": 3, "max_vanished_share": 1, "rebuild_change_rows": 9})
    corpus(source)
    run(index)
    for path in source.iterdir():
        path.unlink()
    run(index)
    corpus(source)
    assert run(index).rebuilt_because is None
    assert live_rows(index) == wanted_rows(index, source)


def test_where_the_new_index_is_refused_the_live_one_gets_the_changes(
    open_index: OpenIndex, source: Path, tmp_path: Path
) -> None:
    corpus(source)
    run(open_index())
    churn(source, 5)
    strict = open_index(sync=SYNC, gates=REFUSING, collection={"questions": question_file(tmp_path)})
    report = run(strict)
    assert report.refused
    assert report.rebuilt_because
    assert states(strict) == {"default#1": "live", "default#2": "refused"}
    assert live_rows(strict) == wanted_rows(strict, source)
    assert inspect(strict, live(strict)).faults == 0
    assert run(strict).nothing_changed
    # The next one is begun in place of the refused one.
    churn(source, 5, "newer")
    index = open_index(sync=SYNC)
    assert run(index).generation["promoted"]
    assert sorted(states(index).values()) == ["live", "retired"]
    assert live_rows(index) == wanted_rows(index, source)


def test_what_a_person_rolled_back_is_changed_in_place(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    churn(source, 5)
    run(index)
    rollback(index, "default", who="test")
    churn(source, 8, "newest")
    assert run(index).rebuilt_because is None
    assert states(index) == {"default#1": "live", "default#2": "withdrawn"}
    assert live_rows(index) == wanted_rows(index, source)


class _Failing(DirectRunner):
    def publish(self, collection: str) -> None:
        raise RagAssetsError("the machine is on fire")


def test_a_sync_that_fails_halfway_leaves_the_rest_to_the_next(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    before = live_rows(index)
    churn(source, 5)
    with pytest.raises(RagAssetsError, match="on fire"):
        syncing.sync(index, "default", lambda: _Failing(index))
    assert live_rows(index) == before
    assert not index.resting
    # A change that is no longer big: both are brought up to date, and what was begun goes live.
    corpus(source)
    report = run(index)
    assert report.generation["promoted"]
    assert live(index).name == "default#2"
    assert live_rows(index) == wanted_rows(index, source)
    assert inspect(index, live(index)).faults == 0
