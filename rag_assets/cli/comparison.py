"""The table that ``evaluate --compare`` prints."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rag_assets.cli.output import ProgressBars, emit, rows

if TYPE_CHECKING:
    from rag_assets.evaluation.comparison.comparing import Comparison
    from rag_assets.evaluation.metrics.statistics import Score

HELP = """Instead of judging the live index, compare ways to cut the documents:
chunking=STRATEGY[:MAX_TOKENS][:SETTING=VALUE …],… with STRATEGY one of recursive, sliding, sentence-window, semantic, whole; for
example chunking=recursive,recursive:128,sliding:256:overlap_tokens=64. What is not said is as configured; the configured way is always
measured, too. Every variant is cut, embedded and searched for itself; nothing of it is stored."""


def compare_chunking(runtime: Any, name: str, file: Path, asked: str, bars: ProgressBars, *, as_json: bool) -> None:
    """Measure what ``--compare`` asks for and print it."""
    from rag_assets.evaluation.comparison.comparing import compare
    from rag_assets.evaluation.comparison.variants import parse_variants
    from rag_assets.evaluation.golden.questions import load_questions

    found = compare(runtime, name, parse_variants(asked, runtime.chunking(name)), load_questions(file))
    bars.__exit__(None, None, None)
    if as_json:
        emit(found.as_json())
    else:
        print_comparison(found)


def print_comparison(found: "Comparison") -> None:
    """One row a variant, and what the marks mean."""
    metrics = [*found.variants[0].scores]
    columns = ["", "chunking", *(_heading(metric) for metric in metrics)]
    columns += ["chunks", "tokens each", "texts", "tokens", "cut s", "embed s"]
    values = [
        (
            ("*" if variant.best else "") + ("<" if variant.cheapest else ""),
            variant.name + (" (configured)" if variant.configured else ""),
            *(_cell(variant.scores[metric], variant.differences.get(metric)) for metric in metrics),
            variant.chunks,
            round(variant.mean_tokens, 1),
            variant.texts,
            variant.tokens,
            round(variant.cut_seconds, 1),
            round(variant.embed_seconds, 1),
        )
        for variant in found.variants
    ]
    rows(
        f"{found.collection}: {found.documents} documents, {found.questions} questions, mode {found.mode}",
        columns,
        values,
    )
    click.echo(
        "Scores are means; in brackets the difference from the configured variant with its 95 % interval (paired bootstrap).\n"
        f"evidence: share of the gold quotes' characters in the first {found.context_characters:,} characters retrieved.\n"
        "* within noise of the best by nDCG@10 and by evidence;  < the cheapest of those to embed."
    )
    if found.unmeasured:
        click.echo(
            f"{found.unmeasured} questions are not measured: they name no document, or their labels do not hold."
        )


def _heading(metric: str) -> str:
    return {"ndcg@10": "nDCG@10"}.get(metric, "evidence" if metric.startswith("evidence") else metric)


def _cell(score: "Score", difference: "Score | None") -> str:
    if score.value is None:
        return "–"
    if difference is None or difference.value is None:
        return f"{score.value:.3f}"
    interval = f" {difference.low:+.3f} … {difference.high:+.3f}" if difference.low is not None else ""
    return f"{score.value:.3f} ({difference.value:+.3f}{interval and ':'}{interval})"
