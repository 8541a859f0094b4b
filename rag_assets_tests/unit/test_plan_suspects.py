"""Which files are looked into before planning, and what a plan makes of those that were not."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.documents.parsing import attempt_fingerprint, parser_fingerprint
from rag_assets.fingerprint import document_id, hash_bytes, shard_of
from rag_assets.models import Listing
from rag_assets.plan import RETRY, Change, Have, Kind, Plan, Wanted, plan, suspects
from rag_assets.settings import ParsingSettings
from rag_assets_tests.unit.test_plan import COLLECTION, PARSER, PATHS, SHARDS, Folder, kinds, ledger, listed, listing

# Of two sizes: what a vanished document was renamed to is looked for among files of its size only.
contents = st.sampled_from([None, b"one", b"two", b"three", b"seven"])
folders = st.tuples(*[contents for _ in PATHS]).map(
    lambda found: {path: content for path, content in zip(PATHS, found, strict=True) if content is not None}
)
subsets = st.sets(st.sampled_from(PATHS))


def with_flags(folder: Folder, quarantined: set[bytes], pending: set[bytes]) -> Have:
    states = ledger(folder).files.values()
    return Have(
        {
            item.doc_id: replace(item, quarantined=item.path in quarantined, pending=item.path in pending)
            for item in states
        }
    )


def touched_listing(folder: Folder, touched: set[bytes]) -> Listing:
    return Listing(tuple(listed(path, folder[path], touched=path in touched) for path in sorted(folder)), (), True)


def made_with(folder: Folder, found: Listing, have: Have, **options: object) -> Plan:
    looked_into = suspects(COLLECTION, found, have, **options)  # type: ignore[arg-type]
    hashes = {file.path: hash_bytes(folder[file.path]) for file in looked_into}
    return plan(Wanted(COLLECTION, found, hashes, PARSER, SHARDS), have)


def work_of(made: Plan, shard: int) -> tuple[list[Change], list[Change], set[str]]:
    """All a shard's run reads of a plan: its changes, what is withheld of it, and which of its documents moved away."""
    withheld = [change for change in made.withheld if change.shard == shard]
    origins = {change.previous_doc_id for change in made.changes if change.previous_doc_id}
    return list(made.of_shard(shard)), withheld, {doc_id for doc_id in origins if shard_of(doc_id, SHARDS) == shard}


@pytest.mark.parametrize("verify", [False, True])
@given(before=folders, after=folders, touched=subsets, quarantined=subsets, pending=subsets)
def test_a_plan_that_looks_into_one_shard_only_says_of_it_what_the_whole_plan_says(
    verify: bool, before: Folder, after: Folder, touched: set[bytes], quarantined: set[bytes], pending: set[bytes]
) -> None:
    have, found = with_flags(before, quarantined, pending), touched_listing(after, touched)
    whole = made_with(after, found, have, verify=verify)
    for shard in range(SHARDS):
        part = made_with(after, found, have, verify=verify, only_shard=(SHARDS, shard))
        assert work_of(part, shard) == work_of(whole, shard)


def test_files_of_other_shards_are_read_only_where_a_document_may_have_been_renamed_to_them() -> None:
    before = {b"a.md": b"one"}
    after = {b"b.md": b"two", b"c/d.md": b"three", b"e.md": b"seven"}
    found, have = listing(after), ledger(before)
    (own,) = {shard_of(document_id(COLLECTION, b"a.md"), SHARDS)}
    looked_into = {file.path for file in suspects(COLLECTION, found, have, only_shard=(SHARDS, own))}
    mine = {path for path in after if shard_of(document_id(COLLECTION, path), SHARDS) == own}
    assert looked_into == mine | {b"b.md"}
    assert looked_into < {file.path for file in suspects(COLLECTION, found, have)}


@given(folders, subsets)
def test_a_known_file_that_looks_different_and_was_not_read_is_changed_and_never_merely_touched(
    folder: Folder, touched: set[bytes]
) -> None:
    have, found = ledger(folder), touched_listing(folder, touched)
    made = plan(Wanted(COLLECTION, found, {}, PARSER, SHARDS), have)
    assert kinds(made) == dict.fromkeys(touched & folder.keys(), Kind.CHANGED)
    assert {change.reason for change in made.changes} <= {"looks different; not read yet"}
    assert made.touched == ()
    # Read, they turn out to be what they were: only their size and time are noted.
    looked = plan(
        Wanted(COLLECTION, found, {path: hash_bytes(text) for path, text in folder.items()}, PARSER, SHARDS), have
    )
    assert looked.is_empty
    assert {file.path for file in looked.touched} == touched & folder.keys()


@pytest.mark.parametrize(
    ("attempt", "reason"),
    [
        ("limits-1", None),
        ("limits-2", "was quarantined; the parser or its limits changed"),
        (RETRY, "was quarantined; a retry was asked for"),
    ],
)
def test_a_quarantined_file_is_tried_again_for_other_limits_or_when_asked_for_and_not_otherwise(
    attempt: str, reason: str | None
) -> None:
    folder = {b"a.md": b"one", b"b.md": b"two"}
    files = ledger(folder).files
    broken = document_id(COLLECTION, b"b.md")
    have = Have({**files, broken: replace(files[broken], quarantined=True, parser_fp=attempt)})
    made = plan(Wanted(COLLECTION, listing(folder), {}, PARSER, SHARDS, attempt_fp="limits-1"), have)
    assert {change.path: change.reason for change in made.changes} == ({b"b.md": reason} if reason else {})


@pytest.mark.parametrize("limit", [{"max_file_mb": 7}, {"timeout_seconds": 7}, {"memory_mb": 700}])
def test_a_limit_decides_about_attempts_and_not_about_what_was_parsed(limit: dict[str, int]) -> None:
    before, after = ParsingSettings(), ParsingSettings(**limit)  # type: ignore[arg-type]
    assert attempt_fingerprint(before) != attempt_fingerprint(after)
    assert parser_fingerprint(before) == parser_fingerprint(after)


def test_the_number_of_parsing_processes_decides_nothing() -> None:
    assert attempt_fingerprint(ParsingSettings(workers=1)) == attempt_fingerprint(ParsingSettings(workers=2))
