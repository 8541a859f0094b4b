"""``capacity``: when this machine is full."""

from pathlib import Path

import click

from rag_assets.cli.main import common, main, reporting, working
from rag_assets.cli.output import emit, rows


@main.command()
@common
def capacity(source: Path | None, collection: str | None, as_json: bool) -> None:
    """Project when the next limit of this machine is reached, from what was measured here. Changes nothing.

    All collections count; `[capacity]` in the settings states the team's growth and the thresholds.
    """
    with reporting(as_json), working(source, collection, as_json=as_json) as (runtime, _, bars):
        from rag_assets.evaluation.capacity import measure, project, tables

        found = project(measure(runtime), runtime.settings.capacity)
        bars.__exit__(None, None, None)
        if as_json:
            emit(tables.to_json(found))
            return
        rows("What this installation uses", tables.USE_COLUMNS, tables.use_rows(found))
        rows("When limits are reached", tables.LIMIT_COLUMNS, tables.limit_rows(found))
        for reason in found.unmeasured:
            click.echo(f"not projected: {reason}")
