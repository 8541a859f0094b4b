"""From settings to a plan: list the source, look into what seems different, compare with the ledger."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from rag_assets.database import ledger
from rag_assets.database.generations import Generation
from rag_assets.documents.names import is_excluded
from rag_assets.documents.source import FileGone, FileUnreadable
from rag_assets.documents.sources import DocumentSource
from rag_assets.errors import ConfigurationError, GateRefused, UnparsableDocument
from rag_assets.fingerprint import document_id
from rag_assets.models import Listing, SkippedFile, SourceFile
from rag_assets.plan import Have, Kind, Plan, Wanted, plan, suspects
from rag_assets.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan with what it was made from."""

    plan: Plan
    listing: Listing
    have: Have
    problems: tuple[SkippedFile, ...]
    """What could not be used, unreadable files included."""
    complete: bool = True
    """False when there was no time to look into every suspect."""


def make_plan(
    runtime: Runtime,
    collection: str,
    *,
    verify: bool = False,
    allow_mass_delete: bool = False,
    only_live: bool = False,
    only_shard: int | None = None,
    deadline: float | None = None,
) -> Planned:
    """List the collection's source and plan; reads files, writes nothing.

    Args:
        runtime: the parts.
        collection: its name.
        verify: hash every file instead of trusting size and modification time.
        allow_mass_delete: a person confirmed that many documents are really gone.
        only_live: judge what is stale by the live index alone, not by the one the configuration asks for.
        only_shard: the only shard whose changes are wanted: files of others are not read without need.
        deadline: when (``time.monotonic``) to stop looking into files; the rest of the suspects are taken for changed.

    Raises:
        ConfigurationError: unknown collection, or its source is missing or refuses us.
        SourceUnavailable: the source did not answer.
    """
    settings, shards = runtime.settings.collection(collection), runtime.settings.sync.shards
    source = runtime.source(collection)
    listing = source.listing(settings.exclude)
    with runtime.database.transaction() as connection:
        forgotten = ledger.forgotten(connection, collection)
    have = _have(runtime, collection, only_live=only_live)
    looked_into = suspects(
        collection, listing, have, verify=verify, only_shard=None if only_shard is None else (shards, only_shard)
    )
    looked = _look(runtime, source, looked_into, deadline)
    if forgotten:
        listing = _without_forgotten(collection, listing, have, looked.hashes, forgotten)
    # Nothing tells of an excluded file in the listing; without this it would look as if it had vanished.
    listed = {file.path for file in listing.files}
    excluded = tuple(
        SkippedFile(state.path, state.uri, "excluded by a setting")
        for state in have.files.values()
        if state.path not in listed and is_excluded(state.uri, settings.exclude)
    )
    wanted = Wanted(
        collection,
        replace(listing, skipped=(*listing.skipped, *excluded)),
        looked.hashes,
        runtime.parser_fp,
        shards,
        looked.unreadable,
        attempt_fp=runtime.attempt_fp,
    )
    made = plan(
        wanted,
        have,
        max_vanished_share=runtime.settings.sync.max_vanished_share,
        allow_mass_delete=allow_mass_delete,
    )
    uris = {file.path: file.uri for file in listing.files}
    problems = (
        *listing.skipped,
        *(
            SkippedFile(path, uris[path], reason, unreadable=True)
            for path, reason in looked.unreadable.items()
            if path in uris
        ),
    )
    return Planned(made, listing, have, problems, complete=looked.complete)


@dataclass(frozen=True, slots=True)
class _Looked:
    """What looking into the suspects showed, each by path."""

    hashes: dict[bytes, str]
    unreadable: dict[bytes, str]
    complete: bool
    """False when there was no time for all of them."""


def _look(runtime: Runtime, source: DocumentSource, files: Sequence[SourceFile], deadline: float | None) -> _Looked:
    hashes: dict[bytes, str] = {}
    unreadable: dict[bytes, str] = {}

    def look(file: SourceFile) -> None:
        try:
            hashes[file.path] = source.digest(file.path)[0]
        except (FileGone, FileUnreadable, UnparsableDocument) as error:
            unreadable[file.path] = str(error)

    with ThreadPoolExecutor(source.parallel) as pool:
        for number in range(0, len(files), source.parallel):
            if deadline is not None and time.monotonic() > deadline:
                return _Looked(hashes, unreadable, complete=False)
            group = files[number : number + source.parallel]
            # A source that is read one file at a time is read in this thread.
            list(pool.map(look, group) if source.parallel > 1 else map(look, group))
            runtime.progress("look", number + len(group), len(files))
    return _Looked(hashes, unreadable, complete=True)


