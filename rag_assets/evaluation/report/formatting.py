"""How values are worded and escaped in reports. Documents, questions and answers are untrusted."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rag_assets.evaluation.metrics.statistics import Score

_NAMES = {
    "ndcg": "nDCG",
    "recall": "Recall",
    "mrr": "MRR",
    "precision": "Precision",
    "hit_rate": "Hit rate",
    "evidence_recall": "Evidence recall",
    "evidence_ndcg": "Evidence nDCG",
    "evidence_mrr": "Evidence MRR",
    "evidence_precision": "Evidence precision",
    "context_evidence_recall": "Evidence in 4,000 characters",
    "answer_contained": "Contains the gold answer",
    "exact_match": "Exact match",
    "token_f1": "Token F1",
    "citation_correctness": "Citation correctness",
    "citation_support": "Citation support",
    "answered": "Answered when answerable",
    "abstention_correct": "Abstained when unanswerable",
    "faithfulness": "Faithfulness (judged)",
    "answer_relevancy": "Answer relevancy (judged)",
    "factual_correctness": "Factual correctness (judged)",
    "context_precision": "Context precision (judged)",
    "context_recall": "Context recall (judged)",
    "id_context_precision": "Documents given that are relevant",
    "id_context_recall": "Relevant documents given",
    "semantic_similarity": "Semantic similarity",
    "string_similarity": "String similarity",
    "rouge_l": "ROUGE-L",
    "bleu": "BLEU",
    "chrf": "chrF",
}
_PASSAGE_CHARACTERS = 500
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_MARKDOWN = re.compile(r"([\\`*_\[\]|#~$])")


@cache
def html_environment() -> Environment:
    """Templates in which every value is escaped."""
    return _environment(autoescape=True, finalize=_printable)


@cache
def markdown_environment() -> Environment:
    """Templates in which every value is escaped, but for the code spans of the ``code`` filter."""
    return _environment(autoescape=False, finalize=_markdown)


def _environment(**options: Any) -> Environment:
    environment = Environment(
        loader=PackageLoader("rag_assets.evaluation.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )
    environment.filters.update(_FILTERS)
    return environment


def display_order(metric: str) -> tuple[int, str]:
    """Sort key: the metrics people look at first, then those without a name here, by name."""
    return (list(_NAMES).index(metric) if metric in _NAMES else len(_NAMES)), metric


def metric_name(metric: str) -> str:
    """What a metric is called on paper: ``nDCG@10``."""
    stem, at, k = metric.partition("@")
    return f"{_NAMES.get(stem, stem)}{at}{k}"


def score_value(score: Score | None) -> str:
    """``0.681``, or a dash for a value that is missing or withheld."""
    return "–" if score is None or score.value is None else f"{score.value:.3f}"


def score_detail(score: Score | None) -> str:
    """What a value rests on: its interval and its counts."""
    if score is None or score.n_valid == 0:
        return "not measured"
    counts = f"{score.n_valid} of {score.n_total} questions"
    if score.value is None:
        return f"withheld: only {counts} measured"
    return "; ".join(part for part in (_interval(score), counts) if part)


def score_change(difference: Score | None) -> str:
    """A paired difference and whether it stands out from noise."""
    if difference is None or difference.value is None:
        return "no comparison"
    text = _signed(difference.value)
    if difference.low is None or difference.high is None:
        return text
    if difference.value == difference.low == difference.high == 0:
        return "no change"
    verdict = "better" if difference.low > 0 else "worse" if difference.high < 0 else "within noise"
    return f"{text} ({_signed(difference.low)} to {_signed(difference.high)}): {verdict}"


def duration(milliseconds: float) -> str:
    """Milliseconds, or seconds from 1,000 on; a no-break space before the unit."""
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:.2f}\u00a0s"
    return f"{milliseconds:.0f}\u00a0ms" if milliseconds >= 10 else f"{milliseconds:.1f}\u00a0ms"


def _interval(score: Score | None) -> str:
    return "" if score is None or score.low is None else f"{score.low:.3f} to {score.high:.3f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _moment(created_at: str) -> str:
    """An ISO 8601 time in UTC, to the minute."""
    return f"{created_at[:16].replace('T', ' ')} UTC"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}".replace("-", "−")


def _share(value: float | None) -> str:
    """0 … 1 as a percentage."""
    return "–" if value is None else f"{100 * value:.1f}\u00a0%"


def _value3(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _cells(text: str) -> Markup:
    """Cells of a Markdown table that a macro has joined, and escaped, already."""
    return Markup(text)


def _excerpt(text: str) -> str:
    """The start of a passage, cut at a word."""
    if len(text) <= _PASSAGE_CHARACTERS:
        return text
    return text[:_PASSAGE_CHARACTERS].rsplit(None, 1)[0] + " …"


def _code(text: str) -> Markup:
    """A Markdown code span: nothing inside is interpreted, and a backtick can't end it."""
    return Markup("`{}`").format(Markup(" ".join(_printable(text).replace("`", "'").split())))


def _printable(value: Any) -> Any:
    """Without control characters, which neither HTML nor terminals bear."""
    return value if isinstance(value, Markup) else _CONTROL.sub("\ufffd", str(value))


def _markdown(value: Any) -> str:
    """Text as Markdown: on one line, with nothing in it that could start a link, a tag, a table cell or a heading."""
    if isinstance(value, Markup):
        return str(value)
    line = " ".join(_printable(value).split())
    tagless = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", tagless)


_FILTERS: Mapping[str, Any] = {
    "value": score_value,
    "interval": _interval,
    "detail": score_detail,
    "change": score_change,
    "duration": duration,
    "moment": _moment,
    "number": _number,
    "share": _share,
    "value3": _value3,
    "cells": _cells,
    "excerpt": _excerpt,
    "code": _code,
}
