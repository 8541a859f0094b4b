"""The sample corpus with its model, over the asset graph, in Weaviate: as good as in PostgreSQL.

A minute, not seconds: `make test-slow` runs it, `make test` leaves it out.
"""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from rag_assets.definitions import build_definitions
from rag_assets.evaluation import store
from rag_assets.evaluation.results import EvaluationResult
from rag_assets.retrieval.passages import live_generation
from rag_assets.runtime import Runtime
from rag_assets.settings import GateSettings, RetrievalSettings, Settings, load_settings
from rag_assets_tests.weaviate_fake import FakeWeaviate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
REPOSITORY = Path(__file__).parents[2]


def night(settings: Settings) -> tuple[EvaluationResult, set[str]]:
    """One nightly run: what it measured, and the chunks of the live generation."""
    with Runtime(settings) as runtime, dg.DagsterInstance.ephemeral() as instance:
        job = build_definitions(runtime=runtime).resolve_job_def("nightly_reindex")
        done = job.execute_in_process(
            instance=instance,
            run_config={
                "ops": {"nightly_reindex_op": {"config": {"collection": "sample"}}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
        )
        assert done.success
        live = live_generation(runtime, "sample")
        with runtime.database.transaction() as connection:
            rows = connection.execute(
                "SELECT chunk_id FROM index_entry WHERE generation_id = %s", (live.id,)
            ).fetchall()
        return store.latest(runtime, live)[1], {row[0] for row in rows}


def test_the_sample_corpus_end_to_end(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named_model_cache: Path
) -> None:
    monkeypatch.setenv("RAG_CONFIG", str(REPOSITORY / "rag_assets.toml"))
    monkeypatch.setenv("RAG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAG_POSTGRES_URL", postgres_url)
    found = load_settings()
    changed: dict[str, Any] = {
        "retrieval": RetrievalSettings(mode="dense"),
        "benchmark": found.benchmark.model_copy(update={"enabled": False}),
        "evaluation": found.evaluation.model_copy(update={"answer_questions": 1}),
    }
    # Every other question, which is enough to tell stores apart and half the time.
    sample = found.collections["sample"]
    assert sample.questions is not None
    some = sample.questions.read_text(encoding="utf-8").splitlines(keepends=True)[::2]
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(some), encoding="utf-8")
    # What is judged here is the store: neither the answers nor the machine.
    gates = GateSettings(search_p95_seconds=60)
    changed["collections"] = {"sample": sample.model_copy(update={"questions": questions, "gates": gates})}
    settings = found.model_copy(update=changed)
    before, rows = night(settings)
    with FakeWeaviate() as fake:
        outside = settings.weaviate.model_copy(update=fake.settings)
        after, same_rows = night(settings.model_copy(update={"store": "weaviate", "weaviate": outside}))
        held = {item.properties["chunk_id"] for item in fake.objects("RagAssets_Sample").values()}

    assert held == same_rows == rows
    assert after.ann_recall is not None
    assert after.ann_recall.mean > 0.99
    one, other = before.retrieval["ndcg@10"], after.retrieval["ndcg@10"]
    print(
        f"nDCG@10 of {one.n_total} questions over {len(rows)} chunks: pgvector {one.value:.4f}, Weaviate {other.value:.4f}"
    )
    assert abs(one.value - other.value) < 0.005
    assert after.verdict == "pass"
