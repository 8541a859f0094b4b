"""A folder full of bad input: each bad file has a clear word in ``status``, everything else is indexed and found."""

import os
from typing import Any

import pytest

from rag_assets_tests.e2e.bad_folder import FOUND, REFUSED, TWIN, make_bad_folder
from rag_assets_tests.e2e.commands import CommandLine

Synced = tuple[CommandLine, dict[str, Any], dict[str, str]]


@pytest.fixture(scope="module")
def synced(installation: CommandLine) -> Synced:
    """An installation with the folder indexed, what sync said, and the reason of every file that is not."""
    folder = installation.cwd / "documents"
    folder.mkdir()
    make_bad_folder(folder)
    report = installation.json("sync", "--source", "documents")
    (collection,) = installation.json("status")["collections"]
    return installation, report, {row["document"]: row["reason"] for row in collection["quarantined"]}


def test_every_file_is_either_indexed_or_has_a_reason_a_person_understands(synced: Synced) -> None:
    _, report, reasons = synced
    assert reasons.keys() == REFUSED.keys()
    for document, words in REFUSED.items():
        assert words in reasons[document], document
    assert report["documents"]["quarantined"] == len(REFUSED)
    assert report["documents"]["added"] == len(FOUND) + 2


def test_every_good_document_is_found_under_the_name_people_see(synced: Synced) -> None:
    command = synced[0]
    # One question for all: the index is small enough to be listed whole, and starting a model takes seconds.
    found = command.json("search", "everything", "-k", "100")["hits"]
    texts = {hit["document"]: hit["text"] for hit in found}
    for document, text in FOUND:
        assert text in texts[document], document
    assert texts["twin-one.txt"] == texts["twin-two.txt"] == TWIN.strip()
    assert not any("vault" in text for text in texts.values())
    assert "\x00" not in "".join(texts.values())


def test_a_second_sync_over_the_same_folder_does_nothing(synced: Synced) -> None:
    again = synced[0].json("sync")
    assert again["shards"] == []
    assert again["documents"]["unchanged"] == len(FOUND) + 2
    assert synced[0].json("plan")["changes"] == []


def test_an_unreadable_file_has_its_word_and_comes_in_once_it_can_be_read(synced: Synced) -> None:
    command = synced[0]
    path = command.cwd / "documents" / "locked.txt"
    path.write_text("Nobody may read this yet.\n", encoding="utf-8")
    path.chmod(0)
    if os.access(path, os.R_OK):
        path.unlink()
        pytest.skip("this user can read every file")
    command.succeed("sync")
    (collection,) = command.json("status")["collections"]
    assert "locked.txt" in {row["document"] for row in collection["quarantined"]}
    path.chmod(0o600)
    assert command.json("sync")["documents"]["added"] == 1
