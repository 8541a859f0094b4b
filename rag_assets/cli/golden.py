"""``questions check``, ``draft`` and ``accept``: the golden set itself."""

from pathlib import Path
from typing import Any

import click

from rag_assets.cli.main import common, fail, main, reporting, working
from rag_assets.cli.output import emit

questions_option = click.option(
    "--questions", type=click.Path(path_type=Path), help="Question file (JSON Lines); default: the collection's."
)


@main.group()
def questions() -> None:
    """Golden questions: check the set, draft more, accept drafts."""


@questions.command()
@common
@questions_option
def check(source: Path | None, collection: str | None, as_json: bool, questions: Path | None) -> None:
    """Is the set of golden questions sound: labels, coverage, duplicates, leaks, size? Changes nothing.

    Exit code 0: sound (warnings are allowed), 3: it has errors.
    """
    with reporting(as_json), working(source, collection, as_json=as_json) as (runtime, name, bars):
        from rag_assets.evaluation.golden.check import check_questions
        from rag_assets.evaluation.golden.files import question_file

        report = check_questions(runtime, name, question_file(runtime.settings, name, questions))
        bars.__exit__(None, None, None)
        if as_json:
            emit(report.as_json())
        else:
            print_report(report)
        if not report.sound:
            errors = sum(finding.severity == "error" for finding in report.findings)
            fail(f"{report.file} is not sound: {errors} kind(s) of error.", 3, False)


def print_report(report: Any) -> None:
    """A paragraph a section: figures, then findings, each with its cure."""
    from rag_assets.evaluation.golden.findings import SHOWN

    click.echo(f"{report.file}: {report.questions} questions about {report.generation}")
    for section in report.sections:
        click.echo(f"\n{section.name.upper()}")
        for line in section.lines:
            click.echo(f"  {line}")
        for finding in section.findings:
            click.echo(f"  {finding.severity}: {finding.text}\n    → {finding.cure}")
            for instance in finding.instances[:SHOWN]:
                click.echo(f"      {instance}")
            if len(finding.instances) > SHOWN:
                click.echo(f"      … and {len(finding.instances) - SHOWN} more (--json lists all)")
    counts = [sum(finding.severity == name for finding in report.findings) for name in ("error", "warning")]
    click.echo(f"\n{'Sound' if report.sound else 'Not sound'}: {counts[0]} errors, {counts[1]} warnings.")
