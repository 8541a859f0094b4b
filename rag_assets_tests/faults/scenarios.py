"""Histories of an index: what was there, what changed, and the piece of work that a fault happens to."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from rag_assets.stores.lexical_compaction import TIER
from rag_assets_tests.driving import corpus, write
from rag_assets_tests.faults import work
from rag_assets_tests.faults.processes import Job, completed
from rag_assets_tests.faults.subject import Subject

Change = Callable[[Path], None]
SMALLER = {"chunking": {"max_tokens": 24}}
OTHER_MODEL = {"embedder": {"model": "2"}}
OTHER_GRAPH = {"index": {"m": 8}}
EDITED = "d00.md"
FORGOTTEN = "d03.md"


def nothing(source: Path) -> None:
    """The folder stays as it is."""


def build(subject: Subject) -> None:
    """Six documents, indexed and live."""
    corpus(subject.source, 6)
    write(subject.source, "front.md", "---\nteam: red\n---\n# Front matter\n\nIt has metadata above its text.\n")
    completed(work.sync_once, subject)


def edit(source: Path) -> None:
    """One of everything that can happen to a file."""
    write(source, "d00.md", "# Document 0\n\nAll of it was written anew, in two paragraphs.\n\nThis is the second.\n")
    write(source, "new/e00.md", "# Added\n\nIt was not there before.\n")
    (source / "d01.md").unlink()
    (source / "d02.md").rename(source / "moved.md")
    write(source, "front.md", "---\nteam: blue\n---\n# Front matter\n\nIt has metadata above its text.\n")
    write(source, "twin.md", (source / "d03.md").read_text())
    write(source, "d04.md", "")
    (source / "broken.docx").write_bytes(b"PK\x03\x04 this is no document")


def edit_again(source: Path) -> None:
    """A newer state than ``edit`` leaves."""
    write(source, "d00.md", "# Document 0\n\nThe newest text of all.\n")
    write(source, "d03.md", "# Document 3\n\nThis one changed as well.\n")
    write(source, "latest.md", "# Latest\n\nAdded last.\n")
    write(source, "d01.md", "# Document 1\n\nIt had been deleted, and is back with another text.\n")
    (source / "d05.md").unlink(missing_ok=True)


@dataclass(frozen=True)
class Scenario:
    """A prepared index, a change of its folder and settings, and the work."""

    name: str
    prepare: Callable[[Subject], None] | None = None
    """What happens before, to an index that was built (see :func:`build`)."""
    change: Change = nothing
    settings: Mapping[str, Any] = field(default_factory=dict)
    job: Job = work.sync_once
    arguments: tuple[Any, ...] = ()
    finish: Callable[[Subject], None] | None = None
    """What a person does again after the fault, before the sync that must make everything right."""
    keeps_recipe: bool = False
    """True when the work does not aim at the configured index (a rollback does not)."""
    gone: str | None = None
    """A document that must be in no table at the end, though its file is there."""
    first: bool = False
    """True when nothing is built yet, and ``prepare`` begins with an empty folder."""


def _other_model(subject: Subject) -> None:
    completed(work.sync_once, subject.under(**OTHER_MODEL))


def _other_graph(subject: Subject) -> None:
    completed(work.sync_once, subject.under(sync={"keep_retired": 1}, **OTHER_GRAPH))


def _unpublished(subject: Subject) -> None:
    completed(work.build_only, subject.under(**OTHER_MODEL))


def _abandoned(subject: Subject) -> None:
    completed(work.build_only, subject.under(**SMALLER, **OTHER_MODEL))


def _without_graph(subject: Subject) -> None:
    _execute(
        subject, "DO $$ BEGIN EXECUTE 'DROP INDEX index_entry_g' || (SELECT max(id) FROM generation) || '_hnsw'; END $$"
    )


def damage(subject: Subject) -> None:
    """By hand: a row deleted, one forged, one too many, a vector lost, and a segment of posting lists."""
    nth = "(SELECT chunk_id FROM index_entry ORDER BY chunk_id OFFSET {} LIMIT 1)".format
    _execute(
        subject,
        f"UPDATE index_entry SET text = 'forged' WHERE chunk_id = {nth(1)}",
        "INSERT INTO index_entry SELECT generation_id, 'twin', doc_id, text_hash, text, payload, embedding, embedder_fp"
        f" FROM index_entry WHERE chunk_id = {nth(2)}",
        f"DELETE FROM embedding WHERE text_hash = (SELECT text_hash FROM index_entry WHERE chunk_id = {nth(3)})",
        f"DELETE FROM index_entry WHERE chunk_id = {nth(0)}",
        "DELETE FROM lexical_segment WHERE id = (SELECT min(id) FROM lexical_segment)",
    )


def many_segments(subject: Subject) -> None:
    """So many small writes that the next one has their segments merged."""
    for number in range(2 * TIER):
        write(subject.source, EDITED, f"# Document 0\n\nVersion {number} of it.\n")
        completed(work.sync_once, subject)


def _execute(subject: Subject, *statements: str) -> None:
    with psycopg.connect(subject.url) as connection:
        connection.execute("SET search_path = rag, public")
        for statement in statements:
            connection.execute(statement)  # type: ignore[call-overload]


def again(job: Job) -> Callable[[Subject], None]:
    """Do the same work once more."""
    return lambda subject: (completed(job, subject), None)[1]


def _forget(subject: Subject) -> None:
    completed(functools.partial(work.forget, again=True), subject, FORGOTTEN)


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("first-build", lambda subject: corpus(subject.source, 6), first=True),
        Scenario("edits", change=edit),
        Scenario("chunking", change=edit, settings=SMALLER),
        Scenario("model", change=edit, settings=OTHER_MODEL),
        Scenario("graph", change=edit, settings=OTHER_GRAPH),
        Scenario("promotion", _unpublished, settings=OTHER_MODEL, job=work.publish),
        Scenario("rollback", _other_model, edit, OTHER_MODEL, work.roll_back, keeps_recipe=True),
        Scenario("dropping", _other_graph, edit, {"sync": {"keep_retired": 1}, **OTHER_MODEL}),
        Scenario("reconcile", damage, job=work.reconcile_live, finish=again(work.reconcile_live)),
        Scenario("forget", job=work.forget, arguments=(FORGOTTEN,), finish=_forget, gone=FORGOTTEN),
        Scenario("rebuild", _without_graph, edit, job=work.nightly_run, finish=again(work.nightly_run)),
        Scenario("replacing", change=edit, settings={"sync": {"rebuild_change_share": 0.1, "rebuild_change_rows": 0}}),
        Scenario("garbage", _abandoned, job=work.collect_garbage, finish=again(work.collect_garbage)),
        Scenario("merging", many_segments, edit),
        Scenario("resharding", change=edit, settings={"sync": {"shards": 3}}),
    )
}
