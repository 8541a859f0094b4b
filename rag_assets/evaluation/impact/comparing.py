"""``compare``: which questions two generations answer differently, and what changed between them.

Both are searched now, with the same questions and the query settings of today, so that what differs is the index: how it is cut,
embedded and built, and the documents it holds. A generation that is live, or being built, holds the present documents; a retired one
those of the day it was replaced. Comparing these two therefore shows what became of the documents since, too.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rag_assets.database.generations import Generation
from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets.evaluation.golden.questions import Label, Question, question_set_hash, resolve_labels
from rag_assets.evaluation.impact.changes import (
    Fate,
    Reason,
    Seen,
    direction,
    fate,
    reasons,
    seen,
    settings_changed,
)
from rag_assets.evaluation.impact.holdings import DocumentState, held_states, is_frozen
from rag_assets.evaluation.metrics.evidence import CONTEXT_EVIDENCE, evidence_in_context
from rag_assets.evaluation.metrics.retrieval import ranked_documents, score_question
from rag_assets.evaluation.metrics.statistics import Score, paired_difference, summarise
from rag_assets.evaluation.provenance import label_texts
from rag_assets.evaluation.runner import DEPTH
from rag_assets.retrieval.filters import filters_of
from rag_assets.retrieval.search import search
from rag_assets.runtime import Runtime

METRICS = ("ndcg@10", "recall@10", "mrr@10", "hit_rate@10", CONTEXT_EVIDENCE)
"""What is compared as a whole."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two generations."""

    name: str
    state: str
    frozen: bool
    """It holds its documents as they were when it was replaced, or refused; else it follows them."""
    documents: int
    scores: Mapping[str, Score]


@dataclass(frozen=True, slots=True)
class Moved:
    """A question that the second generation answers better or worse."""

    id: str
    question: str
    direction: int
    """1: better in the second, -1: worse."""
    before: Seen
    after: Seen
    reasons: tuple[Reason, ...]
    """The nearest first; never empty."""


@dataclass(frozen=True, slots=True)
class NotCompared:
    """A question that can't be measured in both."""

    id: str
    question: str
    reason: str


@dataclass(frozen=True, slots=True)
class Impact:
    """What differs between two generations."""

    collection: str
    before: Side
    after: Side
    questions: str
    """Hash of the question set."""
    compared: int
    """Questions measured in both."""
    differences: Mapping[str, Score]
    """By metric: second minus first, paired by question."""
    moved: tuple[Moved, ...]
    """Those that lost most first, those that gained most last."""
    counts: Mapping[str, Mapping[str, int]]
    """``up`` and ``down`` of the moved questions, by the nearest reason of each."""
    documents: Mapping[str, int]
    """Documents ``added``, ``removed``, of ``another version`` and ``unchanged`` between the two."""
    settings: tuple[Reason, ...]
    """What differs in how they are made."""
    not_compared: tuple[NotCompared, ...]

    def as_json(self) -> dict[str, Any]:
        """As scripts get it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One question in one generation."""

    scores: Mapping[str, float | None]
    ranked: tuple[str, ...] = ()
    error: str | None = None


