"""A tuning for people and scripts: Markdown, JSON, and the Pareto picture. It names settings and figures, never a document."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rag_assets.evaluation.metrics.statistics import Score
from rag_assets.evaluation.report.plots import pareto_plot
from rag_assets.evaluation.tuning.results import Point, Tuning
from rag_assets.settings import Settings


@dataclass(frozen=True, slots=True)
class Written:
    """Where a tuning was written."""

    markdown: Path
    json: Path
    picture: Path


def write_tuning(tuning: Tuning, settings: Settings) -> Written:
    """Write ``<home>/reports/tuning-<collection>-<time>.md``, ``.json`` and ``.png``; later ones never replace earlier ones."""
    stamp = tuning.created_at.replace(":", "").replace("+0000", "Z")
    folder = settings.home / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"tuning-{tuning.collection}-{stamp}"
    written = Written(*(stem.with_name(f"{stem.name}.{suffix}") for suffix in ("md", "json", "png")))
    written.picture.write_bytes(picture(tuning))
    written.json.write_text(json.dumps(to_json(tuning), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    written.markdown.write_text(markdown(tuning, written.picture.name), encoding="utf-8")
    return written


def picture(tuning: Tuning) -> bytes:
    """The points as a PNG: quality against p95, the Pareto front as a line, present and recommended settings named."""
    return pareto_plot(
        [(point.timing.p95, point.quality.value or 0.0, point.pareto) for point in tuning.points],
        present=tuning.points.index(tuning.present),
        recommended=tuning.points.index(tuning.recommended),
    )


def to_json(tuning: Tuning) -> dict[str, Any]:
    """Everything, for scripts; all but ``created_at`` and the times is the same every time."""
    return {
        "collection": tuning.collection,
        "generation": tuning.generation,
        "created_at": tuning.created_at,
        "questions": {"used": tuning.questions, "chosen_with": tuning.chosen_with},
        "recommended": _point(tuning.recommended),
        "present": _point(tuning.present),
        "changes": tuning.toml != "",
        "toml": tuning.toml,
        "reasons": list(tuning.reasons),
        "confirmation": asdict(tuning.confirmation) if tuning.confirmation else None,
        "points": [_point(point) for point in tuning.points],
        "top_k": {
            "recommended": tuning.top_k,
            "measured": [
                {"top_k": size.top_k, "evidence_recall": asdict(size.evidence), "tokens": round(size.tokens, 1)}
                for size in tuning.contexts
            ],
        },
        "fingerprint": dict(tuning.fingerprint),
    }


def _point(point: Point) -> dict[str, Any]:
    return {
        "label": point.variant.label,
        "retrieval": point.variant.retrieval.model_dump(mode="json"),
        "ef_search": point.variant.ef_search,
        "ndcg@10": asdict(point.quality),
        "difference": asdict(point.difference),
        "milliseconds": asdict(point.timing),
        "pareto": point.pareto,
    }


def markdown(tuning: Tuning, image: str) -> str:
    """The report; ``image`` is the address of the picture."""
    lines = [
        f"# Tuning of {tuning.collection}",
        "",
        f"{tuning.generation}, {tuning.created_at}, {tuning.questions} golden questions, {tuning.chosen_with} of them to choose with.",
        "",
        *(f"* {reason}" for reason in tuning.reasons),
    ]
    if tuning.confirmation is not None:
        lines.append(
            f"* Over the questions held back it finds {_difference(tuning.confirmation)} nDCG@10 against the present settings."
        )
    lines += ["", f"![Quality against time]({image})", ""]
    if tuning.toml:
        lines += ["Recommended:", "", "```toml", tuning.toml.rstrip(), "```", ""]
    else:
        lines += ["Recommended: the present settings.", ""]
    lines += [*_points_table(tuning), ""]
    if tuning.contexts:
        lines += [
            "## Chunks for an answer",
            "",
            "| top_k | evidence in the context | tokens |",
            "|---:|---:|---:|",
            *(f"| {size.top_k} | {_score(size.evidence)} | {size.tokens:.0f} |" for size in tuning.contexts),
            "",
            f"Recommended: {tuning.top_k}, the fewest shown to hold as much of the evidence as the most."
            if tuning.confirmation is not None or tuning.chosen_with < tuning.questions
            else "The questions are too few to recommend another number than the present one.",
            "",
        ]
    return "\n".join(lines)


def _points_table(tuning: Tuning) -> Sequence[str]:
    rows = [
        "| settings | nDCG@10 | against the present | p50 ms | p95 ms | |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for point in tuning.points:
        marks = [
            word
            for word, holds in (
                ("Pareto", point.pareto),
                ("present", point == tuning.present),
                ("recommended", point == tuning.recommended),
                (f"{point.timing.fell_back} of {point.timing.n} out of time", point.timing.fell_back > 0),
            )
            if holds
        ]
        rows.append(
            f"| {point.variant.label} | {_score(point.quality)} | {_difference(point.difference)} | {point.timing.p50:.1f} "
            f"| {point.timing.p95:.1f} | {', '.join(marks)} |"
        )
    return rows


def _score(score: Score) -> str:
    if score.value is None:
        return "not measured"
    return f"{score.value:.3f}" + (f" [{score.low:.3f} – {score.high:.3f}]" if score.low is not None else "")


def _difference(score: Score) -> str:
    if score.value is None:
        return "not measured"
    return f"{score.value:+.3f}" + (f" [{score.low:+.3f} – {score.high:+.3f}]" if score.low is not None else "")
