"""What Dagster's own tables and the reports show of a document is gone once it is forgotten."""

import json
from pathlib import Path

import dagster as dg
import pytest

from rag_assets.defs.instance import open_instance
from rag_assets_tests.defs.conftest import Dagster
from rag_assets_tests.driving import OpenIndex, corpus, documents, write
from rag_assets_tests.indexing.test_forgetting import CANARY, SECRET, tables_with

QUESTION = {
    "id": "q",
    "question": "What is the password of the pelican?",
    "relevant": [{"document": "sub dir/sécret.md"}],
}


@pytest.mark.slow
def test_no_table_and_no_report_shows_a_word_of_a_forgotten_document(
    open_index: OpenIndex, source: Path, tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus(source)
    write(source, "sub dir/sécret.md", f"# Secret {CANARY}\n\n{SECRET}")
    questions = tmp_path / "questions.jsonl"
    questions.write_text(json.dumps(QUESTION) + "\n", encoding="utf-8")
    index = open_index(collection={"questions": questions})
    (tmp_path / "rag_assets.toml").write_text("")
    monkeypatch.setenv("RAG_CONFIG", str(tmp_path / "rag_assets.toml"))
    monkeypatch.setenv("RAG_POSTGRES_URL", postgres_url)
    monkeypatch.setenv("RAG_HOME", str(index.settings.home))
    with open_instance(index.settings) as instance:
        dagster = Dagster(index, instance)
        dagster.update_all()
        assert dagster.publish().success
        # The test can see what it looks for: samples on asset pages, passages of evaluations, the report.
        before = tables_with(index, CANARY, "rag", "dagster")
        assert {"dagster.event_logs", "dagster.asset_keys", "rag.evaluation_run", "rag.chunk"} <= before
        assert files_with(index.settings.home, CANARY) != []
        job = dagster.definitions.resolve_job_def("forget_document")
        config = {"ops": {"forget_document_op": {"config": {"collection": "default", "document": "sub dir/sécret.md"}}}}
        assert job.execute_in_process(instance=instance, run_config=config).success
        assert tables_with(index, CANARY, "rag", "dagster") == set()
        assert files_with(index.settings.home, CANARY) == []
        # What is left is still a history that Dagster can read.
        stored = instance.fetch_materializations(dg.AssetKey("chunks"), limit=10).records
        shown = [record.asset_materialization.metadata for record in stored if record.asset_materialization]
        samples = [sample for item in shown if "samples" in item for sample in item["samples"].records]  # type: ignore[attr-defined]
        assert {"(forgotten)", "d00.md"} <= {sample.data["document"] for sample in samples}
        dagster.update_all()
    assert documents(index) == {f"d{number:02d}.md" for number in range(8)}


def files_with(folder: Path, word: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and word.encode() in path.read_bytes().lower()]
