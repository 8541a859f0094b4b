"""From settings to a plan: list the source, look into what seems different, compare with the ledger."""

from dataclasses import dataclass, replace

from rag_assets.database import ledger
from rag_assets.documents.names import is_excluded
from rag_assets.documents.source import FileGone, FileUnreadable, hash_file, list_folder
from rag_assets.errors import UnparsableDocument
from rag_assets.fingerprint import document_id
from rag_assets.models import Listing, SkippedFile
from rag_assets.plan import Have, Plan, Wanted, plan, suspects
from rag_assets.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan with what it was made from."""

    plan: Plan
    listing: Listing
    have: Have
    problems: tuple[SkippedFile, ...]
    """What could not be used, unreadable files included."""


def make_plan(
    runtime: Runtime,
    collection: str,
    *,
    verify: bool = False,
    allow_mass_delete: bool = False,
    only_live: bool = False,
) -> Planned:
    """List the collection's source and plan; reads files, writes nothing.

    Args:
        runtime: the parts.
        collection: its name.
        verify: hash every file instead of trusting size and modification time.
        allow_mass_delete: a person confirmed that many documents are really gone.
        only_live: judge what is stale by the live index alone, not by the one the configuration asks for.

    Raises:
        ConfigurationError: unknown collection, or its source is missing or not a folder.
    """
    settings = runtime.settings.collection(collection)
    listing = _without_forgotten(runtime, collection, list_folder(settings.source, settings.exclude))
    have = _have(runtime, collection, only_live=only_live)
    hashes: dict[bytes, str] = {}
    unreadable: dict[bytes, str] = {}
    looked_into = suspects(collection, listing, have, verify=verify)
    for number, file in enumerate(looked_into):
        try:
            hashes[file.path] = hash_file(settings.source, file.path)[0]
        except (FileGone, FileUnreadable, UnparsableDocument) as error:
            unreadable[file.path] = str(error)
        runtime.progress("look", number + 1, len(looked_into))
    # Nothing tells of an excluded file in the listing; without this it would look as if it had vanished.
    listed = {file.path for file in listing.files}
    excluded = tuple(
        SkippedFile(state.path, state.uri, "excluded by a setting")
        for state in have.files.values()
        if state.path not in listed and is_excluded(state.uri, settings.exclude)
    )
    seen = replace(listing, skipped=(*listing.skipped, *excluded))
    wanted = Wanted(collection, seen, hashes, runtime.parser_fp, runtime.settings.sync.shards, unreadable)
    made = plan(
        wanted,
        have,
        max_vanished_share=runtime.settings.sync.max_vanished_share,
        allow_mass_delete=allow_mass_delete,
    )
    uris = {file.path: file.uri for file in listing.files}
    problems = (
        *listing.skipped,
        *(SkippedFile(path, uris[path], reason, unreadable=True) for path, reason in unreadable.items()),
    )
    return Planned(made, listing, have, problems)


def _without_forgotten(runtime: Runtime, collection: str, listing: Listing) -> Listing:
    """The listing without the files a person had removed from the index; they are shown as skipped."""
    with runtime.database.transaction() as connection:
        forgotten = ledger.forgotten(connection, collection)
    if not forgotten:
        return listing
    kept = tuple(file for file in listing.files if document_id(collection, file.path) not in forgotten)
    reason = "was forgotten on request; `rag-assets forget --undo` lets it back"
    dropped = tuple(SkippedFile(file.path, file.uri, reason) for file in set(listing.files) - set(kept))
    return Listing(kept, (*listing.skipped, *sorted(dropped, key=lambda item: item.path)), listing.complete)


def _have(runtime: Runtime, collection: str, *, only_live: bool) -> Have:
    """What exists; a document is pending if the wanted index or the live one does not hold its present version."""
    live = runtime.live(collection)
    generations = [] if only_live else [(runtime.key(collection).chunker_fp, runtime.target(collection))]
    if live is not None and (only_live or len(runtime.recipes(collection)) > 1):
        generations.append((live.key.chunker_fp, live))
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
