"""The nightly job on the sample corpus with the offline models: it passes; a broken chunker or model does not, and nobody notices.

Minutes, not seconds: `make test-slow` runs it, `make test` leaves it out.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import rag_assets.chunking
import rag_assets.indexing.chunks
from rag_assets.chunking import chunk_document
from rag_assets.definitions import build_definitions
from rag_assets.embedding.model_files import model_folder
from rag_assets.evaluation import store
from rag_assets.generation.asking import Asker
from rag_assets.indexing import promotion
from rag_assets.runtime import Runtime
from rag_assets.settings import EmbedderSettings, Settings, load_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
REPOSITORY = Path(__file__).parents[2]
QUESTIONS = ("Is Denys-Drash syndrome inherited?", "How many career sacks did Jared Allen have?")
Open = Callable[..., Runtime]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The repository's own settings and thresholds, with a home of their own."""
    patch = pytest.MonkeyPatch()
    patch.setenv("RAG_CONFIG", str(REPOSITORY / "rag_assets.toml"))
    patch.setenv("RAG_HOME", str(tmp_path_factory.mktemp("nightly") / "home"))
    for name in ("RAG_SOURCE", "RAG_COLLECTION", "RAG_POSTGRES_URL"):
        patch.delenv(name, raising=False)
    yield load_settings()
    patch.undo()


def night(settings: Settings, **changed: Any) -> tuple[bool, Path]:
    """One nightly run under changed settings: whether it succeeded, and the page of its report."""
    changed_settings = settings.model_copy(update=changed)
    with Runtime(changed_settings) as runtime, dg.DagsterInstance.ephemeral() as instance:
        job = build_definitions(runtime=runtime).resolve_job_def("nightly_reindex")
        done = job.execute_in_process(
            instance=instance,
            run_config={
                "ops": {"nightly_reindex_op": {"config": {"collection": "sample"}}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            raise_on_error=False,
        )
        report = store.latest_report(runtime, "sample")
    assert report is not None
    return done.success, Path(report)


def answers(settings: Settings) -> list[tuple[str, str, list[str]]]:
    """What the live index answers."""
    with Runtime(settings) as runtime:
        asker = Asker(runtime)
        asked = [asker.ask(question, collection="sample") for question in QUESTIONS]
    return [(a.generation.name, a.answer.text, [c.chunk_id for c in a.answer.citations]) for a in asked]


@pytest.fixture(scope="module")
def first_night(settings: Settings) -> tuple[Path, list[tuple[str, str, list[str]]]]:
    """The report of a good night, and what is answered after it."""
    passed, report = night(settings)
    assert passed, report.with_name("report.md").read_text()[:2000]
    return report, answers(settings)


def verdict(report: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(report.with_name("evaluation.json").read_text())
    return found


def test_a_good_night_passes_its_gates_and_the_next_has_the_same_scores(
    settings: Settings, first_night: tuple[Path, object]
) -> None:
    report, _ = first_night
    assert verdict(report)["verdict"] == "pass"
    passed, again = night(settings)
    assert passed
    assert again != report
    assert again.with_name("scores.json").read_bytes() == report.with_name("scores.json").read_bytes()


def test_a_broken_chunker_is_refused_and_the_report_says_why(
    settings: Settings, first_night: tuple[Path, Sequence[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(*arguments: Any, **options: Any) -> Any:
        """Keeps the first chunk of a document alone, as a mistake in a loop would."""
        return chunk_document(*arguments, **options)[:1]

    monkeypatch.setattr(rag_assets.chunking, "CHUNKER_VERSION", 9999)
    monkeypatch.setattr(rag_assets.indexing.chunks, "chunk_document", forgetful)
    passed, report = night(settings)
    monkeypatch.undo()
    assert not passed
    page = report.read_text()
    assert verdict(report)["verdict"] == "fail"
    assert "This index must not go live" in page
    assert "evidence_recall@5 is" in page
    assert answers(settings) == first_night[1]


def test_a_truncated_model_is_refused_and_the_old_one_answers(
    settings: Settings, first_night: tuple[Path, Sequence[object]], tmp_path: Path
) -> None:
    model = one_layer(tmp_path / "truncated")
    broken = settings.retrieval.model_copy(update={"mode": "dense"})
    passed, report = night(
        settings, embedder=EmbedderSettings(backend="sentence-transformers", model=str(model)), retrieval=broken
    )
    assert not passed
    assert verdict(report)["verdict"] == "fail"
    assert "nDCG@10 is" in report.read_text()
    assert answers(settings) == first_night[1]


def one_layer(folder: Path) -> Path:
    """The bundled model with all but its first layer cut off."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(model_folder("all-MiniLM-L6-v2"), folder)
    configuration = folder / "config.json"
    configuration.write_text(json.dumps({**json.loads(configuration.read_text()), "num_hidden_layers": 1}))
    (weights,) = folder.glob("*.safetensors")
    kept = {name: w for name, w in load_file(weights).items() if ".layer." not in name or ".layer.0." in name}
    save_file(kept, weights, metadata={"format": "pt"})
    return folder


def test_rollback_restores_yesterdays_answers_exactly(settings: Settings, first_night: tuple[Path, object]) -> None:
    before = answers(settings)
    passed, _ = night(settings, chunking=settings.chunking.model_copy(update={"overlap_tokens": 0}))
    assert passed
    assert answers(settings)[0][0] != before[0][0]
    with Runtime(settings) as runtime:
        promotion.rollback(runtime, "sample", who="test")
    assert answers(settings) == before