def compare_generations(
    runtime: Runtime, before: Generation, after: Generation, questions: Sequence[Question]
) -> Impact:
    """Ask both generations the same questions and say what moved, and why.

    A label counts if it holds in both; of a document that only one of them has, if it holds there – the other does not find it.

    Raises:
        ConfigurationError: no question can be measured in both.
    """
    texts = {side.id: label_texts(runtime, side, questions) for side in (before, after)}
    mine, theirs = texts[before.id], texts[after.id]
    known = {before.id: {**theirs, **mine}, after.id: {**mine, **theirs}}
    measurable, dropped, left_out = _same_labels(questions, before, after, known)
    if not measurable:
        why = left_out[0].reason if left_out else "none names a document"
        raise ConfigurationError(f"No golden question can be measured in both {before.name} and {after.name}: {why}")
    stated = {question.id: set(question.grades) for question in questions}
    asked = {side.id: _ask(runtime, side, measurable, stated, known[side.id]) for side in (before, after)}
    failed = {
        question.id: error
        for question in measurable
        for side in (before, after)
        if (error := asked[side.id][question.id].error)
    }
    compared = [question for question in measurable if question.id not in failed]
    moved = _moved(runtime, (before, after), (asked[before.id], asked[after.id]), compared, dropped)
    left_out += [NotCompared(item.id, item.question, failed[item.id]) for item in measurable if item.id in failed]
    return Impact(
        collection=before.collection,
        before=_side(runtime, before, asked[before.id]),
        after=_side(runtime, after, asked[after.id]),
        questions=question_set_hash(questions),
        compared=len(compared),
        differences={
            name: paired_difference(_values(asked[after.id], name), _values(asked[before.id], name)) for name in METRICS
        },
        moved=moved,
        counts=_counts(moved),
        documents=_documents(runtime, before, after),
        settings=settings_changed(_made(runtime, before), _made(runtime, after)),
        not_compared=tuple(sorted(left_out, key=lambda item: item.id)),
    )


def _same_labels(
    questions: Sequence[Question], before: Generation, after: Generation, texts: Mapping[int, Mapping[str, str]]
) -> tuple[list[Question], dict[str, tuple[Reason, ...]], list[NotCompared]]:
    """(questions with the labels that hold on both sides, why others of theirs were left out, questions without any)."""
    invalid: dict[str, dict[Label, list[str]]] = {}
    for side in (before, after):
        for label in resolve_labels(questions, texts[side.id]).invalid:
            names = invalid.setdefault(label.question_id, {})
            for stated in _labels(questions, label.question_id, label.document, label.quote):
                names.setdefault(stated, []).append(f"{label.reason} in {side.name}")
    measurable: list[Question] = []
    dropped: dict[str, tuple[Reason, ...]] = {}
    left_out: list[NotCompared] = []
    for question in questions:
        broken = invalid.get(question.id, {})
        kept = tuple(label for label in question.relevant if label not in broken)
        why = tuple(
            Reason("label invalid", f"label {label.document} left out: {' and '.join(dict.fromkeys(where))}")
            for label, where in broken.items()
        )
        if any(label.grade > 0 for label in kept):
            measurable.append(replace(question, relevant=kept))
            dropped[question.id] = why
        elif question.relevant:
            text = "; ".join(reason.text for reason in why) or "its labels are all of grade 0"
            left_out.append(NotCompared(question.id, question.question, f"{text}."))
    return measurable, dropped, left_out


def _labels(questions: Sequence[Question], question_id: str, document: str, quote: str | None) -> list[Label]:
    return [
        label
        for question in questions
        if question.id == question_id
        for label in question.relevant
        if (label.document, label.quote) == (document, quote)
    ]


def _ask(
    runtime: Runtime,
    generation: Generation,
    questions: Sequence[Question],
    stated: Mapping[str, set[str]],
    texts: Mapping[str, str],
) -> dict[str, _Asked]:
    found: dict[str, _Asked] = {}
    for number, question in enumerate(questions):
        filters = filters_of(question.filter)
        try:
            every = search(runtime, question.question, generation=generation, k=DEPTH, filters=filters).hits
        except RagAssetsError as error:
            found[question.id] = _Asked(dict.fromkeys(METRICS), error=f"{generation.name}: {error}")
        else:
            # A document whose label was left out is neither relevant nor a competitor: where it stands says nothing.
            unjudged = stated[question.id] - set(question.grades)
            hits = [hit for hit in every if hit.document not in unjudged]
            scores = {name: value for name, value in score_question(question, hits).items() if name in METRICS}
            if any(label.quote and label.grade > 0 for label in question.relevant):
                scores[CONTEXT_EVIDENCE] = evidence_in_context(question.relevant, texts, hits)
            found[question.id] = _Asked(scores, tuple(ranked_documents(hits)))
        runtime.progress("evaluate", number + 1, len(questions))
    return found


