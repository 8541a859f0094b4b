"""The two checks that no materialization makes: is the source whole, does the live index equal its ledger?"""

import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from rag_assets.definitions import build_definitions
from rag_assets.defs import automation
from rag_assets.defs.checks import EQUALS_LEDGER, SOURCE_WHOLE
from rag_assets_tests.defs.test_automation import asked, tick
from rag_assets_tests.driving import OpenIndex, WarmRuntime, corpus, live_rows, query, run, wanted_rows, write

WHOLE = dg.AssetCheckKey(dg.AssetKey("document_source"), SOURCE_WHOLE)
EQUAL = dg.AssetCheckKey(dg.AssetKey("live_index"), EQUALS_LEDGER)


def reported(result: dg.SensorResult) -> list[bool]:
    """What a tick reports of the check: nothing, or whether it passed."""
    events = [event for event in result.asset_events if isinstance(event, dg.AssetCheckEvaluation)]
    assert all(event.asset_check_key == WHOLE for event in events)
    return [event.passed for event in events]


def by_hand(
    runtime: WarmRuntime, instance: dg.DagsterInstance, key: dg.AssetCheckKey, partition: str | None = None
) -> dg.AssetCheckEvaluation:
    job = build_definitions(runtime=runtime).resolve_implicit_global_asset_job_def()
    subset = job.get_subset(asset_selection=set(), asset_check_selection={key})
    # As the UI does it: a check of a partitioned asset is told its partition by the run's tag.
    tags = {"dagster/partition": partition} if partition else {}
    (found,) = subset.execute_in_process(instance=instance, tags=tags).get_asset_check_evaluations()
    return found


