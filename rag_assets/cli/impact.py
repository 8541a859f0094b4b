"""``compare``: which questions two generations answer differently, and why."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rag_assets.cli.main import common, main, reporting, working
from rag_assets.cli.output import emit, excerpt, rows
from rag_assets.cli.questions import golden_questions, questions_option

if TYPE_CHECKING:
    from rag_assets.evaluation.impact.comparing import Impact, Moved
    from rag_assets.evaluation.metrics.statistics import Score

_SHOWN = 20


@main.command()
@common
@click.argument("before", metavar="GEN_A")
@click.argument("after", metavar="GEN_B")
@questions_option
@click.option("--all", "everything", is_flag=True, help=f"List every question that moved, not only {_SHOWN}.")
def compare(
    source: Path | str | None,
    collection: str | None,
    as_json: bool,
    before: str,
    after: str,
    questions: Path | None,
    everything: bool,
) -> None:
    """Ask two retained generations the same golden questions now, and show which moved from GEN_A to GEN_B, and why.

    `rag-assets status` names generations; the number alone will do. Changes nothing.
    """
    with reporting(as_json), working(source, collection, as_json=as_json) as (runtime, name, bars):
        from rag_assets.evaluation.golden.questions import load_questions
        from rag_assets.evaluation.impact.comparing import compare_generations
        from rag_assets.evaluation.retained import retained_generation

        asked = load_questions(golden_questions(runtime, name, questions))
        sides = [retained_generation(runtime, name, side) for side in (before, after)]
        found = compare_generations(runtime, sides[0], sides[1], asked)
        bars.__exit__(None, None, None)
        if as_json:
            emit(found.as_json())
        else:
            print_impact(found, everything=everything)


def print_impact(found: "Impact", *, everything: bool) -> None:
    """A summary line, the differences, the questions that moved by reason, and each of them."""
    up = sum(item.direction > 0 for item in found.moved)
    click.echo(
        f"{found.before.name} → {found.after.name}: of {found.compared} questions {up} are answered better, "
        f"{len(found.moved) - up} worse, {found.compared - len(found.moved)} as before."
    )
    for side in (found.before, found.after):
        when = "as they were when it stopped following them" if side.frozen else "as they are now"
        click.echo(f"  {side.name} ({side.state}) holds {side.documents:,} documents {when}.")
    held = ", ".join(f"{count:,} {what}" for what, count in found.documents.items())
    click.echo(f"  documents: {held}")
    for reason in found.settings:
        click.echo(f"  {reason.text}")
    values = [
        (name, _value(found.before.scores[name]), _value(found.after.scores[name]), _change(difference))
        for name, difference in found.differences.items()
        if difference.n_total
    ]
    rows("scores", ("metric", found.before.name, found.after.name, "difference (95 %, paired)"), values)
    if found.moved:
        counted = [(kind, count["up"], count["down"]) for kind, count in found.counts.items()]
        rows("why (the nearest reason of each)", ("reason", "better", "worse"), counted)
        shown = found.moved if everything else _extremes(found.moved)
        rows("questions that moved", ("question", "moved", "why"), [_line(item) for item in shown])
        if len(shown) < len(found.moved):
            click.echo(f"The {len(shown)} that moved furthest; --all lists {len(found.moved)}.")
    for left_out in found.not_compared:
        click.echo(f"not compared: {left_out.id}: {left_out.reason}")


def _extremes(moved: tuple["Moved", ...]) -> tuple["Moved", ...]:
    """Those that moved furthest, in their order: they are sorted from the greatest loss to the greatest gain."""

    def distance(item: "Moved") -> float:
        return abs((item.after.ndcg or 0.0) - (item.before.ndcg or 0.0))

    furthest = {item.id for item in sorted(moved, key=distance, reverse=True)[:_SHOWN]}
    return tuple(item for item in moved if item.id in furthest)


def _line(item: "Moved") -> tuple[Any, ...]:
    from rag_assets.evaluation.impact.changes import movement

    arrow = "better" if item.direction > 0 else "worse"
    said = f"{arrow}: {movement(item.before, item.after)}"
    return f"{item.id}: {excerpt(item.question, 80)}", said, "; ".join(reason.text for reason in item.reasons)


def _value(score: "Score") -> str:
    return "–" if score.value is None else f"{score.value:.3f}"


def _change(score: "Score") -> str:
    if score.value is None:
        return f"withheld: {score.n_valid} of {score.n_total} measured in both"
    interval = f" ({score.low:+.3f} … {score.high:+.3f})" if score.low is not None else ""
    return f"{score.value:+.3f}{interval}, n = {score.n_valid}"
