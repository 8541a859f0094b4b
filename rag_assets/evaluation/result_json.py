"""Evaluations as JSON: in a fixed order, and what the clock decides apart from the scores."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from rag_assets.errors import RagAssetsError
from rag_assets.evaluation.metrics.statistics import DIGITS
from rag_assets.evaluation.results import EvaluationResult

_LATE = ("latency", "benchmark", "previous", "baseline", "history", "created_at", "judge_paid")
"""What the clock, a purse or another evaluation decides."""
_SCORES = ("collection", "retrieval", "answers", "by_slice", "ann_recall", "invalid_labels", "documents", "judge")
_AGAINST = ("changed", "ndcg_before")
"""What a question's result says of an earlier evaluation."""


def to_json(result: EvaluationResult, report: str | None = None) -> dict[str, Any]:
    """The result as JSON values, in a fixed order, scores rounded to 6 decimals.

    Everything the clock decides is under ``timings``, ``usage``, ``latency``, ``benchmark``, ``previous``, ``baseline``, ``history`` and in
    ``created_at``, and what a run paid its judge under ``judge_paid``, so that the rest is equal, byte for byte, between two runs over the
    same data (checks and reasons about time aside).

    Args:
        result: the evaluation.
        report: path of the report, for the ``report`` field.
    """
    data: dict[str, Any] = {"verdict": result.verdict, "report": report, **plain(result)}
    questions = data.pop("questions")
    late = {name: data.pop(name) for name in _LATE}
    timings = {question["id"]: question.pop("milliseconds") for question in questions}
    # The marks around passages are drawn anew for each prompt, and are not of equal length in tokens.
    usage = {question["id"]: question.pop("usage") for question in questions}
    return {**data, "questions": questions, **late, "timings": timings, "usage": usage}


def scores_json(result: EvaluationResult) -> dict[str, Any]:
    """The scores and what they were measured on: two evaluations of the same documents, by the same configuration, models and
    questions give this byte for byte, whichever generation it was and whatever went before.

    Verdict, checks and reasons are no part of it: they compare with a clock and with earlier evaluations.
    """
    data = to_json(result)
    questions = [{key: value for key, value in item.items() if key not in _AGAINST} for item in data["questions"]]
    fingerprint = {key: value for key, value in data["fingerprint"].items() if key != "generation"}
    return {**{name: data[name] for name in _SCORES}, "fingerprint": fingerprint, "questions": questions}


def from_json(data: Mapping[str, Any]) -> EvaluationResult:
    """Read back what ``to_json`` wrote.

    Raises:
        RagAssetsError: the data is not an evaluation of this version.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        timings, usage = data["timings"], data.get("usage", {})
        questions = [
            {**question, "milliseconds": timings[question["id"]], "usage": usage.get(question["id"])}
            for question in data["questions"]
        ]
        return TypeAdapter(EvaluationResult).validate_python({**data, "questions": questions})
    except (KeyError, TypeError, ValidationError) as error:
        raise RagAssetsError(
            f"This is not an evaluation this version can read: {error}. Run `rag-assets evaluate` to make a new one."
        ) from None


def plain(value: Any) -> Any:
    """JSON values of a dataclass, mapping or sequence; keys of mappings sorted, ``recall@5`` before ``recall@10``."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(value[key]) for key in sorted(value, key=metric_order)}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        # Adding 0.0 turns -0.0 into 0.0. JSON has no word for NaN; None is ours for "not measured".
        return round(value, DIGITS) + 0.0 if math.isfinite(value) else None
    return value


def metric_order(name: Any) -> tuple[str, int]:
    """Sort key of metric names: by name, then by the k after ``@`` as a number."""
    stem, _, k = str(name).partition("@")
    return (stem, int(k)) if k.isdecimal() else (str(name), 0)