def history(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> list[bool]:
    """What a check was reported to be, oldest first."""
    records = instance.event_log_storage.get_asset_check_execution_history(key, limit=100)
    found = [record.event.dagster_event.event_specific_data for record in records if record.event]  # type: ignore[union-attr]
    return [item.passed for item in reversed(found)]  # type: ignore[union-attr]


def vanish(source: Path, aside: Path) -> None:
    aside.mkdir()
    for number in range(5):
        shutil.move(source / f"d{number:02d}.md", aside)


def test_the_sensor_reports_a_source_that_lacks_too_much_once_and_again_when_it_is_whole(
    index: WarmRuntime, source: Path, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    corpus(source)
    run(index)
    first = tick(index, instance)
    assert reported(first) == [True]
    quiet = tick(index, instance, first.cursor)
    assert reported(quiet) == []
    vanish(source, tmp_path / "aside")
    red = tick(index, instance, quiet.cursor)
    assert reported(red) == [False]
    (event,) = red.asset_events
    assert "5 documents vanished at once" in (event.description or "")
    assert asked(red) == []
    again = tick(index, instance, red.cursor)
    assert reported(again) == []
    assert "Needs a person" in str(again.skip_reason)
    for path in (tmp_path / "aside").iterdir():
        shutil.move(path, source)
    green = tick(index, instance, again.cursor)
    assert reported(green) == [True]
    assert reported(tick(index, instance, green.cursor)) == []
    assert live_rows(index) == wanted_rows(index, source)


def test_the_check_is_green_again_once_a_person_confirmed(
    index: WarmRuntime, source: Path, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    corpus(source)
    run(index)
    vanish(source, tmp_path / "aside")
    red = tick(index, instance)
    assert reported(red) == [False]
    assert not by_hand(index, instance, WHOLE).passed
    run(index, allow_mass_delete=True)
    assert reported(tick(index, instance, red.cursor)) == [True]
    assert by_hand(index, instance, WHOLE).passed
    assert live_rows(index) == wanted_rows(index, source)


def test_another_folder_in_the_place_of_the_source_is_reported_once(
    index: WarmRuntime, source: Path, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    corpus(source)
    run(index)
    source.rename(tmp_path / "aside")
    source.mkdir()
    for number in range(8):
        write(source, f"x{number}.md", f"# Stranger {number}\n\nNobody knows it.\n")
    red = tick(index, instance)
    assert reported(red) == [False]
    assert reported(tick(index, instance, red.cursor)) == []
    assert asked(red) == []


def test_a_source_that_is_gone_is_red_for_the_sensor_and_by_hand(
    index: WarmRuntime, source: Path, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    corpus(source)
    run(index)
    first = tick(index, instance)
    source.rename(tmp_path / "unmounted")
    red = tick(index, instance, first.cursor)
    assert reported(red) == [False]
    assert not by_hand(index, instance, WHOLE).passed
    assert reported(tick(index, instance, red.cursor)) == []
    (tmp_path / "unmounted").rename(source)
    assert reported(tick(index, instance, red.cursor)) == [True]
    assert by_hand(index, instance, WHOLE).passed


@pytest.mark.parametrize("gone", [True, False])
def test_a_tick_without_time_says_nothing_of_vanished_documents(
    index: WarmRuntime,
    source: Path,
    tmp_path: Path,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    gone: bool,
) -> None:
    """Neither that they are gone (they may have been renamed) nor, of those that are, that they are back."""
    corpus(source)
    run(index)
    before = tick(index, instance)
    if gone:
        vanish(source, tmp_path / "aside")
        before = tick(index, instance, before.cursor)
        assert reported(before) == [False]
    for number in range(5):
        if not gone:
            (source / f"d{number:02d}.md").rename(source / f"moved{number}.md")
    for number in (5, 6):
        write(source, f"d{number:02d}.md", f"# Changed\n\nNumber {number} says something else now.\n")
    with monkeypatch.context() as patched:
        # So little that no file can be looked into, and enough for the first collection to be listed.
        patched.setattr(automation, "BUDGET_SECONDS", 1e-9)
        patched.setattr(automation.time, "monotonic", Frozen())
        hurried = tick(index, instance, before.cursor)
    assert reported(hurried) == []
    assert asked(hurried) != []
    calm = tick(index, instance, hurried.cursor)
    assert reported(calm) == []


class Frozen:
    """A clock that stands still while the tick begins, and then is far ahead."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> float:
        self.calls += 1
        return 0.0 if self.calls <= 2 else 1e9


FIRST = "(SELECT min(chunk_id) FROM index_entry)"
A_DOCUMENT = "(SELECT min(doc_id) FROM index_entry)"
DAMAGE = {
    "rows deleted": f"DELETE FROM index_entry WHERE chunk_id = {FIRST} OR doc_id = (SELECT max(doc_id) FROM index_entry)",
    "duplicated under another id": "INSERT INTO index_entry SELECT generation_id, 'twin-' || chunk_id, doc_id, text_hash,"
    " text, payload, embedding, embedder_fp FROM index_entry WHERE doc_id = " + A_DOCUMENT,
    "text edited": f"UPDATE index_entry SET text = 'forged' WHERE chunk_id = {FIRST}",
    "payload edited": f'UPDATE index_entry SET payload = payload || \'{{"title": "forged"}}\' WHERE chunk_id = {FIRST}',
    "payload field added": f"UPDATE index_entry SET payload = payload || '{{\"x\": 1}}' WHERE chunk_id = {FIRST}",
    "vector edited": "UPDATE index_entry SET embedding = (SELECT embedding FROM index_entry ORDER BY chunk_id DESC LIMIT 1)"
    f" WHERE chunk_id = {FIRST}",
    "in the index only": "INSERT INTO index_entry SELECT generation_id, 'stray', 'nobody', 'no text', 'stray', payload,"
    f" embedding, embedder_fp FROM index_entry WHERE chunk_id = {FIRST}",
    "in the ledger only": f"DELETE FROM index_entry WHERE doc_id = {A_DOCUMENT}",
}


def weekly(runtime: WarmRuntime, instance: dg.DagsterInstance) -> list[bool]:
    """What a weekly run reports of the check, first to last."""
    job = build_definitions(runtime=runtime).resolve_job_def("weekly_reconcile")
    config: dict[str, Any] = {"ops": {"weekly_reconcile_op": {"config": {"collection": "default"}}}}
    done = job.execute_in_process(instance=instance, run_config=config)
    assert done.success
    assert {item.asset_check_key for item in done.get_asset_check_evaluations()} == {EQUAL}
    assert {item.partition for item in done.get_asset_check_evaluations()} == {"default"}
    return [item.passed for item in done.get_asset_check_evaluations()]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_by_hand_is_red_and_repaired_by_one_weekly_run(
    index: WarmRuntime, source: Path, instance: dg.DagsterInstance, damage: str
) -> None:
    corpus(source)
    run(index)
    wanted = wanted_rows(index, source)
    payloads = query(index, "SELECT chunk_id, payload::text FROM index_entry ORDER BY 1")
    query(index, DAMAGE[damage])
    found = by_hand(index, instance, EQUAL, "default")
    assert not found.passed
    assert "`rag-assets reconcile` repairs it" in (found.description or "")
    index.embedded.clear()
    assert weekly(index, instance) == [False, True]
    # Red by hand, and green when the weekly run ended.
    assert history(instance, EQUAL) == [False, True]
    assert live_rows(index) == wanted
    assert query(index, "SELECT chunk_id, payload::text FROM index_entry ORDER BY 1") == payloads
    assert index.embedded == []
    assert by_hand(index, instance, EQUAL, "default").passed


def test_every_damaged_row_is_counted(index: WarmRuntime, source: Path, instance: dg.DagsterInstance) -> None:
    """All at once, in rows of their own: each of them is found, none twice."""
    corpus(source, 12)
    run(index)
    ids = [row[0] for row in query(index, "SELECT chunk_id FROM index_entry ORDER BY 1")]
    query(index, "DELETE FROM index_entry WHERE chunk_id = ANY(%s)", ids[:2])
    copy = "INSERT INTO index_entry SELECT generation_id, 'twin-' || chunk_id, doc_id, text_hash, text, payload, embedding, embedder_fp"
    query(index, f"{copy} FROM index_entry WHERE chunk_id = ANY(%s)", ids[2:5])
    query(index, "UPDATE index_entry SET text = 'forged' WHERE chunk_id = ANY(%s)", ids[5:7])
    query(index, "UPDATE index_entry SET payload = payload - 'page' WHERE chunk_id = ANY(%s)", ids[7:8])
    query(
        index,
        "UPDATE index_entry SET embedding = (SELECT embedding FROM index_entry WHERE chunk_id = %s) WHERE chunk_id = ANY(%s)",
        ids[11],
        ids[8:11],
    )
    found = by_hand(index, instance, EQUAL, "default").metadata
    assert (found["missing"].value, found["extra"].value, found["wrong"].value) == (2, 3, 6)
    weekly(index, instance)
    assert by_hand(index, instance, EQUAL, "default").passed
    assert live_rows(index) == wanted_rows(index, source)


def test_a_sound_index_is_green_and_nothing_of_it_is_written(
    index: WarmRuntime, source: Path, instance: dg.DagsterInstance
) -> None:
    corpus(source)
    run(index)
    before = query(index, "SELECT chunk_id, xmin::text FROM index_entry ORDER BY 1")
    # One week after another: a report must not be in the way of the next.
    for week in range(1, 4):
        assert weekly(index, instance) == [True]
        assert history(instance, EQUAL) == [True] * week
    assert query(index, "SELECT chunk_id, xmin::text FROM index_entry ORDER BY 1") == before


def test_before_anything_is_live_the_checks_have_nothing_against_it(
    open_index: OpenIndex, source: Path, instance: dg.DagsterInstance
) -> None:
    index = open_index()
    corpus(source)
    assert by_hand(index, instance, EQUAL, "default").passed
    assert by_hand(index, instance, WHOLE).passed
