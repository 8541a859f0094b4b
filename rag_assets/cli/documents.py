"""``plan``, ``sync`` and ``status``: what the index is made of."""

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rag_assets.cli.main import common, fail, importing_much, main, remember_source, reporting, working
from rag_assets.cli.output import emit, rows

if TYPE_CHECKING:
    from rag_assets.indexing.planning import Planned
    from rag_assets.indexing.sync import Runner
    from rag_assets.runtime import Runtime
    from rag_assets.stamp import Stamp

_SHOWN = 20
"""Rows of a list that are printed; --json has them all."""
_NAMED_EACH = 3
"""Files named one by one for the same reason."""


@main.command()
@common
@click.option("--verify", is_flag=True, help="Hash every file instead of trusting its size and modification time.")
@click.option("--allow-mass-delete", is_flag=True, help="Plan the removals the mass-delete guard would hold back.")
def plan(
    source: Path | str | None, collection: str | None, as_json: bool, verify: bool, allow_mass_delete: bool
) -> None:
    """Say what a sync would do, why, and how much of it. Changes nothing."""
    with reporting(as_json), working(source, collection, as_json=as_json) as (runtime, name, bars):
        from rag_assets.indexing.planning import make_plan
        from rag_assets.indexing.preview import preview

        planned = make_plan(runtime, name, verify=verify, allow_mass_delete=allow_mass_delete)
        found = preview(runtime, planned)
        bars.__exit__(None, None, None)
        if as_json:
            emit({"collection": name, **asdict(found)})
            return
        if planned.plan.is_empty and not found.withheld and not found.reasons:
            click.echo(f"{name}: nothing to do; {found.documents['unchanged']:,} documents are up to date.")
            return
        click.echo(f"{name}: a sync would")
        for reason in found.reasons:
            click.echo(f"  · {reason}")
        accuracy = "" if found.exact else " (scaled up from a sample)"
        click.echo(
            f"  = {found.chunks['added']:,} chunks to add, {found.chunks['removed']:,} to remove, "
            f"{found.embeddings['computed']:,} texts to embed ({found.tokens:,} tokens), "
            f"{found.embeddings['reused']:,} vectors reused{accuracy}"
        )
        cost = found.estimated_cost_usd
        money = "cost unknown (embedder.usd_per_million_tokens is not set)" if cost is None else f"{cost:.2f} USD"
        click.echo(f"  ≈ {found.estimated_seconds:,.0f} s, {money}")
        if found.changes:
            listed = [(change["kind"], change["document"], change["reason"]) for change in found.changes[:_SHOWN]]
            rows("", ("", "document", "reason"), listed)
            _more(len(found.changes))


@main.command()
@common
@click.option("--verify", is_flag=True, help="Hash every file instead of trusting its size and modification time.")
@click.option("--allow-mass-delete", is_flag=True, help="Confirm that documents that vanished all at once are gone.")
@click.pass_obj
def sync(
    stamp: "Stamp | None",
    source: Path | str | None,
    collection: str | None,
    as_json: bool,
    verify: bool,
    allow_mass_delete: bool,
) -> None:
    """Bring the index up to date: plan, update the dirty shards, check, promote."""
    if verify or allow_mass_delete:
        # The next one shall look, too.
        stamp = None
    with reporting(as_json), working(source, collection, as_json=as_json) as (runtime, name, bars):
        from rag_assets.settings import load_settings

        plans: list[Planned] = []

        def same_settings() -> bool:
            named = collection or os.environ.get("RAG_COLLECTION")
            again = load_settings(source=source, collection=named)
            return again == runtime.settings and again.target(named) == name

        def accepted(planned: "Planned") -> None:
            # A mistyped folder must not become the one that later commands use.
            with stamp.remembering(same_settings) if stamp is not None else nullcontext():
                remember_source(source, name)
            plans.append(planned)

        if stamp is not None:
            stamp.begin(runtime, name)
        report = run_sync(runtime, name, verify=verify, allow_mass_delete=allow_mass_delete, accepted=accepted)
        bars.__exit__(None, None, None)
        problem = report.refused or _withheld(report)
        if as_json:
            emit({**asdict(report), **({"error": problem, "exit_code": 3} if problem else {})})
        else:
            click.echo(described(report))
        if problem:
            fail(problem, 3, False)
        if stamp is not None and plans:
            stamp.write(runtime, plans[0], report, lambda found: None if as_json else described(found))


def _withheld(report: Any) -> str | None:
    """What the mass-delete guard has to say, if it held anything back."""
    if not report.withheld:
        return None
    return (
        f"{len(report.withheld):,} of the indexed documents vanished at once, so none of them was deleted. If they are really "
        "gone, run it again with --allow-mass-delete; if this is another folder, give it its own --collection NAME."
    )


