"""How much of the gold evidence an answer's context holds, by the number of chunks it is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rag_assets.database.generations import Generation
from rag_assets.evaluation.golden.questions import Question
from rag_assets.evaluation.metrics.evidence import context_evidence_recall
from rag_assets.evaluation.metrics.statistics import paired_difference
from rag_assets.evaluation.tuning.choice import as_good
from rag_assets.evaluation.tuning.results import Variant
from rag_assets.evaluation.tuning.timing import with_ef, with_no_beam
from rag_assets.generation.asking import diverse_hits, token_counter
from rag_assets.generation.packing import pack
from rag_assets.retrieval.context import Context
from rag_assets.retrieval.diversity import POOL
from rag_assets.retrieval.filters import filters_of
from rag_assets.retrieval.neighbours import gaps_between
from rag_assets.retrieval.search import search
from rag_assets.runtime import Runtime

TOP_KS = (2, 3, 4, 6, 8, 12)


@dataclass(frozen=True, slots=True)
class Measured:
    """One value of ``answers.top_k``."""

    top_k: int
    values: Mapping[str, float | None]
    """Evidence recall by question id."""
    tokens: float
    """Mean tokens of the contexts."""


def context_sizes(
    runtime: Runtime, generation: Generation, questions: Sequence[Question], variant: Variant, texts: Mapping[str, str]
) -> list[Measured]:
    """The contexts that ``ask`` would build of what a variant finds, for several ``top_k``; none where nothing is quoted."""
    quoted = [question for question in questions if any(label.quote and label.grade > 0 for label in question.relevant)]
    if not quoted:
        return []
    answers, count = runtime.settings.answers, token_counter(runtime.settings.answers.model)
    evidence: dict[int, dict[str, float | None]] = {k: {} for k in sorted({*TOP_KS, answers.top_k})}
    tokens = dict.fromkeys(evidence, 0)
    searcher = with_ef(runtime, variant.ef_search)
    for number, question in enumerate(quoted, start=1):
        found = search(
            searcher,
            question.question,
            generation=with_no_beam(generation),
            k=POOL,
            filters=filters_of(question.filter),
            retrieval=variant.retrieval,
        )
        for top_k in evidence:
            chosen = answers.model_copy(update={"top_k": top_k})
            hits = diverse_hits(found.hits, chosen, variant.retrieval)
            gaps = gaps_between(runtime, generation.collection, hits[: chosen.wanted(len(hits))])
            context = pack(hits, chosen, count, gaps)
            evidence[top_k][question.id] = context_evidence_recall(question.relevant, _spans(context), texts)
            tokens[top_k] += context.used
        runtime.progress("build contexts", number, len(quoted))
    return [Measured(top_k, values, tokens[top_k] / len(quoted)) for top_k, values in evidence.items()]


def best_top_k(measured: Sequence[Measured], present: int, margin: float, *, confirmed: bool) -> int | None:
    """The fewest chunks shown to hold as much evidence as the most; the present number where questions are too few."""
    if not measured:
        return None
    if not confirmed:
        return present
    best = max(measured, key=lambda size: sum(value or 0.0 for value in size.values.values()))
    good = [size.top_k for size in measured if as_good(paired_difference(size.values, best.values), margin)]
    return min(good, default=present)


def _spans(context: Context) -> dict[str, list[tuple[int, int]]]:
    spans: dict[str, list[tuple[int, int]]] = {}
    for passage in context.passages:
        if passage.start is not None and passage.end is not None:
            spans.setdefault(passage.document, []).append((passage.start, passage.end))
    return spans