def _without_forgotten(
    collection: str, listing: Listing, have: Have, hashes: Mapping[bytes, str], forgotten: Mapping[str, str | None]
) -> Listing:
    """The listing without the files a person had removed from the index; they are shown as skipped.

    A forgotten file that was renamed is known by its content: it stays out under its new name.
    """
    ids = {file.path: document_id(collection, file.path) for file in listing.files}
    moved = {digest for doc_id, digest in forgotten.items() if digest and doc_id not in set(ids.values())}
    dropped = [
        file
        for file in listing.files
        if ids[file.path] in forgotten or (ids[file.path] not in have.files and hashes.get(file.path) in moved)
    ]
    gone = {file.path for file in dropped}
    kept = tuple(file for file in listing.files if file.path not in gone)
    reason = "was forgotten on request; `rag-assets forget --undo` lets it back"
    skipped = [*listing.skipped, *(SkippedFile(file.path, file.uri, reason) for file in dropped)]
    return Listing(kept, tuple(sorted(skipped, key=lambda item: item.path)), listing.complete)


def refuse_other_folder(runtime: Runtime, planned: Planned) -> None:
    """A source that holds more strangers than acquaintances is another folder: mixing both would answer from two.

    Raises:
        GateRefused: it is one.
    """
    plan = planned.plan
    strangers = sum(change.kind is Kind.ADDED for change in plan.changes)
    if not plan.withheld or strangers <= len(planned.have.files) - len(plan.withheld):
        return
    source = runtime.source(plan.collection).description
    raise GateRefused(
        f"{len(plan.withheld):,} of the {len(planned.have.files):,} documents indexed as {plan.collection!r} are not in "
        f"{source}, which holds {strangers:,} others. Nothing was changed. If it is another set of documents, give it its "
        "own --collection NAME; if it replaces the first, run it again with --allow-mass-delete."
    )


def _have(runtime: Runtime, collection: str, *, only_live: bool) -> Have:
    """What exists; a document is pending if the wanted index or the live one does not hold its present version."""
    judged = [live] if only_live and (live := runtime.live(collection)) else runtime.followed(collection)
    generations: list[tuple[str, Generation | None]] = [(live.key.chunker_fp, live) for live in judged]
    if not only_live or not generations:
        generations.insert(0, (runtime.key(collection).chunker_fp, runtime.target(collection)))
    with runtime.database.transaction(snapshot=True) as connection:
        found = [
            ledger.read_have(connection, collection, chunker_fp, generation.id if generation else None)
            for chunker_fp, generation in generations
        ]
    first, *others = found
    pending = {doc_id for have in found for doc_id, state in have.files.items() if state.pending}
    files = {
        doc_id: replace(state, pending=True) if doc_id in pending and not state.pending else state
        for doc_id, state in first.files.items()
    }
    return Have(files, first.orphans.union(*(have.orphans for have in others)))


def note_listing(runtime: Runtime, planned: Planned) -> None:
    """Write what a listing teaches outside any shard: problems to show, and stats of files that only look different."""
    collection = planned.plan.collection
    touched = [(document_id(collection, file.path), file) for file in planned.plan.touched]
    with runtime.database.transaction() as connection:
        ledger.ensure_collection(connection, collection)
        ledger.record_problems(connection, collection, planned.problems)
        ledger.refresh_stats(connection, touched)


def ask_retry(runtime: Runtime, collection: str, documents: Sequence[str] | None) -> list[str]:
    """Have files in quarantine tried again by the next run, all of them or those named; returns which.

    Raises:
        ConfigurationError: a named document is not in quarantine.
    """
    with runtime.database.transaction() as connection:
        asked = ledger.ask_retry(connection, collection, documents)
        unknown = sorted(set(documents or ()) - set(asked))
        if unknown:
            raise ConfigurationError(
                f"Not in quarantine in collection {collection!r}: {', '.join(unknown)}. `rag-assets status` lists what is."
            )
    return asked
