"""A tuning of a part of the sample corpus, with words for vectors: what it measures, recommends and leaves alone."""

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

from rag_assets.errors import ConfigurationError
from rag_assets.evaluation.golden.questions import Question, load_questions
from rag_assets.evaluation.tuning import Tuning, tune
from rag_assets.evaluation.tuning.lists import candidates, look_up, ranking, score_passages
from rag_assets.evaluation.tuning.report import markdown, to_json, write_tuning
from rag_assets.evaluation.tuning.results import Variant
from rag_assets.evaluation.tuning.sweep import golden_questions
from rag_assets.evaluation.tuning.timing import searching
from rag_assets.evaluation.tuning.variants import all_efs
from rag_assets.retrieval.rerank import build_reranker
from rag_assets.settings import RetrievalSettings
from rag_assets_tests.driving import OpenIndex, WarmRuntime, live, query, run
from rag_assets_tests.fakes import FakeTokenEmbedder

SAMPLE = Path(__file__).parents[2] / "evals" / "sample"
QUESTIONS = 32
"""Just enough to be halved."""


@pytest.fixture
def tuned(open_index: OpenIndex, source: Path, tmp_path: Path) -> WarmRuntime:
    """An index of the text files that the first questions about text files name."""
    chosen = []
    for line in (SAMPLE / "questions.jsonl").read_text(encoding="utf-8").splitlines():
        names = [label["document"] for label in json.loads(line)["relevant"]]
        if names and all(name.endswith((".md", ".txt")) for name in names) and len(chosen) < QUESTIONS:
            chosen.append(line)
            for name in names:
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(SAMPLE / "documents" / name, source / name)
    assert len(chosen) == QUESTIONS
    file = tmp_path / "questions.jsonl"
    file.write_text("\n".join(chosen) + "\n", encoding="utf-8")
    runtime = open_index(
        collection={"questions": file}, chunking={"max_tokens": 128, "overlap_tokens": 16}, sync={"shards": 1}
    )
    model = runtime.settings.embedder.model
    runtime.fakes[model] = FakeTokenEmbedder(version=model, dimension=64)
    run(runtime)
    return runtime


def file_of(runtime: WarmRuntime) -> Path:
    return golden_questions(runtime, "default")


def timeless(tuning: Tuning) -> list[dict[str, Any]]:
    """The points without what the clock decides."""
    points = to_json(tuning)["points"]
    return sorted(
        ({key: point[key] for key in ("label", "ndcg@10", "difference")} for point in points),
        key=lambda point: str(point["label"]),
    )


def test_a_tuning_measures_recommends_and_changes_nothing(tuned: WarmRuntime) -> None:
    before = query(tuned, "SELECT count(*), max(id) FROM evaluation_run")
    settings = tuned.settings.model_copy(deep=True)
    found = tune(tuned, "default", file_of(tuned))
    assert tuned.settings == settings
    assert query(tuned, "SELECT count(*), max(id) FROM evaluation_run") == before
    assert (found.questions, found.chosen_with) == (QUESTIONS, QUESTIONS // 2)
    modes = {point.variant.retrieval.mode for point in found.points}
    reranked = [point for point in found.points if point.variant.retrieval.rerank == "late-interaction"]
    assert modes == {"dense", "lexical", "hybrid"}
    assert {point.variant.retrieval.rerank_depth for point in reranked} >= {20, 50}
    assert len({point.variant.pipeline for point in found.points}) >= 8
    assert all(point.timing.n == QUESTIONS // 2 and point.timing.p95 >= point.timing.p50 for point in found.points)
    assert found.present in found.points
    assert found.recommended in found.points
    assert found.present.variant.retrieval == tuned.settings.retrieval
    if found.recommended != found.present:
        # Everything it says must be readable as settings.
        assert tomllib.loads(found.toml)
        assert found.confirmation is not None
        assert found.confirmation.n_valid == QUESTIONS // 2
    assert [size.top_k for size in found.contexts] == [2, 3, 4, 6, 8, 12]
    evidence = [size.evidence.value or 0.0 for size in found.contexts]
    assert evidence == sorted(evidence)
    assert 0.3 < evidence[0] <= evidence[-1] <= 1
    # A file for people, one for scripts, one picture.
    written = write_tuning(found, tuned.settings)
    text = written.markdown.read_text(encoding="utf-8")
    assert written.markdown.parent == tuned.settings.home / "reports"
    assert f"]({written.picture.name})" in text
    assert all(point.variant.label in text for point in found.points)
    assert json.loads(written.json.read_text(encoding="utf-8")) == to_json(found)
    assert written.picture.read_bytes().startswith(b"\x89PNG")


VARIANTS = [
    Variant(RetrievalSettings(**settings), ef)
    for ef, settings in (
        (100, {}),
        (200, {"dense_weight": 0.8, "candidates": 50}),
        (40, {"fusion": "rrf", "candidates": 60}),
        (100, {"mode": "dense"}),
        (100, {"mode": "lexical"}),
        (100, {"rerank": "late-interaction", "rerank_depth": 20, "rerank_weight": 0.7, "rerank_seconds": 100}),
        (100, {"mode": "dense", "rerank": "late-interaction", "rerank_depth": 70, "rerank_seconds": 100}),
    )
]


def test_what_is_computed_from_the_lists_is_what_a_search_returns(tuned: WarmRuntime) -> None:
    generation = live(tuned)
    reranker = build_reranker("late-interaction", tuned.embedder)
    questions: list[Question] = [*load_questions(file_of(tuned))[:4], Question("rare", "zyxwomat", filter=None)]
    for question in questions:
        efs = sorted({*all_efs(VARIANTS[0]), *(variant.effective_ef for variant in VARIANTS)})
        lists = look_up(tuned, generation, question, efs, max(efs))
        score_passages(reranker, lists, [variant for variant in VARIANTS if variant.retrieval.rerank != "none"])
        for variant in VARIANTS:
            hits = searching(tuned, generation, question, variant).hits
            assert [hit.chunk_id for hit in hits] == ranking(lists, variant)[:50], variant.label
            assert len(candidates(lists, variant)) >= len(hits)


def test_few_questions_keep_the_present_settings_and_give_the_same_figures_again(
    tuned: WarmRuntime, tmp_path: Path
) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text("".join(file_of(tuned).read_text(encoding="utf-8").splitlines(keepends=True)[:5]), encoding="utf-8")
    found = tune(tuned, "default", few)
    assert (found.recommended, found.confirmation, found.toml) == (found.present, None, "")
    assert "too few" in found.reasons[0]
    assert found.top_k == tuned.settings.answers.top_k
    assert "too few" in markdown(found, "x.png")
    assert timeless(tune(tuned, "default", few)) == timeless(found)
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text('{"id": "1", "question": "?", "relevant": [{"document": "gone.md"}]}\n', encoding="utf-8")
    with pytest.raises(ConfigurationError, match="rag-assets evaluate"):
        tune(tuned, "default", wrong)


def test_a_collection_without_questions_is_refused_with_the_cure(open_index: OpenIndex) -> None:
    with pytest.raises(ConfigurationError, match=r"collections\.default\.questions"):
        golden_questions(open_index(), "default")
