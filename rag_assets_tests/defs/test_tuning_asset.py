"""The asset ``tuning`` in a run: what its page shows, and what it says without golden questions."""

import json
from pathlib import Path

import dagster as dg

from rag_assets.defs.tuning_asset import TUNING_ASSET
from rag_assets_tests.defs.conftest import OpenDagster, Quiet
from rag_assets_tests.driving import corpus


def materialize(opened: OpenDagster, **settings: object) -> dg.ExecuteInProcessResult:
    dagster = opened(**settings)
    dagster.update_all()
    dagster.publish()
    job = dagster.definitions.resolve_implicit_job_def_def_for_assets([dg.AssetKey(TUNING_ASSET)])
    assert job is not None
    return job.execute_in_process(
        instance=dagster.instance,
        partition_key="default",
        asset_selection=[dg.AssetKey(TUNING_ASSET)],
        run_config=Quiet,
        raise_on_error=False,
    )


def test_its_page_shows_the_report_with_the_picture(open_dagster: OpenDagster, source: Path, tmp_path: Path) -> None:
    corpus(source, 4)
    file = tmp_path / "questions.jsonl"
    lines = [
        {"id": str(n), "question": f"Paragraph of document {n}", "relevant": [{"document": f"d{n:02d}.md"}]}
        for n in range(3)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    result = materialize(open_dagster, collection={"questions": file})
    assert result.success
    (event,) = result.asset_materializations_for_node(TUNING_ASSET)
    shown = event.metadata
    assert "![Quality against time](data:image/png;base64,iVBOR" in str(shown["summary"].value)
    assert "too few" in str(shown["summary"].value)
    assert (shown["questions"].value, shown["changes"].value) == (3, False)
    assert Path(str(shown["report"].value)).is_file()
    assert event.tags is not None
    assert event.tags["dagster/data_version"]


def test_without_golden_questions_it_fails_and_names_the_setting(open_dagster: OpenDagster, source: Path) -> None:
    corpus(source, 1)
    result = materialize(open_dagster)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "collections.default.questions" in str(failure.event_specific_data)
