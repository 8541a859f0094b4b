"""Chunkers compared on a part of the sample corpus: the scores of a real index of each, and no trace of any."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets.evaluation.comparison import comparing as comparison
from rag_assets.evaluation.comparison.comparing import METRICS, Comparison, Measured, compare
from rag_assets.evaluation.comparison.trial import cut_and_embed, documents_of, trial_index
from rag_assets.evaluation.comparison.variants import parse_variants
from rag_assets.evaluation.golden.questions import Question, load_questions
from rag_assets.evaluation.metrics.evidence import evidence_in_context
from rag_assets.evaluation.metrics.retrieval import score_question
from rag_assets.evaluation.metrics.statistics import Score
from rag_assets.evaluation.provenance import corpus_texts
from rag_assets.retrieval.search import search
from rag_assets_tests.driving import OpenIndex, WarmRuntime, live, live_rows, query, run, write

SAMPLE = Path(__file__).parents[2] / "evals" / "sample"
CHUNKING = {"max_tokens": 64, "overlap_tokens": 8}
RELATIONS = """
    SELECT nspname, relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relkind IN ('r', 'p', 'v', 'S') AND (nspname = 'rag' OR nspname LIKE 'pg_temp%%') ORDER BY 1, 2
"""


def stored(runtime: WarmRuntime) -> dict[tuple[str, str], int]:
    """Every table, view and sequence, temporary ones of all sessions included, with what it holds."""
    found = {}
    for schema, name in query(runtime, RELATIONS):
        ((found[schema, name],),) = query(runtime, f'SELECT count(*) FROM "{schema}"."{name}"')
    return found


def questions_of(count: int) -> list[Question]:
    """Questions about Markdown documents, by name."""
    found = [
        q for q in load_questions(SAMPLE / "questions.jsonl") if q.relevant and q.relevant[0].document.endswith(".md")
    ]
    return sorted(found, key=lambda q: q.id)[:count]


@pytest.fixture
def questions(source: Path) -> list[Question]:
    found = questions_of(12)
    for question in found:
        for label in question.relevant:
            target = source / label.document
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(SAMPLE / "documents" / label.document, target)
    return found


@pytest.fixture
def sample(open_index: OpenIndex, questions: list[Question]) -> WarmRuntime:
    runtime = open_index(chunking=CHUNKING)
    run(runtime)
    return runtime


def compared(runtime: WarmRuntime, asked: str, questions: list[Question]) -> Comparison:
    return compare(runtime, "default", parse_variants(asked, runtime.chunking("default")), questions)


def live_scores(runtime: WarmRuntime, questions: list[Question]) -> dict[str, list[float | None]]:
    """What the live index scores."""
    texts = corpus_texts(runtime, "default", questions)
    scores: dict[str, list[float | None]] = {metric: [] for metric in METRICS}
    for question in questions:
        hits = search(runtime, question.question, generation=live(runtime), k=100, exact=True).hits
        values = {
            **score_question(question, hits, ks=(10,)),
            METRICS[2]: evidence_in_context(question.relevant, texts, hits),
        }
        for metric in METRICS:
            scores[metric].append(values[metric])
    return scores


def test_each_variant_scores_what_an_index_of_it_scores_and_leaves_no_trace(
    sample: WarmRuntime, open_index: OpenIndex, questions: list[Question]
) -> None:
    before, rows = stored(sample), live_rows(sample)
    found = compared(sample, "chunking=sliding:32,sentence-window:64:sentence_tokens=20,semantic,whole", questions)
    assert stored(sample) == before
    assert live_rows(sample) == rows
    assert [variant.name for variant in found.variants][:2] == ["recursive:64", "sliding:32"]
    for variant in (found.variants[0], found.variants[2]):
        other = open_index(chunking=variant.settings)
        run(other)
        expected = live_scores(other, questions)
        assert {metric: score.value for metric, score in variant.scores.items()} == {
            metric: pytest.approx(sum(value or 0 for value in values) / len(values))
            for metric, values in expected.items()
        }
        ((chunks, texts, tokens),) = query(
            other, "SELECT count(*), count(DISTINCT text_hash), avg(tokens)::float8 FROM chunk WHERE chunker_fp = "
            f"'{live(other).key.chunker_fp}'"
        )  # fmt: skip
        assert (variant.chunks, variant.texts, variant.mean_tokens) == (chunks, texts, pytest.approx(tokens))


def test_a_comparison_says_what_differs_and_by_how_much(sample: WarmRuntime, questions: list[Question]) -> None:
    found = compared(sample, "chunking=whole", questions)
    configured, whole = found.variants
    assert (found.documents, found.questions, found.unmeasured, found.mode) == (10, 12, 0, "hybrid")
    assert configured.differences == {}
    assert whole.chunks < configured.chunks
    assert whole.mean_tokens > configured.mean_tokens
    for metric in METRICS:
        before, after, difference = configured.scores[metric], whole.scores[metric], whole.differences[metric]
        assert None not in (before.value, after.value, difference.value, difference.low)
        assert difference.value == pytest.approx((after.value or 0) - (before.value or 0))
        assert difference.n_valid == 12
    assert sum(variant.cheapest for variant in found.variants) <= 1


def test_what_is_embedded_to_find_borders_is_part_of_the_cost(sample: WarmRuntime, questions: list[Question]) -> None:
    already = len(sample.embedded)
    found = compared(sample, "chunking=semantic", questions)
    assert len(sample.embedded) - already == sum(variant.texts for variant in found.variants)
    configured, semantic = found.variants
    assert semantic.texts > 2 * semantic.chunks
    assert semantic.tokens > 2 * configured.tokens


def test_a_sync_goes_on_beside_a_comparison(sample: WarmRuntime, source: Path, questions: list[Question]) -> None:
    cut = cut_and_embed(sample, "default", documents_of(sample, "default"), sample.chunking("default"))
    with trial_index(sample, "default", cut) as (trial, generation):
        write(source, "new.md", "zyzzyva zyzzyva zyzzyva\n")
        run(sample)
        assert search(sample, "zyzzyva", collection="default", k=1).hits[0].document == "new.md"
        assert all(hit.document != "new.md" for hit in search(trial, "zyzzyva", generation=generation, exact=True).hits)
    assert len(live_rows(sample)) == len(cut.chunks) + 1


def test_chunks_longer_than_the_model_reads_are_refused_before_anything_is_cut(
    sample: WarmRuntime, questions: list[Question]
) -> None:
    embedded = len(sample.embedded)
    with pytest.raises(ConfigurationError, match=r"chunking.max_tokens = 300 .* \(256 tokens\)"):
        compared(sample, "chunking=sliding:300", questions)
    assert len(sample.embedded) == embedded


def test_a_collection_without_documents_or_measurable_questions_is_named(
    open_index: OpenIndex, sample: WarmRuntime, questions: list[Question]
) -> None:
    with pytest.raises(ConfigurationError, match=r"No golden question can be measured: .*the document is not in"):
        compared(sample, "chunking=whole", [q for q in questions_of(30) if q.id not in {q.id for q in questions}][:1])
    query(sample, "DELETE FROM source_file")
    with pytest.raises(RagAssetsError, match="has no documents yet"):
        compared(sample, "chunking=whole", questions)


def variant(name: str, tokens: int) -> Measured:
    nothing = dict.fromkeys(METRICS, Score(None, None, None, 0, 0))
    return Measured(name, name == "configured", {}, nothing, 1, 1.0, 1, tokens, 0.0, 0.0)


def scores(ndcg: float, evidence: float, spread: float = 0.01) -> Any:
    values = {"ndcg@10": ndcg, "recall@10": 0.0, METRICS[2]: evidence}
    return {
        metric: {f"q{n}": value + spread * (-1) ** n for n in range(40)} for metric, value in values.items()
    }  # fmt: skip


def test_the_best_are_those_no_worse_beyond_noise_and_the_cheapest_of_them_is_marked() -> None:
    measured = [
        (variant("configured", 300), scores(0.8, 0.9)),
        (variant("cheaper, as good", 200), scores(0.8, 0.9)),
        (variant("cheap, and worse", 100), scores(0.7, 0.9)),
        (variant("evidence lost", 150), scores(0.8, 0.5)),
    ]
    judged = comparison._judged(measured)
    assert [item.best for item in judged] == [True, True, False, False]
    assert [item.name for item in judged if item.cheapest] == ["cheaper, as good"]
    assert judged[2].differences["ndcg@10"].value == pytest.approx(-0.1)


def test_a_difference_within_noise_is_none() -> None:
    noisy = {metric: {f"q{n}": float(n % 2) for n in range(40)} for metric in METRICS}
    other = {metric: {f"q{n}": float((n + n // 20) % 2) for n in range(40)} for metric in METRICS}
    judged = comparison._judged([(variant("configured", 300), noisy), (variant("other", 300), other)])
    assert [item.best for item in judged] == [True, True]
