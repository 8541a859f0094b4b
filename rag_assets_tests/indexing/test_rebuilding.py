"""A live index that is not what it was is built anew beside itself, judged, and can be gone back from."""

from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from rag_assets.database.generations import Generation, all_generations
from rag_assets.errors import GateRefused
from rag_assets.evaluation import health, store
from rag_assets.evaluation.health import begin_rebuild
from rag_assets.evaluation.nightly import Nightly, nightly
from rag_assets.indexing.integrity import inspect
from rag_assets.indexing.planning import make_plan
from rag_assets.indexing.promotion import reinstate, rollback
from rag_assets_tests.driving import (
    OpenIndex,
    WarmRuntime,
    corpus,
    documents,
    live,
    live_rows,
    query,
    run,
    wanted_rows,
    write,
)
from rag_assets_tests.fakes import DirectRunner, index_rows
from rag_assets_tests.indexing.test_following import REFUSING, question_file, states


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight documents are enough to churn."""
    monkeypatch.setattr(health, "MIN_CHURN", 8)


def night(runtime: WarmRuntime) -> Nightly:
    return nightly(runtime, "default", DirectRunner(runtime))


def churn(source: Path, count: int, word: str = "new") -> None:
    for number in range(count):
        write(source, f"d{number:02d}.md", f"# Document {number}\n\nAll of it is {word} in number {number}.\n")


def drop_index(runtime: WarmRuntime, postgres_url: str) -> None:
    query(runtime, f"DROP INDEX index_entry_g{live(runtime).id}_hnsw")


def break_index(runtime: WarmRuntime, postgres_url: str) -> None:
    """What a killed or failed CREATE INDEX CONCURRENTLY leaves: an index that PostgreSQL never uses."""
    drop_index(runtime, postgres_url)
    name = f"index_entry_g{live(runtime).id}"
    with psycopg.connect(postgres_url, autocommit=True) as connection, pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute(f"CREATE UNIQUE INDEX CONCURRENTLY {name}_hnsw ON rag.{name} (generation_id)".encode())
    assert query(runtime, "SELECT indisvalid FROM pg_index WHERE indexrelid = %s::regclass", f"rag.{name}_hnsw") == [
        (False,)
    ]


def fail_ann_recall(runtime: WarmRuntime, postgres_url: str) -> None:
    _, result = store.latest(runtime, live(runtime))
    checks = [replace(check, passed=check.name != "ann_recall_p05") for check in result.checks]
    store.save(runtime, live(runtime), replace(result, checks=checks))


def generation(runtime: WarmRuntime, sequence: int) -> Generation:
    with runtime.database.transaction() as connection:
        (found,) = [item for item in all_generations(connection, "default") if item.sequence == sequence]
    return found


def test_an_index_that_changed_much_is_built_anew_and_nothing_is_embedded(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    assert (live(index).built_rows, live(index).churned_rows) == (8, 0)
    churn(source, 4)
    run(index)
    assert live(index).churned_rows == 8
    index.embedded.clear()
    done = night(index)
    assert done.rebuilt_because == ("8 rows were written or deleted since its graph was built from 8",)
    assert done.sync.generation["promoted"]
    assert index.embedded == []
    assert states(index) == {"default#1": "retired", "default#2": "live"}
    assert (live(index).built_rows, live(index).churned_rows, live(index).rebuild) == (8, 0, True)
    assert live_rows(index) == wanted_rows(index, source)
    assert inspect(index, live(index)).faults == 0
    # Once is enough.
    assert night(index).rebuilt_because == ()
    assert states(index) == {"default#1": "retired", "default#2": "live"}


def test_a_little_churn_is_no_reason(index: WarmRuntime, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus(source, 40)
    run(index)
    churn(source, 8)
    run(index)
    # 16 rows: enough of them, but no half of what the graph was built from.
    assert live(index).churned_rows == 16
    assert night(index).rebuilt_because == ()
    churn(source, 40, "newer")
    run(index)
    monkeypatch.setattr(health, "MIN_CHURN", 1000)
    # More than the half, but too few to matter.
    assert live(index).churned_rows == 96
    assert night(index).rebuilt_because == ()
    assert states(index) == {"default#1": "live"}


def test_what_is_worth_a_rebuild_is_a_setting(open_index: OpenIndex, source: Path) -> None:
    corpus(source)
    run(open_index())
    churn(source, 5)
    patient = open_index(sync={"shards": 3, "rebuild_churn_share": 2})
    run(patient)
    assert night(patient).rebuilt_because == ()
    assert night(open_index()).rebuilt_because != ()


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (drop_index, "it has no valid HNSW index"),
        (break_index, "it has no valid HNSW index"),
        (fail_ann_recall, "The index finds 100.0% of what exact search finds, for the worst 5 % of queries"),
    ],
)
def test_an_index_that_can_not_be_trusted_is_built_anew(
    index: WarmRuntime, source: Path, postgres_url: str, harm: object, reason: str
) -> None:
    corpus(source)
    run(index)
    harm(index, postgres_url)  # type: ignore[operator]
    index.embedded.clear()
    done = night(index)
    (said,) = done.rebuilt_because
    assert said.startswith(reason)
    assert index.embedded == []
    assert states(index) == {"default#1": "retired", "default#2": "live"}
    assert query(index, "SELECT i.indisvalid FROM pg_index i WHERE indexrelid = 'index_entry_g2_hnsw'::regclass") == [
        (True,)
    ]
    assert night(index).rebuilt_because == ()


def test_a_rebuild_can_be_rolled_back_and_is_not_repeated_by_itself(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    churn(source, 4)
    run(index)
    night(index)
    before = live_rows(index)
    assert rollback(index, "default", who="test").live.name == "default#1"
    assert live_rows(index) == before
    assert states(index) == {"default#1": "live", "default#2": "withdrawn"}
    # Its graph is as worn as it was, and stays so until a person decides otherwise.
    assert night(index).rebuilt_because == ()
    churn(source, 2, "newest")
    run(index)
    assert states(index) == {"default#1": "live", "default#2": "withdrawn"}
    assert live_rows(index) == wanted_rows(index, source)


def test_a_person_can_bring_a_rolled_back_rebuild_back(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    assert reinstate(index, "default") is None
    churn(source, 8)
    run(index)
    night(index)
    rollback(index, "default", who="test")
    write(source, "d00.md", "# Document 0\n\nWritten while the rebuild was withdrawn.\n")
    run(index)
    again = reinstate(index, "default")
    assert again is not None
    assert again.id == generation(index, 2).id
    report = run(index)
    assert (report.generation["name"], report.generation["promoted"]) == ("default#2", True)
    assert report.embeddings["computed"] == 0
    assert live_rows(index) == wanted_rows(index, source)


def test_a_rolled_back_rebuild_is_forgotten_when_another_index_was_wanted_meanwhile(
    open_index: OpenIndex, source: Path
) -> None:
    """A rollback lasts until the configuration changes."""
    corpus(source)
    index = open_index()
    run(index)
    churn(source, 4)
    run(index)
    night(index)
    rollback(index, "default", who="test")
    run(open_index(embedder={"model": "2"}))
    assert live(index).name == "default#3"
    assert live_rows(open_index(embedder={"model": "2"})) == wanted_rows(open_index(embedder={"model": "2"}), source)


def test_shard_runs_keep_both_up_to_date_while_a_rebuild_is_being_built(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    churn(source, 4)
    run(index)
    assert begin_rebuild(index, "default") != ()
    # Asked again, as by a night after a night that was killed here, it goes on with the one that was begun.
    assert begin_rebuild(index, "default") != ()
    assert states(index) == {"default#1": "live", "default#2": "building"}
    write(source, "d07.md", "# Document 7\n\nIt was edited while the other index was being built.\n")
    (source / "d06.md").unlink()
    made = make_plan(index, "default", only_live=True)
    assert made.plan.dirty_shards
    index.plans["default"] = made.plan
    for shard in made.plan.dirty_shards:
        DirectRunner(index).update_shard("default", shard)
    index.plans.clear()
    wanted = wanted_rows(index, source)
    assert live_rows(index) == wanted
    beside = index_rows(index, generation(index, 2).id)
    assert beside.items() <= wanted.items()
    assert "d07.md" in {row[0] for row in beside.values()}
    done = night(index)
    assert done.sync.generation["promoted"]
    assert live(index).name == "default#2"
    assert live_rows(index) == wanted
    assert inspect(index, live(index)).faults == 0


def test_a_rebuild_that_is_refused_leaves_the_live_index_and_is_tried_again_the_next_night(
    open_index: OpenIndex, source: Path, tmp_path: Path
) -> None:
    corpus(source)
    index = open_index()
    run(index)
    churn(source, 4)
    run(index)
    strict = open_index(gates=REFUSING, collection={"questions": question_file(tmp_path)})
    with pytest.raises(GateRefused):
        night(strict)
    assert states(index) == {"default#1": "live", "default#2": "refused"}
    assert documents(index) == {f"d{number:02d}.md" for number in range(8)}
    with pytest.raises(GateRefused):
        night(strict)
    assert list(states(index).values()).count("refused") == 1
    assert night(index).sync.generation["promoted"]
    assert list(states(index).values()).count("live") == 1
    assert live_rows(index) == wanted_rows(index, source)


def test_a_rollback_is_possible_beside_a_rebuild_that_was_refused(
    open_index: OpenIndex, source: Path, tmp_path: Path
) -> None:
    """Of one configuration there is one unfinished index: the one that was rolled back takes the refused one's place."""
    corpus(source)
    index = open_index()
    run(index)
    churn(source, 4)
    run(index)
    night(index)
    churn(source, 4, "newer")
    run(index)
    with pytest.raises(GateRefused):
        night(open_index(gates=REFUSING, collection={"questions": question_file(tmp_path)}))
    assert states(index) == {"default#1": "retired", "default#2": "live", "default#3": "refused"}
    assert rollback(index, "default", who="test").live.name == "default#1"
    assert states(index) == {"default#1": "live", "default#2": "withdrawn"}
