"""Ways to cut a collection, compared on its golden questions: quality with its noise, and what each costs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from rag_assets.chunking import chunk_document
from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets.evaluation.comparison.trial import Cut, cut_and_embed, documents_of, trial_index
from rag_assets.evaluation.comparison.variants import Variant
from rag_assets.evaluation.golden.questions import LabelReport, Question, resolve_labels
from rag_assets.evaluation.metrics.evidence import CONTEXT_CHARACTERS, evidence_in_context
from rag_assets.evaluation.metrics.retrieval import score_question
from rag_assets.evaluation.metrics.statistics import Score, paired_difference, summarise
from rag_assets.evaluation.provenance import corpus_texts
from rag_assets.models import ParsedDocument
from rag_assets.retrieval.filters import filters_of
from rag_assets.retrieval.search import search
from rag_assets.runtime import Runtime

EVIDENCE = f"evidence@{CONTEXT_CHARACTERS}"
METRICS = ("ndcg@10", "recall@10", EVIDENCE)
JUDGED_BY = ("ndcg@10", EVIDENCE)
"""What the best are chosen by: the right documents first, and the right words in what a model is given."""
_DEPTH = 100
"""Chunks retrieved per question: small ones must fill the context, too."""

Scores = dict[str, dict[str, float | None]]
"""Metric → question → value."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One variant with its scores and its cost."""

    name: str
    configured: bool
    settings: dict[str, Any]
    scores: dict[str, Score]
    chunks: int
    mean_tokens: float
    """Of a chunk, as it is embedded."""
    texts: int
    """Texts that were embedded: the different ones of the chunks, and those that ``semantic`` finds its borders by."""
    tokens: int
    """Of those texts together: what embedding costs on any machine."""
    cut_seconds: float
    embed_seconds: float
    differences: dict[str, Score] = field(default_factory=dict)
    """Against the configured variant, paired by question."""
    best: bool = False
    """No worse than the best by nDCG@10, nor than the best by evidence recall, beyond noise."""
    cheapest: bool = False
    """Of those, the one with the fewest tokens to embed."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """All variants, the configured one first."""

    collection: str
    mode: str
    documents: int
    questions: int
    """Questions that could be measured …"""
    unmeasured: int
    """… and those whose labels do not hold, or that the collection does not answer."""
    context_characters: int
    variants: tuple[Measured, ...]

    def as_json(self) -> dict[str, Any]:
        """As scripts get it."""
        return asdict(self)


def compare(
    runtime: Runtime, collection: str, variants: Sequence[Variant], questions: Sequence[Question]
) -> Comparison:
    """Cut and embed the collection's documents in every variant and ask the golden questions, the dense side exactly.

    Nothing is stored: see ``trial``. Each variant embeds all of its texts, so that its seconds can be compared.

    Raises:
        ConfigurationError: a variant's chunks would be longer than the model reads, or no question can be measured.
        RagAssetsError: the collection has no documents yet.
    """
    for variant in variants:
        chunk_document(ParsedDocument("", ()), variant.settings, runtime.embedder)
    doc_ids = documents_of(runtime, collection)
    if not doc_ids:
        raise RagAssetsError(f"Collection {collection!r} has no documents yet. Run `rag-assets sync` first.")
    texts = corpus_texts(runtime, collection, questions)
    report = resolve_labels(questions, texts)
    if not report.measurable:
        raise ConfigurationError("No golden question can be measured: " + _why(report))
    measured: list[tuple[Measured, Scores]] = []
    for number, variant in enumerate(variants):
        runtime.progress("variants", number, len(variants))
        cut = cut_and_embed(runtime, collection, doc_ids, variant.settings)
        scores = _ask(runtime, collection, cut, report.measurable, texts)
        measured.append((_measured(variant, cut, scores), scores))
    runtime.progress("variants", len(variants), len(variants))
    return Comparison(
        collection=collection,
        mode=runtime.settings.retrieval_of(collection).mode,
        documents=len(doc_ids),
        questions=len(report.measurable),
        unmeasured=len(questions) - len(report.measurable),
        context_characters=CONTEXT_CHARACTERS,
        variants=tuple(_judged(measured)),
    )


def _why(report: LabelReport) -> str:
    if report.invalid:
        label = report.invalid[0]
        return (
            f"of {len(report.invalid)} labels none holds; in {label.question_id!r} {label.document!r}: {label.reason}."
        )
    return "none names a document. Add `relevant` to the questions."


def _ask(runtime: Runtime, collection: str, cut: Cut, questions: Sequence[Question], texts: dict[str, str]) -> Scores:
    scores: Scores = {metric: {} for metric in METRICS}
    with trial_index(runtime, collection, cut) as (trial, generation):
        for number, question in enumerate(questions):
            filters = filters_of(question.filter)
            found = search(trial, question.question, generation=generation, k=_DEPTH, exact=True, filters=filters)
            values = score_question(question, found.hits, ks=(10,))
            for metric in ("ndcg@10", "recall@10"):
                scores[metric][question.id] = values[metric]
            if any(label.quote for label in question.relevant):
                scores[EVIDENCE][question.id] = evidence_in_context(question.relevant, texts, found.hits)
            runtime.progress("evaluate", number + 1, len(questions))
    return scores


def _measured(variant: Variant, cut: Cut, scores: Scores) -> Measured:
    lengths = [chunk.draft.tokens for chunk in cut.chunks]
    return Measured(
        name=variant.name,
        configured=variant.configured,
        settings=variant.settings.model_dump(mode="json"),
        scores={metric: summarise([*values.values()]) for metric, values in scores.items()},
        chunks=len(lengths),
        mean_tokens=sum(lengths) / len(lengths) if lengths else 0.0,
        texts=len(cut.tokens) + cut.border_texts,
        tokens=sum(cut.tokens.values()) + cut.border_tokens,
        cut_seconds=cut.cut_seconds,
        embed_seconds=cut.embed_seconds,
    )


def _judged(measured: Sequence[tuple[Measured, Scores]]) -> list[Measured]:
    """Every variant with its differences from the configured one, which is the first, and its marks."""
    baseline = measured[0][1]
    best = set(range(len(measured)))
    for metric in JUDGED_BY:
        best &= _within_noise([scores[metric] for _, scores in measured])
    cheapest = min(best, key=lambda number: measured[number][0].tokens, default=None)
    return [
        replace(
            variant,
            differences={} if variant.configured else {
                metric: paired_difference(scores[metric], baseline[metric]) for metric in METRICS
            },
            best=number in best,
            cheapest=number == cheapest,
        )
        for number, (variant, scores) in enumerate(measured)
    ]  # fmt: skip


def _within_noise(values: Sequence[dict[str, float | None]]) -> set[int]:
    """Which are not worse than the highest mean beyond noise; all where nothing was measured."""
    means = [summarise([*scores.values()]).value for scores in values]
    known = [mean for mean in means if mean is not None]
    if not known:
        return set(range(len(values)))
    top = values[means.index(max(known))]
    found = set()
    for number, scores in enumerate(values):
        difference = paired_difference(scores, top)
        high = difference.high if difference.high is not None else difference.value
        if high is not None and high >= 0:
            found.add(number)
    return found
