"""The plan: the pure difference between what should exist and what does.

Everything that decides work calls :func:`plan` – the sensor, the schedules, ``sync``, ``plan``, ``reconcile``. It reads no
file, no database and no clock, so it can be tested by properties alone.

Its rules: unreadable is not deleted; an incomplete listing deletes nothing; a rename is a removal and an addition of equal
content; if too large a share vanishes at once nothing is deleted until a person says so; equal content at two paths is
two documents; what was begun and not finished is work like any other.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from rag_assets.fingerprint import document_id, shard_of
from rag_assets.models import Listing, SourceFile

RETRY = ""
"""In place of a quarantined file's parser fingerprint: a person asked for another try."""


class Kind(StrEnum):
    """What has to be done with a document."""

    ADDED = "added"
    CHANGED = "changed"
    RENAMED = "renamed"
    REMOVED = "removed"
    PENDING = "pending"
    """Parsed, but the target generation does not hold this version of it yet."""


@dataclass(frozen=True, slots=True)
class FileState:
    """What the ledger knows of one document."""

    doc_id: str
    path: bytes
    uri: str
    size: int
    changed_ns: int
    content_hash: str | None
    """None: it could not be read, or its parsed form is gone; either way it is read again."""
    quarantined: bool
    parser_fp: str
    """What parsed it, or, of a quarantined file, what tried to."""
    pending: bool = False
    """True when chunks or index rows of the target generation are missing or of another version."""


@dataclass(frozen=True, slots=True)
class Have:
    """What exists: the ledger's files, and index rows whose document is gone."""

    files: Mapping[str, FileState]
    orphans: frozenset[str] = frozenset()
    """Ids of documents the target generation still holds though the ledger does not know them."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What should exist: a listing, what was read to compare it, and the configuration."""

    collection: str
    listing: Listing
    hashes: Mapping[bytes, str]
    """Content hash by path, for the files that were looked into (see :func:`suspects`). A known file that looks different
    but was not looked into is taken for changed; the run that follows looks closer."""
    parser_fp: str
    shards: int
    unreadable: Mapping[bytes, str] = field(default_factory=dict)
    """Reason by path, for files that are listed but could not be read."""
    attempt_fp: str | None = None
    """The parser *and its limits*: a quarantined file is tried again when either changed. None: as ``parser_fp``."""


