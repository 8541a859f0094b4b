"""Why a question moved between two evaluations: pure functions over what both of them saw.

A reason is what changed, not a proof: where several things changed at once all of them are named, what is nearest to the question
first – its own documents, then new or edited ones that it competes with, then the settings.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from rag_assets.evaluation.impact.holdings import DocumentState
from rag_assets.evaluation.metrics.evidence import CONTEXT_EVIDENCE
from rag_assets.evaluation.results import EvaluationResult, QuestionResult

Fate = Literal["added", "removed", "edited", "re-chunked", "retitled", "unchanged"]
Kind = Literal[
    "document added", "document removed", "document edited", "document re-chunked", "title or headings edited", "label invalid",
    "model", "chunking", "lexical index", "HNSW index", "query settings", "competitors", "unexplained",
]  # fmt: skip

_OWN: Mapping[Fate, Kind] = {
    "added": "document added",
    "removed": "document removed",
    "edited": "document edited",
    "re-chunked": "document re-chunked",
    "retitled": "title or headings edited",
}
NAMED = 3
"""Documents named in one reason; the others are counted."""
CUT_OFF = 10
"""Places that count, as in nDCG@10."""
TOLERANCE = 2e-6
"""Scores are kept with six decimals."""
EVIDENCE_TOLERANCE = 0.05
"""The white space between two chunks is in neither: a quote that a border cuts in two, and that is found, lacks a character."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that changed."""

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What one evaluation saw of a question."""

    ndcg: float | None
    """nDCG@10; None: unmeasured."""
    evidence: float | None
    """Share of the quotes in the first 4,000 characters; None: unmeasured, or no label has a quote."""
    rank: int | None
    """Of the first relevant document, counted in documents from 1; None: not among the first ten."""
    above: tuple[str, ...]
    """The others that stand before the last relevant document found, or all that are known where not every one was found."""


def seen(
    ranked: Sequence[str], relevant: Iterable[str], ndcg: float | None, evidence: float | None, rank: int | None = None
) -> Seen:
    """A ranking of distinct documents as :class:`Seen`; ``rank`` where the ranking is cut off before the tenth."""
    first, wanted = list(ranked[:CUT_OFF]), set(relevant)
    places = [place for place, document in enumerate(first, start=1) if document in wanted]
    before = first[: places[-1]] if places and len(places) == len(wanted) else first
    above = tuple(document for document in before if document not in wanted)
    return Seen(ndcg, evidence, places[0] if places else rank, above)


def direction(before: Seen, after: Seen) -> int:
    """1: better, -1: worse, 0: as before – by nDCG@10, then by the first relevant document, then by evidence."""
    for old, new, tolerance in (
        (before.ndcg, after.ndcg, TOLERANCE),
        (-(before.rank or CUT_OFF + 1), -(after.rank or CUT_OFF + 1), TOLERANCE),
        (before.evidence, after.evidence, EVIDENCE_TOLERANCE),
    ):
        if old is not None and new is not None and abs(new - old) > tolerance:
            return 1 if new > old else -1
    return 0


def movement(before: Seen, after: Seen) -> str:
    """``rank 1 → 4, nDCG@10 1.000 → 0.431, evidence 1.00 → 0.20``: what moved of it."""
    parts = [
        _moved("rank", _place(before.rank), _place(after.rank)),
        _moved("nDCG@10", _number(before.ndcg), _number(after.ndcg)),
    ]
    if abs((before.evidence or 0) - (after.evidence or 0)) > EVIDENCE_TOLERANCE:
        parts.append(_moved("evidence", _number(before.evidence), _number(after.evidence)))
    return ", ".join(parts)


def _moved(name: str, before: str, after: str) -> str:
    return f"{name} {before} → {after}" if before != after else f"{name} {after} as before"


def _place(rank: int | None) -> str:
    return str(rank) if rank is not None else f"beyond {CUT_OFF}"


def _number(value: float | None) -> str:
    return "unmeasured" if value is None else f"{value:.3f}"


def fate(before: DocumentState | None, after: DocumentState | None, *, same_chunker: bool) -> Fate:
    """What became of a document that at least one side holds."""
    if before is None:
        return "added"
    if after is None:
        return "removed"
    if before.text != after.text:
        return "edited"
    if before.chunks == after.chunks:
        return "unchanged"
    # Other ids in the same places: what is embedded with the text, its title and headings, is another.
    return "retitled" if same_chunker and before.places == after.places else "re-chunked"


def settings_changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Reason, ...]:
    """What differs between two fingerprints of evaluations, or what they say of two generations."""
    old, new = before.get("configuration", {}), after.get("configuration", {})
    sections: list[tuple[Kind, str, str]] = [
        ("model", "embedder", "the model's files or its backend are others"),
        ("chunking", "chunker", "the tokenizer, or the chunker's release, is another"),
    ]
    found = []
    for kind, name, otherwise in sections:
        if before.get(name) != after.get(name):
            section = "chunking" if kind == "chunking" else name
            found.append(Reason(kind, f"{kind}: {_difference(old.get(section), new.get(section)) or otherwise}"))
    if before.get("index") != after.get("index"):
        words, graph = (_difference(old.get(name), new.get(name)) for name in ("lexical", "index"))
        kept = _difference(*({"store": made.get("store", {"kind": "pgvector"})} for made in (old, new)))
        if kept:
            found.append(Reason("HNSW index", f"HNSW index: {kept}"))
        if words or not (graph or kept):
            found.append(Reason("lexical index", f"lexical index: {words or 'its analysis is of another release'}"))
        if graph:
            found.append(Reason("HNSW index", f"HNSW index: {graph}"))
    # An evaluation of an earlier release did not note them.
    queries = [name for name in ("ef_search", "retrieval", "bm25") if name in before and name in after]
    changed = _difference({name: before[name] for name in queries}, {name: after[name] for name in queries})
    return (*found, Reason("query settings", f"query settings: {changed}")) if changed else tuple(found)


def _difference(before: Any, after: Any) -> str:
    """``max_tokens 256 → 128, …``; empty where nothing differs."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    return ", ".join(
        f"{name} {old.get(name, '–')} → {new.get(name, '–')}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    )


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, inner in value.items() if isinstance(value, Mapping) else ():
        if isinstance(inner, Mapping):
            yield from _leaves(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", inner


def own_reasons(relevant: Iterable[str], fate_of: Callable[[str], Fate | None]) -> tuple[Reason, ...]:
    """What became of the documents that answer the question."""
    found = []
    for document in dict.fromkeys(relevant):
        became = fate_of(document)
        if became is not None and became != "unchanged":
            said = {"retitled": "its title or headings were edited"}.get(became, f"was {became}")
            found.append(Reason(_OWN[became], f"{document}{': ' if became == 'retitled' else ' '}{said}"))
    return tuple(found)


def reasons(
    before: Seen,
    after: Seen,
    relevant: Iterable[str],
    fate_of: Callable[[str], Fate | None],
    settings: Sequence[Reason],
) -> tuple[Reason, ...]:
    """Why a question moved, the nearest reason first; never empty.

    Args:
        before: what was seen first.
        after: what was seen then.
        relevant: documents that answer the question.
        fate_of: what became of a document; None: not known.
        settings: what :func:`settings_changed` found.
    """
    own = own_reasons(relevant, fate_of)
    # With other settings everything is cut, or compared, anew: what is above then needs no name unless it is new itself.
    rivals = _rivals(before, after, fate_of, only=("added", "removed", "edited") if own or settings else None)
    return (*own, *rivals, *settings) or (
        Reason(
            "unexplained", "none of the documents seen changed: other documents, or another graph, moved the scores"
        ),
    )


def _rivals(
    before: Seen, after: Seen, fate_of: Callable[[str], Fate | None], only: Sequence[Fate] | None
) -> Iterator[Reason]:
    if direction(before, after) < 0:
        where, documents = "now above it", [document for document in after.above if document not in before.above]
    else:
        where, documents = "no longer above it", [document for document in before.above if document not in after.above]
    fates = {document: fate_of(document) for document in documents}
    # What changed is named before what did not.
    named = [
        f"{document} ({became})" if became else document
        for document, became in sorted(fates.items(), key=lambda pair: pair[1] in (None, "unchanged"))
        if only is None or became in only
    ]
    if named:
        more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
        yield Reason("competitors", f"{where}: {', '.join(named[:NAMED])}{more}")


def since(result: EvaluationResult, earlier: EvaluationResult) -> tuple[QuestionResult, ...]:
    """The questions of an evaluation, with what changed since an earlier one of the same questions.

    It is said of those that moved, and of those that find less than they should though their documents changed. A document that
    neither is labelled nor was shown before is named without what became of it: nobody noted it.
    """
    before = {item.id: item for item in earlier.questions}
    settings = settings_changed(earlier.fingerprint, result.fingerprint)
    fate_of = _fates(result, earlier)
    return tuple(_with_changes(item, before.get(item.id), fate_of, settings) for item in result.questions)


def _with_changes(
    item: QuestionResult,
    earlier: QuestionResult | None,
    fate_of: Callable[[str], Fate | None],
    settings: Sequence[Reason],
) -> QuestionResult:
    old, new = (_seen(side) if side is not None else None for side in (earlier, item))
    if earlier is None or old is None or new is None or old.ndcg is None or new.ndcg is None:
        return item
    relevant = [*_relevant(earlier), *_relevant(item)]
    found: tuple[Reason, ...] = ()
    if direction(old, new):
        found = reasons(old, new, relevant, fate_of, (*_label_changes(earlier, item), *settings))
    elif new.ndcg < 1:
        found = own_reasons(relevant, fate_of)
    if not found:
        return item
    return replace(item, changed=(movement(old, new), *(reason.text for reason in found)), ndcg_before=old.ndcg)


def _label_changes(earlier: QuestionResult, item: QuestionResult) -> Iterator[Reason]:
    """Labels that hold on one side only: what was relevant is a competitor then, or the other way round."""
    before, now = set(_relevant(earlier)), set(_relevant(item))
    for documents, what in ((before - now, "no longer holds"), (now - before, "holds now")):
        for document in sorted(documents):
            yield Reason("label invalid", f"its label {document} {what}")


def _seen(item: QuestionResult) -> Seen:
    shown = dict.fromkeys(passage.document for passage in item.retrieved)
    reciprocal = item.scores.get(f"mrr@{CUT_OFF}")
    rank = round(1 / reciprocal) if reciprocal else None
    return seen([*shown], _relevant(item), item.scores.get("ndcg@10"), item.scores.get(CONTEXT_EVIDENCE), rank)


def _relevant(item: QuestionResult) -> list[str]:
    return [label.document for label in item.relevant if label.grade > 0]


def _fates(result: EvaluationResult, earlier: EvaluationResult) -> Callable[[str], Fate | None]:
    """What became of a document, as far as both evaluations noted it."""
    labelled = {label.document for side in (result, earlier) for item in side.questions for label in item.relevant}
    labelled |= {label.document for side in (result, earlier) for label in side.invalid_labels}
    same_chunker = result.fingerprint.get("chunker") == earlier.fingerprint.get("chunker")

    def fate_of(document: str) -> Fate | None:
        old, new = earlier.documents.get(document), result.documents.get(document)
        # Every labelled document that was held is noted; an evaluation of an earlier release noted none.
        known = document in labelled and bool(earlier.documents) and bool(result.documents)
        if (old is None and new is None) or (not known and (old is None or new is None)):
            return None
        return fate(old, new, same_chunker=same_chunker)

    return fate_of
