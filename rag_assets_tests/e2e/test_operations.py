"""Forgetting, reconciling, promoting and rolling back, driven as people do it."""

import pytest

from rag_assets_tests.e2e.commands import SETTINGS, CommandLine


@pytest.fixture(scope="module")
def command(installation: CommandLine) -> CommandLine:
    """An installation with two indexed documents."""
    folder = installation.cwd / "documents"
    folder.mkdir()
    (folder / "alpine.md").write_text("# Alpine\n\nMarmots whistle when an eagle circles.\n", encoding="utf-8")
    (folder / "harbour.md").write_text("# Harbour\n\nThe pilot boards ships off the coast.\n", encoding="utf-8")
    settings = f'{SETTINGS}[collections.default]\nsource = "documents"\n'
    (installation.cwd / "rag_assets.toml").write_text(settings, encoding="utf-8")
    assert installation.json("sync")["generation"]["promoted"]
    return installation


def test_a_forgotten_document_is_gone_everywhere_and_stays_out_until_it_is_let_back(command: CommandLine) -> None:
    evidence = command.json("forget", "alpine.md")
    assert evidence["removed"]["index_entry"] == evidence["removed"]["embedding"] == 1
    assert set(evidence["left"].values()) == {0}
    assert evidence["still_in_source"]
    assert [hit["document"] for hit in command.json("search", "marmots")["hits"]] == ["harbour.md"]
    assert command.json("sync")["shards"] == []
    (listed,) = command.json("status")["collections"][0]["quarantined"]
    assert listed["document"] == "alpine.md"
    assert "forgotten" in listed["reason"]
    assert command.json("forget", "alpine.md", "--undo")["allowed_again"]
    assert command.json("sync")["documents"]["added"] == 1


def test_what_is_in_order_is_reconciled_promoted_and_rolled_back_without_a_change(command: CommandLine) -> None:
    assert command.json("reconcile")["before"]["rows"] == 2
    assert command.json("promote") == {"live": "default#1", "changed": False}
    assert command.run("rollback").code == 3
    unknown = command.run("forget", "no-such.md")
    assert unknown.code == 2
    assert "no-such.md" in unknown.err


def test_a_file_in_quarantine_is_retried_and_garbage_is_collected(command: CommandLine) -> None:
    (command.cwd / "documents" / "empty.md").write_text("", encoding="utf-8")
    assert command.json("sync")["documents"]["quarantined"] == 1
    (command.cwd / "documents" / "harbour.md").unlink()
    again = command.json("retry", "empty.md")
    assert (again["retried"], again["documents"]["removed"]) == (["empty.md"], 1)
    assert command.json("gc") == {"generations": [], "chunks": 0, "vectors": 1}
