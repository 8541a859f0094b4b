"""``tune``: which settings suit a collection."""

from pathlib import Path

import click

from rag_assets.cli.main import common, main, reporting, working
from rag_assets.cli.output import emit


@main.command()
@common
@click.option(
    "--questions", type=click.Path(path_type=Path), help="Question file (JSON Lines); default: the collection's."
)
def tune(source: Path | str | None, collection: str | None, as_json: bool, questions: Path | None) -> None:
    """Measure retrieval under other settings with golden questions, and recommend some. Changes nothing."""
    with reporting(as_json), working(source, collection, as_json=as_json) as (runtime, name, bars):
        from rag_assets.evaluation.tuning import tune as measure
        from rag_assets.evaluation.tuning.report import to_json, write_tuning
        from rag_assets.evaluation.tuning.sweep import golden_questions

        tuning = measure(runtime, name, golden_questions(runtime, name, questions))
        written = write_tuning(tuning, runtime.settings)
        bars.__exit__(None, None, None)
        if as_json:
            emit({**to_json(tuning), "report": str(written.markdown), "picture": str(written.picture)})
            return
        for point in tuning.points:
            mark = "*" if point == tuning.recommended else "=" if point == tuning.present else " "
            click.echo(
                f"{mark} {point.quality.value:.3f} nDCG@10 ({point.difference.value:+.3f})  "
                f"p95 {point.timing.p95:>6.1f} ms  {point.variant.label}"
            )
        click.echo("(* recommended, = present)" if tuning.recommended != tuning.present else "(* present)")
        for reason in tuning.reasons:
            click.echo(reason)
        click.echo(f"\n{tuning.toml}" if tuning.toml else "Nothing to change.")
        click.echo(f"report: {written.markdown}")