@dataclass(frozen=True, slots=True)
class Change:
    """One document's work, and why."""

    kind: Kind
    doc_id: str
    path: bytes
    uri: str
    shard: int
    reason: str
    previous_uri: str | None = None
    previous_path: bytes | None = None
    previous_doc_id: str | None = None
    excluded: bool = False
    """The file that goes (or the rename's origin) is still there, but a setting excludes it now."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The work to be done for one collection."""

    collection: str
    changes: tuple[Change, ...]
    unchanged: int
    touched: tuple[SourceFile, ...] = ()
    """Same content, other size or time on file: only the ledger's copy of those is refreshed."""
    kept_unreadable: int = 0
    """Documents that can't be seen right now and are kept as they are."""
    withheld: tuple[Change, ...] = ()
    """Removals the mass-delete guard holds back."""
    dirty_shards: tuple[int, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Documents by kind, every kind named."""
        found = Counter(change.kind for change in self.changes)
        return {kind.value: found.get(kind, 0) for kind in Kind}

    @property
    def is_empty(self) -> bool:
        """True when no shard needs a run."""
        return not self.dirty_shards

    def of_shard(self, shard: int) -> tuple[Change, ...]:
        """The changes of one shard."""
        return tuple(change for change in self.changes if change.shard == shard)


def suspects(
    collection: str, listing: Listing, have: Have, *, verify: bool = False, only_shard: tuple[int, int] | None = None
) -> list[SourceFile]:
    """The files whose bytes must be hashed before planning: unknown ones, and those whose size or time differ.

    Args:
        collection: its name.
        listing: what the source holds.
        have: what the ledger knows.
        verify: all of them, whatever their size and time say (the nightly run's distrust).
        only_shard: (number of shards, shard) of the only shard whose changes matter. Files of others are looked into
            only where they may be what a vanished document was renamed to, which the mass-delete guard must know.
    """
    ids = {document_id(collection, file.path): file for file in listing.files}
    vanished_sizes = {state.size for doc_id, state in have.files.items() if doc_id not in ids}
    found = []
    for doc_id, file in ids.items():
        state = have.files.get(doc_id)
        if only_shard is not None and shard_of(doc_id, only_shard[0]) != only_shard[1]:
            if state is None and file.size in vanished_sizes:
                found.append(file)
        elif verify or state is None or (state.size, state.changed_ns) != (file.size, file.changed_ns):
            found.append(file)
    return found


def plan(wanted: Wanted, have: Have, *, max_vanished_share: float = 0.2, allow_mass_delete: bool = False) -> Plan:
    """What has to be done so that what exists equals what should.

    Args:
        wanted: the listing and configuration.
        have: the ledger.
        max_vanished_share: if more than this share of the known documents vanishes at once, no removal is planned
            (they are in ``withheld``). A single vanished document of several is always believed.
        allow_mass_delete: a person confirmed the removals.
    """
    changes: list[Change] = []
    touched: list[SourceFile] = []
    unchanged = kept = 0
    listed: set[str] = set()
    for file in wanted.listing.files:
        doc_id = document_id(wanted.collection, file.path)
        listed.add(doc_id)
        state = have.files.get(doc_id)
        if file.path in wanted.unreadable:
            kept += state is not None
            continue
        change = _judge(file, state, doc_id, wanted)
        if change is not None:
            changes.append(change)
            continue
        unchanged += 1
        if state is not None and (state.size, state.changed_ns) != (file.size, file.changed_ns):
            touched.append(file)

    gone = [state for doc_id, state in have.files.items() if doc_id not in listed]
    unseen = {item.path for item in wanted.listing.skipped if item.unreadable}
    if not wanted.listing.complete:
        removed: list[FileState] = []
    else:
        removed = [state for state in gone if state.path not in unseen]
    kept += len(gone) - len(removed)

    changes, removals = _pair_renames(changes, removed, wanted)
    withheld: tuple[Change, ...] = ()
    if _too_many(len(removals), len(have.files), max_vanished_share) and not allow_mass_delete:
        withheld, removals = tuple(removals), []
    changes += removals
    changes.sort(key=lambda change: (change.shard, change.path))
    return Plan(
        collection=wanted.collection,
        changes=tuple(changes),
        unchanged=unchanged,
        touched=tuple(touched),
        kept_unreadable=kept,
        withheld=withheld,
        dirty_shards=_dirty(changes, have.orphans, wanted.shards),
    )


def _judge(file: SourceFile, state: FileState | None, doc_id: str, wanted: Wanted) -> Change | None:
    def change(kind: Kind, reason: str) -> Change:
        return Change(kind, doc_id, file.path, file.uri, shard_of(doc_id, wanted.shards), reason)

    if state is None:
        return change(Kind.ADDED, "new file")
    digest = wanted.hashes.get(file.path)
    if state.content_hash is None and not state.quarantined:
        return change(Kind.CHANGED, "its parsed form was lost")
    if digest is not None and digest != state.content_hash:
        return change(Kind.CHANGED, "content changed")
    if digest is None and (state.size, state.changed_ns) != (file.size, file.changed_ns):
        return change(Kind.CHANGED, "looks different; not read yet")
    if state.quarantined and state.parser_fp == RETRY:
        return change(Kind.CHANGED, "was quarantined; a retry was asked for")
    if state.quarantined and state.parser_fp != (wanted.attempt_fp or wanted.parser_fp):
        return change(Kind.CHANGED, "was quarantined; the parser or its limits changed")
    if not state.quarantined and state.parser_fp != wanted.parser_fp:
        return change(Kind.CHANGED, "the parser or its limits changed")
    if state.pending:
        return change(Kind.PENDING, "the target generation does not hold this version yet")
    return None


def _pair_renames(
    changes: list[Change], removed: Iterable[FileState], wanted: Wanted
) -> tuple[list[Change], list[Change]]:
    """Match additions with removals of equal content, each at most once; returns (changes, removals left over).

    A rename stays two pieces of work in two shards: the old document's rows go, the new one's come. Both carry the kind
    RENAMED or REMOVED so that the shards know; only the arrival is counted as a rename.
    """
    excluded = {item.path: item.reason for item in wanted.listing.skipped if not item.unreadable}
    by_content: dict[str, deque[FileState]] = defaultdict(deque)
    ordered = sorted(removed, key=lambda state: state.path)
    for state in ordered:
        if state.content_hash is not None and not state.quarantined:
            by_content[state.content_hash].append(state)
    result: list[Change] = []
    departed: set[str] = set()
    for change in sorted(changes, key=lambda change: change.path):
        digest = wanted.hashes.get(change.path)
        if change.kind is Kind.ADDED and digest is not None and by_content.get(digest):
            old = by_content[digest].popleft()
            departed.add(old.doc_id)
            result.append(
                Change(
                    Kind.RENAMED,
                    change.doc_id,
                    change.path,
                    change.uri,
                    change.shard,
                    f"renamed from {old.uri}",
                    previous_uri=old.uri,
                    previous_path=old.path,
                    previous_doc_id=old.doc_id,
                    excluded=old.path in excluded,
                )
            )
        else:
            result.append(change)
    removals = [
        Change(
            Kind.REMOVED,
            state.doc_id,
            state.path,
            state.uri,
            shard_of(state.doc_id, wanted.shards),
            f"not indexed any more: {excluded[state.path]}" if state.path in excluded else "no longer in the source",
            excluded=state.path in excluded,
        )
        for state in ordered
        if state.doc_id not in departed
    ]
    return result, removals


def _too_many(removals: int, known: int, share: float) -> bool:
    if removals == 0 or (removals == 1 and known > 1):
        return False
    return removals > share * known


def _dirty(changes: Iterable[Change], orphans: Iterable[str], shards: int) -> tuple[int, ...]:
    dirty = {change.shard for change in changes}
    dirty |= {shard_of(change.previous_doc_id, shards) for change in changes if change.previous_doc_id}
    dirty |= {shard_of(doc_id, shards) for doc_id in orphans}
    return tuple(sorted(dirty))
