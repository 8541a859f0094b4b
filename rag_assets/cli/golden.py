"""``questions check``, ``draft`` and ``accept``: the golden set itself."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from rag_assets.cli.main import common, fail, main, reporting, working
from rag_assets.cli.output import emit, excerpt

questions_option = click.option(
    "--questions", type=click.Path(path_type=Path), help="Question file (JSON Lines); default: the collection's."
)


@main.group()
def questions() -> None:
    """Golden questions: check the set, draft more, accept drafts."""


@questions.command()
@common
@questions_option
def check(source: Path | str | None, collection: str | None, as_json: bool, questions: Path | None) -> None:
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


@questions.command()
@common
@questions_option
@click.option("-n", "count", type=click.IntRange(1, 1000), default=20, show_default=True, help="Questions wanted.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Drafts file; default: questions.draft.jsonl beside the questions."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed asks about other passages.")
def draft(
    source: Path | str | None,
    collection: str | None,
    as_json: bool,
    questions: Path | None,
    count: int,
    out: Path | None,
    seed: int,
) -> None:
    """Propose questions about documents that none asks about yet, with the language model of answers.model.

    They are drafts until a person accepts them. Drafts that are in the file already are kept.
    """
    with reporting(as_json), working(source, collection, as_json=as_json) as (runtime, name, bars):
        from rag_assets.evaluation.golden.drafting import draft_questions
        from rag_assets.evaluation.golden.drafts import add_drafts, known_questions
        from rag_assets.evaluation.golden.files import drafts_file

        file = questions or runtime.settings.collection(name).questions
        target = drafts_file(runtime.settings, name, out, file)
        known = [*known_questions(file), *known_questions(target, drafts=True)]
        done = draft_questions(runtime, name, known, count, seed)
        add_drafts(target, done.drafts)
        bars.__exit__(None, None, None)
        if as_json:
            emit(
                {
                    "drafts": [item.question.id for item in done.drafts],
                    "file": str(target),
                    "rejected": [asdict(item) for item in done.rejected],
                    "reasons": done.reasons,
                    "model": done.model,
                    "spent": asdict(done.spent),
                }
            )
            return
        click.echo(f"{len(done.drafts)} of {count} questions drafted by {done.model}: {target}")
        for reason, times in done.reasons.items():
            click.echo(f"  rejected, {times} ×: {reason}")
        cost = f", {done.spent.cost_usd:.4f} USD" if done.spent.cost_usd else ""
        click.echo(f"  {done.spent.calls} calls, {done.spent.tokens:,} tokens{cost}; kept replies cost nothing")
        click.echo(f"Read them, and accept the good ones: rag-assets questions accept {target}")


@questions.command()
@common
@questions_option
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="Accept every draft that holds.")
def accept(
    source: Path | str | None,
    collection: str | None,
    as_json: bool,
    questions: Path | None,
    file: Path,
    ids: tuple[str, ...],
    everything: bool,
) -> None:
    """Move drafts from FILE into the question file: those named, --all, or, on a terminal, those you say yes to.

    Exit code 3: some were refused, because their label does not hold or the question is known; they stay drafts.
    """
    with reporting(as_json), working(source, collection, as_json=as_json) as (runtime, name, bars):
        from rag_assets.evaluation.golden.drafts import accept as move
        from rag_assets.evaluation.golden.drafts import ask_each, read_drafts
        from rag_assets.evaluation.golden.files import question_file

        target = question_file(runtime.settings, name, questions)
        waiting = read_drafts(file)
        chosen = list(ids)
        discarded: list[str] = []
        bars.__exit__(None, None, None)
        if everything:
            chosen = [item.question.id for item in waiting]
        elif not ids:
            _need_a_terminal(as_json)
            chosen, discarded = ask_each(waiting, _ask)
        done = move(runtime, name, target, file, chosen, discarded)
        if as_json:
            emit({**asdict(done), "questions": str(target)})
        else:
            click.echo(f"{len(done.accepted)} accepted into {target}, {done.left} drafts left in {file}.")
            for key, reason in done.refused.items():
                click.echo(f"  refused {key}: {reason}")
        if done.refused:
            fail(f"{len(done.refused)} drafts were refused; correct them in {file}, or leave them out.", 3, False)


def _need_a_terminal(as_json: bool) -> None:
    from rag_assets.errors import ConfigurationError

    if as_json or not sys.stdin.isatty():
        raise ConfigurationError("Say which drafts to accept: their ids, or --all. On a terminal each is shown.")


def _ask(item: Any) -> str:
    """A person's word on one draft."""
    question = item.question
    click.echo(
        f"\n{question.id} ({question.kind or 'no kind'})\n  Q: {question.question}\n  A: {question.answer or '–'}"
    )
    for label in question.relevant:
        click.echo(f"  {label.document}: “{label.quote or '–'}”")
    if item.context:
        click.echo(f"  from: {excerpt(item.context, 600)}")
    answer: str = click.prompt(
        "Accept? n deletes the draft", type=click.Choice(["y", "n", "skip", "quit"]), default="skip"
    )
    return answer