def _moved(
    runtime: Runtime,
    sides: tuple[Generation, Generation],
    asked: tuple[Mapping[str, _Asked], Mapping[str, _Asked]],
    questions: Sequence[Question],
    dropped: Mapping[str, tuple[Reason, ...]],
) -> tuple[Moved, ...]:
    pairs: list[tuple[Question, Seen, Seen]] = []
    for question in questions:
        old, new = (_seen(question, answers[question.id]) for answers in asked)
        if direction(old, new):
            pairs.append((question, old, new))
    named = {name for question, old, new in pairs for name in (*_relevant(question), *old.above, *new.above)}
    before, after = (held_states(runtime, side, [*named]) for side in sides)
    same_chunker = sides[0].key.chunker_fp == sides[1].key.chunker_fp

    def fate_of(document: str) -> Fate | None:
        states: tuple[DocumentState | None, DocumentState | None] = before.get(document), after.get(document)
        return None if states == (None, None) else fate(*states, same_chunker=same_chunker)

    settings = settings_changed(_made(runtime, sides[0]), _made(runtime, sides[1]))
    moved = []
    for question, old, new in pairs:
        why = (*reasons(old, new, _relevant(question), fate_of, settings), *dropped.get(question.id, ()))
        moved.append(Moved(question.id, question.question, direction(old, new), old, new, why))
    return tuple(sorted(moved, key=_by_loss))


def _by_loss(item: Moved) -> tuple[float, int, str]:
    gained = (item.after.ndcg or 0.0) - (item.before.ndcg or 0.0)
    return round(gained, 6), item.direction, item.id


def _relevant(question: Question) -> list[str]:
    return [document for document, grade in question.grades.items() if grade > 0]


def _seen(question: Question, asked: _Asked) -> Seen:
    return seen(asked.ranked, _relevant(question), asked.scores["ndcg@10"], asked.scores.get(CONTEXT_EVIDENCE))


def _side(runtime: Runtime, generation: Generation, asked: Mapping[str, _Asked]) -> Side:
    with runtime.database.transaction() as connection:
        row: Any = connection.execute(
            "SELECT count(*) FROM indexed WHERE generation_id = %s", (generation.id,)
        ).fetchone()
    scores = {name: summarise([*_values(asked, name).values()]) for name in METRICS}
    return Side(generation.name, generation.state, is_frozen(runtime, generation), int(row[0]), scores)


def _values(asked: Mapping[str, _Asked], name: str) -> dict[str, float | None]:
    return {key: item.scores[name] for key, item in sorted(asked.items()) if name in item.scores}


def _counts(moved: Iterable[Moved]) -> dict[str, dict[str, int]]:
    found = Counter((item.reasons[0].kind, item.direction) for item in moved)
    kinds = sorted({kind for kind, _ in found}, key=lambda kind: (-found[kind, 1] - found[kind, -1], kind))
    return {kind: {"up": found[kind, 1], "down": found[kind, -1]} for kind in kinds}


_DOCUMENTS = """
    SELECT count(*) FILTER (WHERE a.doc_id IS NULL), count(*) FILTER (WHERE b.doc_id IS NULL),
           count(*) FILTER (WHERE a.document_hash <> b.document_hash), count(*) FILTER (WHERE a.document_hash = b.document_hash)
    FROM (SELECT * FROM indexed WHERE generation_id = %s) a FULL JOIN (SELECT * FROM indexed WHERE generation_id = %s) b USING (doc_id)
"""


def _documents(runtime: Runtime, before: Generation, after: Generation) -> dict[str, int]:
    with runtime.database.transaction() as connection:
        row: Any = connection.execute(_DOCUMENTS, (before.id, after.id)).fetchone()
    return dict(zip(("added", "removed", "another version", "unchanged"), map(int, row), strict=True))


def _made(runtime: Runtime, generation: Generation) -> dict[str, Any]:
    """What a generation says of how it was made and is searched, as fingerprints of evaluations do."""
    key = generation.key
    made = {"chunker": key.chunker_fp, "embedder": key.embedder_fp, "index": key.index_fp}
    return {**made, "configuration": generation.config, "ef_search": runtime.beam_of(generation)}