def run_sync(
    runtime: "Runtime",
    collection: str,
    *,
    verify: bool = False,
    allow_mass_delete: bool = False,
    accepted: "Callable[[Planned], None]" = lambda _: None,
) -> Any:
    """A sync whose runs are Dagster runs in this process; Dagster is imported only when there is something to run."""
    from rag_assets.indexing.sync import sync as bring_up_to_date

    return bring_up_to_date(
        runtime,
        collection,
        lambda: local_runner(runtime),
        verify=verify,
        allow_mass_delete=allow_mass_delete,
        accepted=accepted,
    )


def local_runner(runtime: "Runtime") -> "Runner":
    """What materializes assets in this process; importing Dagster costs a second, so only when there is something to run."""
    with importing_much():
        from rag_assets.definitions import build_definitions
        from rag_assets.defs.local import LocalRunner

    return LocalRunner(runtime, build_definitions(runtime=runtime, pooled=False))


def described(report: Any) -> str:
    """A sync in a few lines."""
    documents = report.documents
    if report.nothing_changed and not report.withheld:
        lines = [f"{report.collection}: nothing changed; {documents['unchanged']:,} documents, 0 texts embedded."]
    else:
        done = ", ".join(
            f"{documents[key]:,} {key.replace('_', ' ')}"
            for key in ("added", "changed", "renamed", "removed", "metadata_only", "reindexed", "unchanged")
            if documents[key]
        )
        lines = [
            f"{report.collection}: {done or 'no documents'}",
            f"  {report.chunks['added']:,} chunks added, {report.chunks['removed']:,} removed, {report.chunks['total']:,} in all; "
            f"{report.embeddings['computed']:,} texts embedded, {report.embeddings['reused']:,} vectors reused; "
            f"{report.seconds['total']:.1f} s",
        ]
        if report.generation["promoted"]:
            lines.append(f"  {report.generation['name']} is live.")
        if report.rebuilt_because:
            lines.append(f"  A new index was built beside the live one: {report.rebuilt_because}.")
    if documents["quarantined"]:
        files = "file is" if documents["quarantined"] == 1 else "files are"
        lines.append(f"  {documents['quarantined']:,} {files} not indexed; `rag-assets status` says why.")
    return "\n".join(lines)


@main.command()
@common
@click.argument("documents", nargs=-1)
def retry(source: Path | str | None, collection: str | None, as_json: bool, documents: tuple[str, ...]) -> None:
    """Try files again that could not be parsed: DOCUMENTS as `status` shows them, or all of them."""
    with reporting(as_json), working(source, collection, as_json=as_json) as (runtime, name, bars):
        from rag_assets.indexing.planning import ask_retry

        asked = ask_retry(runtime, name, documents or None)
        report = run_sync(runtime, name)
        bars.__exit__(None, None, None)
        if as_json:
            emit({"retried": asked, **asdict(report)})
            return
        click.echo(f"{len(asked):,} files tried again.")
        click.echo(described(report))


@main.command()
@common
def status(source: Path | str | None, collection: str | None, as_json: bool) -> None:
    """Show collections, generations, what is not indexed and why, sizes and health."""
    with reporting(as_json), working(source, collection, as_json=as_json) as (runtime, name, _):
        from rag_assets.indexing.status import describe

        found = describe(runtime, name)
        if as_json:
            emit(found)
            return
        for item in found["collections"]:
            _print_collection(item)
        database, embedder = found["database"], found["embedder"]
        click.echo(f"database: {database['kind']}, PostgreSQL {database['version']}, pgvector {database['pgvector']}")
        click.echo(f"embedder: {embedder['model']} ({embedder['backend']}, fingerprint {embedder['fingerprint'][:12]})")


def _print_collection(item: dict[str, Any]) -> None:
    live = item["live_generation"] or "nothing live yet"
    click.echo(
        f"{item['name']}: {item['documents']:,} documents, {item['chunks']:,} chunks, live: {live}  ({item['source']})"
    )
    if item["generations"]:
        widened = ("ef_search",) if "ef_search" in item["generations"][0] else ()
        columns = ("generation", "state", "chunks", "bytes", *widened, "promoted", "reason")
        rows(
            "generations",
            columns,
            [[_readable(column, row[column]) for column in columns] for row in item["generations"]],
        )
    if item["quarantined"]:
        listed = _by_reason(item["quarantined"])
        rows("not indexed", ("document", "reason"), listed[:_SHOWN])
        _more(len(listed))


def _readable(column: str, value: Any) -> Any:
    return value[:16].replace("T", " ") if column == "promoted" and value else value


def _by_reason(quarantined: list[dict[str, str]]) -> list[tuple[str, str]]:
    """(document, reason), rare reasons first; of many files with one reason only the first is named."""
    groups: dict[str, list[str]] = {}
    for row in quarantined:
        groups.setdefault(row["reason"], []).append(row["document"])
    listed = []
    for reason, documents in sorted(groups.items(), key=lambda group: len(group[1])):
        if len(documents) > _NAMED_EACH:
            documents = [f"{documents[0]} and {len(documents) - 1:,} more"]
        listed += [(document, reason) for document in documents]
    return listed


def _more(total: int) -> None:
    if total > _SHOWN:
        click.echo(f"  … and {total - _SHOWN:,} more; --json lists them all.")
