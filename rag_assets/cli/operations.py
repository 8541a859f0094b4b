"""``doctor``, ``promote``, ``rollback``, ``forget`` and ``demo``: running the thing."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from rag_assets.cli.documents import described, local_runner, run_sync
from rag_assets.cli.main import common, main, reporting, working
from rag_assets.cli.output import emit, rows
from rag_assets.errors import GateRefused, RagAssetsError

_DEMO_QUESTIONS = (
    "Is Denys-Drash syndrome inherited?",
    "How many career sacks did Jared Allen have?",
    "What are the symptoms of Barraquer-Simons syndrome?",
)


@main.command()
@common
def rollback(source: Path | str | None, collection: str | None, as_json: bool) -> None:
    """Make the generation that was live before answer again. Takes a second; nothing is rebuilt."""
    with reporting(as_json), working(source, collection, as_json=as_json) as (runtime, name, _):
        from rag_assets.indexing import promotion

        done = promotion.rollback(runtime, name, who="rag-assets rollback")
        if as_json:
            emit({"live": done.live.name, "previous": done.previous.name if done.previous else None})
        else:
            click.echo(f"{done.live.name} is live again (was {done.previous.name if done.previous else 'nothing'}).")


@main.command()
@common
def promote(source: Path | str | None, collection: str | None, as_json: bool) -> None:
    """Evaluate the generation the present configuration asks for, and make it live if it passes its gates.

    This is also what brings back a generation that was rolled back.
    """
    with reporting(as_json), working(source, collection, as_json=as_json) as (runtime, name, _):
        from rag_assets.indexing.hnsw_index import existing_target
        from rag_assets.indexing.promotion import reinstate

        again = reinstate(runtime, name)
        target = existing_target(runtime, name)
        if again is not None:
            report = run_sync(runtime, name)
            if report.refused:
                raise GateRefused(report.refused)
        elif not target.is_live:
            local_runner(runtime).publish(name)
        if as_json:
            emit({"live": target.name, "changed": not target.is_live})
        else:
            click.echo(f"{target.name} is live{' already' if target.is_live else ''}.")


@main.command()
@common
@click.argument("document")
@click.option("--undo", is_flag=True, help="Let a forgotten document back in with the next sync.")
def forget(source: Path | str | None, collection: str | None, as_json: bool, document: str, undo: bool) -> None:
    """Remove DOCUMENT (its path as `search` shows it) from every table, generation and cache, and show the evidence."""
    with reporting(as_json), working(source, collection, as_json=as_json) as (runtime, name, _):
        from rag_assets.indexing.forgetting import forget as forget_document
        from rag_assets.indexing.forgetting import remember

        if undo:
            allowed = remember(runtime, name, document)
            emit({"document": document, "allowed_again": allowed}) if as_json else click.echo(
                f"{document} {'is let back in with the next sync' if allowed else 'was not forgotten'}."
            )
            return
        done = forget_document(runtime, name, document)
        if as_json:
            emit(asdict(done))
            return
        rows(f"{document} is forgotten", ("table", "rows removed", "rows left"),
             [(table, count, done.left.get(table, 0)) for table, count in done.removed.items()])  # fmt: skip
        click.echo(
            f"{done.evaluations} stored evaluations and {done.events} records of Dagster's history blacked out, "
            f"{len(done.reports)} reports deleted."
        )
        if done.still_in_source:
            click.echo("The file is still in the source; it stays out of the index until `forget --undo`.")


@main.command()
@common
def reconcile(source: Path | str | None, collection: str | None, as_json: bool) -> None:
    """Compare the live index with the ledger, row by row, both ways, and repair what differs."""
    with reporting(as_json), working(source, collection, as_json=as_json) as (runtime, name, _):
        from rag_assets.indexing.reconcile import reconcile_live

        found = reconcile_live(runtime, name)
        if found is None:
            raise RagAssetsError(f"Collection {name!r} has no live index yet. Run `rag-assets sync` first.")
        if as_json:
            emit({"generation": found.generation.name, "before": asdict(found.before), "after": asdict(found.after),
                  "repaired_documents": found.repaired_documents, "rebuilt_index": found.rebuilt_index,
                  "rebuilt_lexical": found.rebuilt_lexical})  # fmt: skip
            return
        before = found.before
        click.echo(
            f"{found.generation.name}: {before.rows:,} rows; {before.missing} missing, {before.extra} extra, {before.wrong} wrong, "
            f"{before.unreachable} unreachable, {before.truncated} truncated, {before.lexical} wrong in the lexical index, {before.stale_documents} documents behind"
        )
        if found.repaired_documents or found.rebuilt_index or found.rebuilt_lexical:
            click.echo(f"repaired {found.repaired_documents} documents; {found.after.faults} faults left")


@main.command()
@common
def gc(source: Path | str | None, collection: str | None, as_json: bool) -> None:
    """Collect garbage: generations, chunks and vectors that nothing can reach any more. The weekly run does it, too."""
    with reporting(as_json), working(source, collection, as_json=as_json) as (runtime, name, _):
        from rag_assets.indexing.garbage import collect_garbage

        done = collect_garbage(runtime, name)
        if as_json:
            emit(asdict(done))
            return
        names = f" ({', '.join(done.generations)})" if done.generations else ""
        click.echo(
            f"{len(done.generations)} generations{names}, {done.chunks:,} chunks and {done.vectors:,} vectors deleted."
        )


@main.command()
@common
def doctor(source: Path | str | None, collection: str | None, as_json: bool) -> None:
    """Check this installation: versions, database, model, source, disk. Exit code 1 if something is broken."""
    with reporting(as_json):
        from rag_assets.doctor import examine

        findings = examine(source, collection)
        if as_json:
            emit({"ok": all(f.state != "broken" for f in findings), "findings": [f.as_json() for f in findings]})
        else:
            rows("", ("", "what", "found"), [(f.state, f.name, f.text) for f in findings])
        if any(f.state == "broken" for f in findings):
            raise SystemExit(1)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def demo(as_json: bool) -> None:
    """Index and evaluate the bundled sample corpus, and answer three questions from it."""
    with reporting(as_json), working(None, "sample", as_json=as_json) as (runtime, name, bars):
        from rag_assets.cli.questions import answer_json, print_answer, print_evaluation
        from rag_assets.evaluation import store
        from rag_assets.generation.asking import Asker
        from rag_assets.retrieval.passages import live_generation

        bars.say("Indexing and evaluating the sample corpus through the Dagster assets …")
        report = run_sync(runtime, name)
        if report.refused:
            raise GateRefused(report.refused)
        _, result = store.latest(runtime, live_generation(runtime, name))
        asker = Asker(runtime)
        answers: list[tuple[str, Any]] = [
            (question, asker.ask(question, collection=name)) for question in _DEMO_QUESTIONS
        ]
        path = store.latest_report(runtime, name)
        bars.__exit__(None, None, None)
        if as_json:
            emit({"sync": report, "report": path, "answers": [{"question": q, **answer_json(a)} for q, a in answers]})
            return
        click.echo(described(report))
        print_evaluation(result, path or "")
        for question, asked in answers:
            click.echo(f"\n{question}")
            print_answer(asked)
        click.echo("\nNext: `make dev` opens the Dagster UI with these materializations, or index your own documents:")
        click.echo("      .venv/bin/rag-assets sync --source ~/documents && .venv/bin/rag-assets ask 'Your question?'")
