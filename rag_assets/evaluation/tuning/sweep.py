"""The sweep: candidate lists and reranker's scores once per question, weights judged from those, pipelines timed for real."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rag_assets.database.generations import Generation
from rag_assets.errors import ConfigurationError
from rag_assets.evaluation.golden.questions import Question, load_questions, resolve_labels
from rag_assets.evaluation.metrics.statistics import Score, paired_difference, summarise
from rag_assets.evaluation.provenance import corpus_texts, describe
from rag_assets.evaluation.tuning.choice import LEAST_QUESTIONS, not_worse, pareto, recommend, split
from rag_assets.evaluation.tuning.contexts import best_top_k, context_sizes
from rag_assets.evaluation.tuning.lists import Lists, look_up, quality, score_passages
from rag_assets.evaluation.tuning.results import ContextSize, Point, Tuning, Variant
from rag_assets.evaluation.tuning.snippet import toml_snippet
from rag_assets.evaluation.tuning.timing import time_searches
from rag_assets.evaluation.tuning.variants import all_efs, distinct, fusions, rerankings, widths, with_settings
from rag_assets.models import TokenEmbedder
from rag_assets.retrieval.passages import live_generation
from rag_assets.retrieval.rerank import LATE_INTERACTION, build_reranker
from rag_assets.runtime import Runtime
from rag_assets.stores import lexical

MOST_QUESTIONS = 200
"""Golden questions that are used of a larger set: always the same ones. Reranking them all is what takes minutes."""

Values = dict[str, dict[str, float]]
"""By label of a variant, nDCG@10 by question id."""


def golden_questions(runtime: Runtime, collection: str, questions: Path | None = None) -> Path:
    """The question file to tune with: the one given, else the collection's.

    Raises:
        ConfigurationError: there is neither.
    """
    file = questions or runtime.settings.collection(collection).questions
    if file is None:
        raise ConfigurationError(
            f"Collection {collection!r} has no golden questions to tune with. Set collections.{collection}.questions in "
            "rag_assets.toml, or pass --questions FILE to `rag-assets tune`."
        )
    return file


def tune(runtime: Runtime, collection: str, questions_file: Path) -> Tuning:
    """Measure what the collection's live index finds, and how quickly, under other settings; nothing is changed.

    Everything but the times is the same every time it is measured.

    Raises:
        ConfigurationError: the question file can't be read or is wrong, or no question of it can be measured.
        RagAssetsError: nothing is live yet, or a reranker failed.
    """
    generation = live_generation(runtime, collection)
    loaded = load_questions(questions_file)
    texts = corpus_texts(runtime, collection, loaded)
    measurable = resolve_labels(loaded, texts).measurable
    if not measurable:
        raise ConfigurationError(
            f"No question of {questions_file} names a document of {collection!r} with a quote that it holds, so nothing "
            "can be tuned by them. Correct their labels; `rag-assets evaluate` lists what is wrong with each."
        )
    choosing, confirming = (half[: MOST_QUESTIONS // 2] for half in split(measurable))
    sweep = _Sweep(runtime, generation)
    points, present, values = sweep.points(choosing)
    recommended, confirmation, reasons = _chosen(sweep, points, present, values, confirming)
    used = [*choosing, *confirming]
    contexts = context_sizes(runtime, generation, used, recommended.variant, texts)
    top_k = best_top_k(contexts, runtime.settings.answers.top_k, sweep.margin, confirmed=bool(confirming))
    return Tuning(
        collection=collection,
        generation=generation.name,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        questions=len(used),
        chosen_with=len(choosing),
        points=tuple(points),
        present=present,
        recommended=recommended,
        confirmation=confirmation,
        reasons=reasons,
        contexts=tuple(
            ContextSize(size.top_k, summarise(list(size.values.values())), size.tokens) for size in contexts
        ),
        top_k=top_k,
        toml=toml_snippet(runtime.settings, collection, present.variant, recommended.variant, top_k),
        fingerprint=describe(runtime, generation, used),
    )


class _Sweep:
    """The stages, over one generation."""

    def __init__(self, runtime: Runtime, generation: Generation) -> None:
        self._runtime, self._generation = runtime, generation
        settings = runtime.settings.retrieval_of(generation.collection).model_copy(update={"diversity": False})
        self.present = Variant(settings, runtime.beam_of(generation))
        self.margin = runtime.settings.gates_of(generation.collection).ndcg_drop
        """nDCG@10 that settings may lose and still be as good as others: what a new index may lose, too."""
        self.narrowest = generation.beam or 0
        """The beam its recall needs; 0: it needs none but the setting."""
        self._efs = all_efs(self.present)
        embedder = runtime.embedder_of(generation)
        named = settings.rerank if settings.rerank != "none" else LATE_INTERACTION
        possible = settings.rerank != "none" or isinstance(embedder, TokenEmbedder)
        self._reranker = (named, build_reranker(named, embedder)) if possible else None

    def points(self, questions: Sequence[Question]) -> tuple[list[Point], Point, Values]:
        """(the best variant of every pipeline, timed; the present settings among them; what was measured)."""
        every = self._lists(questions, "search the golden questions")
        has_lexical = lexical.settings_of(self._generation) is not None
        values: Values = {}
        found = self._measure(every, fusions(self.present, lexical=has_lexical), values)
        plain = with_settings(self.present, rerank="none")
        best = _best(found, values)
        fixed = self._runtime.store_of(self._generation).beam_is_fixed
        wider = [v for v in widths([plain, best]) if not fixed or v.ef_search == self.present.ef_search]
        found += self._measure(every, wider, values)
        if self._reranker is not None:
            name = self._reranker[0]
            origins = distinct([plain, _best(found, values)])
            found += self._measure(every, rerankings(origins, name, self.present), values)
        found += self._measure(every, [self.present], values)
        chosen = _one_per_pipeline(distinct([self.present, *found]), self.present, values)
        timings = time_searches(self._runtime, self._generation, questions, chosen)
        before = values[self.present.label]
        points = pareto(
            [
                Point(variant, summarise(_in_order(mine)), paired_difference(mine, before), timing)
                for variant, timing in zip(chosen, timings, strict=True)
                for mine in [values[variant.label]]
            ]
        )
        return points, next(point for point in points if point.variant == self.present), values

    def difference(self, questions: Sequence[Question], one: Variant, other: Variant) -> Score:
        """nDCG@10 of one variant less that of another, paired over questions neither was chosen with."""
        every, values = self._lists(questions, "confirm"), Values()
        self._measure(every, [one, other], values)
        return paired_difference(values[one.label], values[other.label])

    def _lists(self, questions: Sequence[Question], step: str) -> list[Lists]:
        found = []
        for number, question in enumerate(questions, start=1):
            found.append(look_up(self._runtime, self._generation, question, self._efs, max(self._efs)))
            self._runtime.progress(step, number, len(questions))
        return found

    def _measure(self, every: Sequence[Lists], variants: Sequence[Variant], values: Values) -> list[Variant]:
        """Measure those that are new, and return all."""
        reranked = [variant for variant in variants if variant.retrieval.rerank != "none"]
        if reranked and self._reranker is not None:
            for number, lists in enumerate(every, start=1):
                score_passages(self._reranker[1], lists, reranked)
                self._runtime.progress("rerank", number, len(every))
        for variant in variants:
            if variant.label not in values:
                values[variant.label] = quality(every, variant)
        return list(variants)


def _chosen(
    sweep: _Sweep, points: Sequence[Point], present: Point, values: Values, confirming: Sequence[Question]
) -> tuple[Point, Score | None, tuple[str, ...]]:
    """(what is recommended, how it does on the questions held back, why)."""
    if not confirming:
        return (
            present,
            None,
            (
                f"{len(values[present.variant.label])} measurable questions are too few to tell settings apart "
                f"({LEAST_QUESTIONS} are needed, half of them to confirm the choice): the table is for looking, and the "
                "present settings stay.",
            ),
        )
    chosen, reason = recommend(points, present, values, margin=sweep.margin, narrowest=sweep.narrowest)
    if chosen is present:
        return present, None, (reason,)
    confirmation = sweep.difference(confirming, chosen.variant, present.variant)
    if not_worse(confirmation, sweep.margin):
        return chosen, confirmation, (reason,)
    failed = f"{chosen.variant.label} did not hold on the questions kept back to confirm it: the present settings stay."
    return present, confirmation, (reason, failed)


def _best(variants: Sequence[Variant], values: Mapping[str, Mapping[str, float]]) -> Variant:
    """The one with the highest mean; of equals the first."""
    return max(variants, key=lambda variant: _mean(values[variant.label]))


def _one_per_pipeline(
    variants: Sequence[Variant], present: Variant, values: Mapping[str, Mapping[str, float]]
) -> list[Variant]:
    """Of variants that take the same time the best one, but the present weights unless another's gain is beyond noise."""
    groups: dict[tuple[object, ...], list[Variant]] = {}
    for variant in variants:
        groups.setdefault(variant.pipeline, []).append(variant)
    chosen = [present]
    for group in groups.values():
        best = _best(group, values)
        usual = next((variant for variant in group if _same_weights(variant, present)), best)
        gain = paired_difference(values[best.label], values[usual.label])
        chosen.append(best if gain.low is not None and gain.low > 0 else usual)
    return distinct(chosen)


def _same_weights(variant: Variant, present: Variant) -> bool:
    names = ("fusion", "dense_weight", "rerank_weight")
    return all(getattr(variant.retrieval, name) == getattr(present.retrieval, name) for name in names)


def _in_order(values: Mapping[str, float]) -> list[float]:
    return [values[name] for name in sorted(values)]


def _mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values)
