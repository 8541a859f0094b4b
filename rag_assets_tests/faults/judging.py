"""Compares what is stored with what the oracle wants, and names every difference."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rag_assets_tests.faults.oracle import Contents, Recipe, Row, Wanted, wanted
from rag_assets_tests.faults.stored import Stored, StoredGeneration

KINDS = ("lost", "orphaned", "duplicated", "wrong", "unreachable", "ledger", "mixed", "embedded_again", "other")
"""What can be found: rows lost, orphaned, there twice, of wrong content, not found through the graph; ledger tables that
disagree; a live index that is empty or holds a document in no version it ever had; texts embedded again though their
vectors had been committed; anything else."""

Batch = tuple[int, str, list[str]]
"""What was embedded at once: process, model, text hashes."""


@dataclass
class Findings:
    """Faults by kind, each in words."""

    trials: int = 1
    """Faults that were made to happen."""
    faults: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    def add(self, kind: str, what: str) -> None:
        self.faults[kind].append(what)

    def merge(self, other: "Findings", when: str) -> None:
        for kind, found in other.faults.items():
            self.faults[kind] += [f"{when}: {what}" for what in found]

    def __bool__(self) -> bool:
        return any(self.faults.values())

    def __str__(self) -> str:
        return "\n".join(f"{kind}: {what}" for kind, found in self.faults.items() for what in found[:5])


def judge(stored: Stored, documents: Contents, recipe: Recipe | None = None) -> Findings:
    """After a completed sync: the live generation and the ledger must equal the oracle's set, content included.

    With ``recipe`` the live generation must be made by it.
    """
    found = Findings()
    live = stored.live
    if live is None:
        found.add("lost", "nothing is live")
        return found
    if recipe is not None and live.recipe != recipe:
        found.add("other", f"live is {live.recipe}, not {recipe}")
    want = wanted(documents, live.recipe)
    _judge_rows(found, live, want)
    _judge_ledger(found, stored, live, want)
    for digest, vector in want.vectors.items():
        if stored.vectors.get((live.key[1], digest)) != vector:
            found.add("wrong", f"vector of text {digest}")
    for doc_id in live.indexed.keys() - stored.files.keys():
        found.add("orphaned", f"generation {live.id} holds {doc_id}, unknown to the ledger")
    for chunk_id in stored.unreachable:
        found.add("unreachable", chunk_id)
    _judge_structure(found, stored)
    return found


def _judge_rows(found: Findings, live: StoredGeneration, want: Wanted) -> None:
    for chunk_id, times in Counter(chunk_id for chunk_id, _ in live.rows).items():
        if times > 1:
            found.add("duplicated", f"chunk {chunk_id} is there {times} times")
    have = dict(live.rows)
    for chunk_id in want.rows.keys() - have.keys():
        found.add("lost", f"chunk {chunk_id} of {want.rows[chunk_id].document}")
    for chunk_id in have.keys() - want.rows.keys():
        found.add("orphaned", f"chunk {chunk_id} of {have[chunk_id].document}")
    for chunk_id in have.keys() & want.rows.keys():
        if have[chunk_id] != want.rows[chunk_id]:
            found.add("wrong", f"chunk {chunk_id}: {have[chunk_id]} instead of {want.rows[chunk_id]}")


def _judge_ledger(found: Findings, stored: Stored, live: StoredGeneration, want: Wanted) -> None:
    chunker = live.key[0]
    if live.key != (live.recipe.chunker_fp, live.recipe.embedder_fp):
        found.add("ledger", f"generation {live.id} is recorded under other fingerprints than its settings have")
    chunked = {doc_id: digest for (fp, doc_id), digest in stored.chunked.items() if fp == chunker}
    chunks = {chunk_id: columns for (fp, chunk_id), columns in stored.chunks.items() if fp == chunker}
    _equal(found, "source_file", stored.files, want.files)
    _equal(found, "document", stored.documents, want.documents)
    _equal(found, "chunked", chunked, want.documents)
    _equal(found, "chunk", chunks, want.chunks)
    _equal(found, f"indexed of generation {live.id}", live.indexed, want.documents)


def _equal(found: Findings, table: str, have: Mapping[Any, Any], want: Mapping[Any, Any]) -> None:
    for key in want.keys() - have.keys():
        found.add("ledger", f"{table} lacks {key}: {want[key]}")
    for key in have.keys() - want.keys():
        found.add("ledger", f"{table} has {key}: {have[key]}")
    for key in have.keys() & want.keys():
        if have[key] != want[key]:
            found.add("ledger", f"{table} has {key}: {have[key]} instead of {want[key]}")


def _judge_structure(found: Findings, stored: Stored) -> None:
    """What holds at every moment, of every generation."""
    for what in stored.debris:
        found.add("other", what)
    for generation in stored.generations.values():
        for doc_id in {row.doc_id for _, row in generation.rows} - generation.indexed.keys():
            found.add("ledger", f"generation {generation.id} ({generation.state}) has unnoted rows of {doc_id}")
    live = [g.id for g in stored.generations.values() if g.state == "live"]
    if live != ([] if stored.pointer is None else [stored.pointer]):
        found.add("mixed", f"the live pointer names {stored.pointer}, but {live} are noted as live")


def judge_interrupted(stored: Stored, versions: Sequence[Contents], before: Stored) -> Findings:
    """After a fault, before anything is repaired: what answers is whole.

    Each document of the live generation is as it was ``before`` or, whole, in one of the ``versions`` the folder had
    since; and an index that was live stays live and, if no version is empty of documents, not empty.
    """
    found = Findings()
    _judge_structure(found, stored)
    for chunk_id in set(stored.unreachable) - set(before.unreachable):
        found.add("unreachable", chunk_id)
    live = stored.live
    if live is None:
        if before.live is not None:
            found.add("mixed", "what was live is not any more")
        return found
    earlier = before.generations.get(live.id)
    old = _by_document(earlier.rows if earlier is not None else ())
    allowed = [wanted(documents, live.recipe) for documents in versions]
    by_document = _by_document(live.rows)
    if not by_document and all(want.rows for want in allowed):
        found.add("mixed", "the live index is empty")
    for doc_id in _documents(allowed) | by_document.keys():
        rows = by_document.get(doc_id, {})
        if rows != old.get(doc_id, {}) and all(want.of_document(doc_id) != rows for want in allowed):
            found.add("mixed", f"document {doc_id} is in none of {len(allowed)} versions: {sorted(rows)}")
    return found


def _by_document(rows: Iterable[tuple[str, Row]]) -> dict[str, dict[str, Row]]:
    found: dict[str, dict[str, Row]] = {}
    for chunk_id, row in rows:
        found.setdefault(row.doc_id, {})[chunk_id] = row
    return found


def _documents(versions: Iterable[Wanted]) -> set[str]:
    return {doc_id for want in versions for doc_id in want.documents}


def judge_embedding(batches: Sequence[Batch], excused: Iterable[int]) -> Findings:
    """No text is embedded twice, except those of the ``excused`` batches, which a fault kept from being committed.

    ``excused`` are numbers of batches, see :func:`last_batches`.
    """
    found, lost = Findings(), set(excused)
    first: dict[tuple[str, str], int] = {}
    for number, (_, model, texts) in enumerate(batches):
        for digest in texts:
            earlier = first.setdefault((model, digest), number)
            if earlier != number and earlier not in lost:
                found.add("embedded_again", f"text {digest} in batches {earlier} and {number}")
            first[model, digest] = number
    return found


def last_batches(batches: Sequence[Batch], processes: Iterable[int]) -> set[int]:
    """The number of each process's last batch, if it had any: at most that one was not committed when it died."""
    return {
        max(n for n, batch in enumerate(batches) if batch[0] == pid) for pid in set(processes) & {b[0] for b in batches}
    }
