"""The plan against a tiny oracle: a folder is a dict of bytes by path, a ledger a dict of hashes by path."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.fingerprint import document_id, hash_bytes, shard_of
from rag_assets.models import Listing, SkippedFile, SourceFile
from rag_assets.plan import FileState, Have, Kind, Plan, Wanted, plan, suspects

COLLECTION = "handbook"
SHARDS = 4
PARSER = "parser-1"

Folder = dict[bytes, bytes]

PATHS = (b"a.md", b"b.md", b"c/d.md", b"e.md", b"f.md", b"\xff.md")
# Few names and fewer contents: renames, copies and returns to an earlier content are then common.
folders = st.tuples(*[st.sampled_from([None, b"one", b"two"]) for _ in PATHS]).map(
    lambda contents: {path: content for path, content in zip(PATHS, contents, strict=True) if content is not None}
)


def mtime(content: bytes) -> int:
    return int.from_bytes(content[:4].ljust(4), "big")


def listed(path: bytes, content: bytes, *, touched: bool = False) -> SourceFile:
    return SourceFile(path, path.decode("utf-8", "backslashreplace"), len(content), mtime(content) + touched)


def listing(folder: Folder, *, complete: bool = True, skipped: Iterable[SkippedFile] = ()) -> Listing:
    return Listing(tuple(listed(path, folder[path]) for path in sorted(folder)), tuple(skipped), complete)


def state(path: bytes, content: bytes) -> FileState:
    file = listed(path, content)
    doc_id = document_id(COLLECTION, path)
    return FileState(doc_id, path, file.uri, file.size, file.changed_ns, hash_bytes(content), False, PARSER)


def ledger(folder: Folder) -> Have:
    states = [state(path, content) for path, content in folder.items()]
    return Have({item.doc_id: item for item in states})


def wanted(folder: Folder, have: Have, *, verify: bool = False, **changed: object) -> Wanted:
    found = listing(folder)
    hashes = {file.path: hash_bytes(folder[file.path]) for file in suspects(COLLECTION, found, have, verify=verify)}
    return replace(Wanted(COLLECTION, found, hashes, PARSER, SHARDS), **changed)  # type: ignore[arg-type]


def planned(folder: Folder, have: Have, **options: object) -> Plan:
    return plan(wanted(folder, have), have, **{"allow_mass_delete": True, **options})  # type: ignore[arg-type]


def applied(made: Plan, before: Folder, after: Folder) -> Folder:
    """What a ledger holds once the plan has been done."""
    result = dict(before)
    for change in made.changes:
        if change.kind is Kind.REMOVED:
            del result[change.path]
        else:
            result[change.path] = after[change.path]
            if change.previous_path is not None:
                del result[change.previous_path]
    return result


def kinds(made: Plan) -> dict[bytes, Kind]:
    return {change.path: change.kind for change in made.changes}


@given(folders, folders)
def test_doing_the_plan_turns_any_ledger_into_the_folder(before: Folder, after: Folder) -> None:
    assert applied(planned(after, ledger(before)), before, after) == after


@given(folders)
def test_a_ledger_that_equals_the_folder_needs_nothing(folder: Folder) -> None:
    made = planned(folder, ledger(folder))
    assert made.is_empty
    assert made.changes == ()
    assert made.unchanged == len(folder)


@given(folders, folders)
def test_every_listed_file_is_a_change_or_unchanged(before: Folder, after: Folder) -> None:
    made = planned(after, ledger(before))
    arrivals = [change for change in made.changes if change.kind is not Kind.REMOVED]
    assert len(arrivals) + made.unchanged == len(after)


@given(folders, folders)
def test_a_rename_pairs_equal_contents_and_uses_each_departure_once(before: Folder, after: Folder) -> None:
    made = planned(after, ledger(before))
    renames = [change for change in made.changes if change.kind is Kind.RENAMED]
    origins = [change.previous_path for change in renames]
    assert len(set(origins)) == len(origins)
    for change in renames:
        assert change.previous_path is not None
        assert change.path not in before
        assert change.previous_path not in after
        assert after[change.path] == before[change.previous_path]
        assert change.previous_doc_id == document_id(COLLECTION, change.previous_path)


@given(folders, folders)
def test_no_arrival_is_called_new_while_a_departure_of_its_content_is_unpaired(before: Folder, after: Folder) -> None:
    made = planned(after, ledger(before))
    added = {after[change.path] for change in made.changes if change.kind is Kind.ADDED}
    removed = {before[change.path] for change in made.changes if change.kind is Kind.REMOVED}
    assert not added & removed


@given(folders, folders)
def test_an_incomplete_listing_removes_nothing(before: Folder, after: Folder) -> None:
    have = ledger(before)
    made = plan(replace(wanted(after, have), listing=listing(after, complete=False)), have, allow_mass_delete=True)
    assert Kind.REMOVED not in kinds(made).values()
    assert Kind.RENAMED not in kinds(made).values()
    assert made.kept_unreadable == len(before.keys() - after.keys())


@given(folders, folders)
def test_what_can_not_be_looked_at_is_kept(before: Folder, after: Folder) -> None:
    have = ledger(before)
    hidden = [SkippedFile(path, path.decode("latin-1"), "no permission", unreadable=True) for path in before]
    made = plan(replace(wanted(after, have), listing=listing(after, skipped=hidden)), have, allow_mass_delete=True)
    assert Kind.REMOVED not in kinds(made).values()


@given(folders, folders)
def test_a_listed_file_that_can_not_be_read_is_neither_changed_nor_removed(before: Folder, after: Folder) -> None:
    have = ledger(before)
    made = plan(
        replace(wanted(after, have), hashes={}, unreadable=dict.fromkeys(after, "no permission")),
        have,
        allow_mass_delete=True,
    )
    assert not kinds(made).keys() & after.keys()
    assert made.kept_unreadable == len(after.keys() & before.keys())


@given(folders, folders, st.randoms(use_true_random=False))
def test_the_order_of_listing_and_ledger_does_not_matter(before: Folder, after: Folder, random: object) -> None:
    have = ledger(before)
    asked = wanted(after, have)
    files, states = list(asked.listing.files), list(have.files.items())
    random.shuffle(files)  # type: ignore[attr-defined]
    random.shuffle(states)  # type: ignore[attr-defined]
    shuffled = plan(replace(asked, listing=Listing(tuple(files))), Have(dict(states)), allow_mass_delete=True)
    straight = plan(asked, have, allow_mass_delete=True)
    assert shuffled.changes == straight.changes
    assert shuffled.dirty_shards == straight.dirty_shards


@given(folders, folders)
def test_the_dirty_shards_are_exactly_those_of_the_work(before: Folder, after: Folder) -> None:
    made = planned(after, ledger(before))
    touched = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert set(made.dirty_shards) == {shard_of(document_id(COLLECTION, path), SHARDS) for path in touched}
    assert sorted(change for shard in range(SHARDS) for change in kinds_of(made, shard)) == sorted(kinds(made))


def kinds_of(made: Plan, shard: int) -> list[bytes]:
    return [change.path for change in made.of_shard(shard)]


@given(folders, folders)
def test_content_that_changed_and_came_back_is_unchanged(first: Folder, second: Folder) -> None:
    back = {path: first.get(path, content) for path, content in second.items()}
    there = applied(planned(second, ledger(first)), first, second)
    again = applied(planned(back, ledger(there)), there, back)
    assert again == back
    assert planned(back, ledger(again)).is_empty


def test_only_files_that_look_different_are_suspects() -> None:
    have = ledger({b"same.md": b"one", b"longer.md": b"one", b"touched.md": b"one"})
    found = Listing(
        (
            listed(b"same.md", b"one"),
            SourceFile(b"longer.md", "longer.md", 4, mtime(b"one")),
            listed(b"touched.md", b"one", touched=True),
            listed(b"new.md", b"one"),
        )
    )
    assert [file.path for file in suspects(COLLECTION, found, have)] == [b"longer.md", b"touched.md", b"new.md"]
    assert len(suspects(COLLECTION, found, have, verify=True)) == 4


def test_verifying_finds_a_change_that_size_and_time_hide() -> None:
    have = ledger({b"a.md": b"one"})
    disguised = Listing((SourceFile(b"a.md", "a.md", 3, mtime(b"one")),))
    assert suspects(COLLECTION, disguised, have) == []
    asked = Wanted(COLLECTION, disguised, {b"a.md": hash_bytes(b"uno")}, PARSER, SHARDS)
    assert kinds(plan(asked, have)) == {b"a.md": Kind.CHANGED}


def test_a_touched_file_is_no_work_but_its_new_time_is_noted() -> None:
    have = ledger({b"a.md": b"one"})
    file = listed(b"a.md", b"one", touched=True)
    made = plan(Wanted(COLLECTION, Listing((file,)), {b"a.md": hash_bytes(b"one")}, PARSER, SHARDS), have)
    assert made.is_empty
    assert made.touched == (file,)


@pytest.mark.parametrize(
    ("known", "vanished", "held"),
    [(10, 1, False), (10, 2, False), (10, 3, True), (2, 1, False), (3, 1, False), (3, 2, True), (1, 1, True)],
)
def test_more_than_a_fifth_vanishing_at_once_is_held_back(known: int, vanished: int, held: bool) -> None:
    before = {f"{number:02d}.md".encode(): f"text {number}".encode() for number in range(known)}
    after = dict(list(before.items())[vanished:])
    made = planned(after, ledger(before), allow_mass_delete=False)
    assert len(made.withheld) == (vanished if held else 0)
    assert made.counts["removed"] == (0 if held else vanished)
    assert made.is_empty is held
    confirmed = planned(after, ledger(before))
    assert (confirmed.counts["removed"], confirmed.withheld) == (vanished, ())


def test_the_guard_follows_its_share() -> None:
    before = {f"{number}.md".encode(): f"text {number}".encode() for number in range(10)}
    after = dict(list(before.items())[5:])
    assert planned(after, ledger(before), allow_mass_delete=False, max_vanished_share=0.5).withheld == ()
    assert len(planned(after, ledger(before), allow_mass_delete=False, max_vanished_share=0.4).withheld) == 5


def test_renaming_everything_is_not_a_mass_delete() -> None:
    before = {f"{number}.md".encode(): f"text {number}".encode() for number in range(10)}
    after = {b"moved/" + path: content for path, content in before.items()}
    made = planned(after, ledger(before), allow_mass_delete=False)
    assert (made.counts["renamed"], made.counts["removed"], made.withheld) == (10, 0, ())


def test_the_guard_holds_removals_back_and_lets_other_work_go_on() -> None:
    before = {f"{number}.md".encode(): f"text {number}".encode() for number in range(10)}
    after = {**dict(list(before.items())[5:]), b"new.md": b"new", b"9.md": b"edited"}
    made = planned(after, ledger(before), allow_mass_delete=False)
    assert kinds(made) == {b"new.md": Kind.ADDED, b"9.md": Kind.CHANGED}
    assert len(made.withheld) == 5


def test_another_parser_reads_every_document_again_and_says_why() -> None:
    folder = {b"a.md": b"one", b"b.md": b"two"}
    have = ledger(folder)
    broken = document_id(COLLECTION, b"b.md")
    have = Have({**have.files, broken: replace(have.files[broken], quarantined=True)})
    made = plan(wanted(folder, have, parser_fp="parser-2"), have)
    assert kinds(made) == {b"a.md": Kind.CHANGED, b"b.md": Kind.CHANGED}
    assert {change.path: change.reason for change in made.changes} == {
        b"a.md": "the parser or its limits changed",
        b"b.md": "was quarantined; the parser or its limits changed",
    }


def test_a_quarantined_file_is_not_tried_again_until_it_changes() -> None:
    have = Have({item.doc_id: replace(item, quarantined=True) for item in ledger({b"a.md": b"one"}).files.values()})
    assert planned({b"a.md": b"one"}, have).is_empty
    assert kinds(planned({b"a.md": b"two"}, have)) == {b"a.md": Kind.CHANGED}


def test_a_quarantined_departure_is_no_origin_of_a_rename() -> None:
    have = Have({item.doc_id: replace(item, quarantined=True) for item in ledger({b"a.md": b"one"}).files.values()})
    assert kinds(planned({b"b.md": b"one"}, have)) == {b"a.md": Kind.REMOVED, b"b.md": Kind.ADDED}


def test_what_was_begun_and_not_finished_is_work() -> None:
    have = Have({item.doc_id: replace(item, pending=True) for item in ledger({b"a.md": b"one"}).files.values()})
    assert kinds(planned({b"a.md": b"one"}, have)) == {b"a.md": Kind.PENDING}


def test_rows_without_a_document_make_their_shard_dirty() -> None:
    orphan = document_id(COLLECTION, b"gone.md")
    made = planned({}, Have({}, frozenset({orphan})))
    assert made.dirty_shards == (shard_of(orphan, SHARDS),)
    assert made.changes == ()


def test_a_file_that_is_there_but_not_indexed_any_more_is_removed_and_marked_so() -> None:
    have = ledger({b"a.md": b"one", b"b.md": b"two"})
    skipped = [SkippedFile(b"a.md", "a.md", "is a pipe, not a regular file")]
    asked = replace(wanted({b"b.md": b"two"}, have), listing=listing({b"b.md": b"two"}, skipped=skipped))
    (change,) = plan(asked, have).changes
    assert (change.kind, change.excluded) == (Kind.REMOVED, True)
    assert change.reason == "not indexed any more: is a pipe, not a regular file"
