"""An index driven as people do it: edit, sync, search, forget, reconcile, roll back; and the gates that hold it back."""

from pathlib import Path

import pytest

from rag_assets_tests.e2e.commands import SETTINGS, CommandLine

DOCUMENTS = {
    "alpine.md": "# Alpine\n\nMarmots whistle when an eagle circles above the meadow.\n",
    "harbour.txt": "The harbour pilot boards container ships two miles off the coast.\n",
    "kitchen.html": "<html><body><h1>Kitchen</h1><p>Sourdough starter is fed with rye flour every evening.</p></body></html>",
    "library.txt": "Overdue books cost ten cents a day at the town library.\n",
    "observatory.txt": "The telescope dome opens after the evening star has set.\n",
    "bad.pdf": "not a PDF",
}
DEAD_MODEL = """
model_list:
  - model_name: dead
    litellm_params: {model: openai/dead, api_base: "http://127.0.0.1:9/v1", api_key: none}
"""
QUESTION = '{"id": "1", "question": "When do marmots whistle?", "relevant": [{"document": "alpine.md"}]}\n'


@pytest.fixture(scope="module")
def command(installation: CommandLine) -> CommandLine:
    """An installation whose documents are indexed."""
    folder = installation.cwd / "documents"
    folder.mkdir()
    for name, text in DOCUMENTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    _configure(installation)
    assert installation.json("sync")["documents"]["added"] == 5
    return installation


def _configure(command: CommandLine, more: str = "") -> None:
    settings = f'{SETTINGS}[collections.default]\nsource = "documents"\n{more}'
    (command.cwd / "rag_assets.toml").write_text(settings, encoding="utf-8")


def test_a_sync_with_nothing_to_do_runs_nothing_and_embeds_nothing(command: CommandLine) -> None:
    again = command.json("sync")
    assert again["shards"] == []
    assert again["documents"]["unchanged"] == 5
    assert again["documents"]["quarantined"] == 1
    assert again["embeddings"] == {"computed": 0, "reused": 0}
    planned = command.json("plan")
    assert planned["documents"] == again["documents"]
    assert planned["reasons"] == []


def test_a_forgotten_document_is_gone_everywhere_and_stays_out_until_it_is_let_back(command: CommandLine) -> None:
    evidence = command.json("forget", "alpine.md")
    assert evidence["removed"]["index_entry"] == evidence["removed"]["embedding"] == 1
    assert set(evidence["left"].values()) == {0}
    assert evidence["still_in_source"]
    assert "alpine.md" not in {hit["document"] for hit in command.json("search", "marmots")["hits"]}
    assert command.json("sync")["shards"] == []
    quarantined = command.json("status")["collections"][0]["quarantined"]
    reasons = {listed["document"]: listed["reason"] for listed in quarantined}
    assert reasons.keys() == {"alpine.md", "bad.pdf"}
    assert "forgotten" in reasons["alpine.md"]
    assert command.json("forget", "alpine.md", "--undo")["allowed_again"]
    assert command.json("sync")["documents"]["added"] == 1


def test_what_is_in_order_is_reconciled_promoted_and_rolled_back_without_a_change(command: CommandLine) -> None:
    assert command.json("reconcile")["before"]["rows"] == 5
    assert command.json("promote") == {"live": "default#1", "changed": False}
    assert command.run("rollback").code == 3
    unknown = command.run("forget", "no-such.md")
    assert unknown.code == 2
    assert "no-such.md" in unknown.err


def test_search_sees_an_edit_a_rename_a_deletion_and_an_addition_and_the_plan_foretold_them(
    command: CommandLine,
) -> None:
    folder = command.cwd / "documents"
    (folder / "alpine.md").write_text("# Alpine\n\nChamois climb the scree slope before noon.\n", encoding="utf-8")
    (folder / "kitchen.html").rename(folder / "galley.html")
    (folder / "library.txt").unlink()
    (folder / "theatre.txt").write_text("The theatre curtain is woven from fireproof wool.\n", encoding="utf-8")
    planned = command.json("plan")
    synced = command.json("sync")
    counts = {
        "added": 1,
        "changed": 1,
        "renamed": 1,
        "removed": 1,
        "metadata_only": 0,
        "unchanged": 2,
        "quarantined": 1,
    }
    assert {kind: synced["documents"][kind] for kind in counts} == counts
    for group in ("documents", "chunks", "embeddings"):
        assert planned[group] == synced[group]
    # The edited and the new text are embedded, the renamed one keeps its vector.
    assert synced["embeddings"] == {"computed": 2, "reused": 1}
    everything = command.json("search", "feeding a sourdough starter", "-k", "10")["hits"]
    assert everything[0]["document"] == "galley.html"
    assert {hit["document"] for hit in everything} == {
        "galley.html", "alpine.md", "theatre.txt", "harbour.txt", "observatory.txt",
    }  # fmt: skip
    assert not any("Marmots" in hit["text"] for hit in everything)


def test_a_vanished_folder_deletes_nothing_until_a_person_confirms_it(command: CommandLine) -> None:
    for name in ("harbour.txt", "theatre.txt", "galley.html"):
        (command.cwd / "documents" / name).unlink()
    refused = command.run("sync", "--json")
    assert refused.code == 3
    assert refused.json["exit_code"] == 3
    assert "--allow-mass-delete" in refused.json["error"]
    assert len(refused.json["withheld"]) == 3
    assert command.json("status")["collections"][0]["documents"] == 5
    confirmed = command.json("sync", "--allow-mass-delete")
    assert confirmed["documents"]["removed"] == 3
    assert confirmed["chunks"]["total"] == 2


def test_another_folder_synced_by_mistake_is_refused_and_changes_nothing(command: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("Penguins huddle against the polar night.\n", encoding="utf-8")
    assert command.run("sync", "--source", tmp_path).code == 3
    assert command.json("sync")["shards"] == []
    assert not any("Penguins" in hit["text"] for hit in command.json("search", "penguins")["hits"])


def test_a_model_that_can_not_be_reached_is_a_failure_that_names_it(command: CommandLine) -> None:
    (command.cwd / "models.yaml").write_text(DEAD_MODEL, encoding="utf-8")
    _configure(command, '[answers]\nmodels = "models.yaml"\nmodel = "dead"\n')
    failed = command.run("ask", "When do marmots whistle?", "--json")
    assert (failed.code, failed.json["exit_code"]) == (1, 1)
    assert "127.0.0.1:9" in failed.json["error"]


def test_a_file_in_quarantine_is_retried_and_garbage_is_collected(command: CommandLine) -> None:
    folder = command.cwd / "documents"
    (folder / "blank.md").write_text("", encoding="utf-8")
    (folder / "short-lived.md").write_text("# Lived\n\nA mayfly lives for one day.\n", encoding="utf-8")
    command.succeed("sync")
    (folder / "short-lived.md").unlink()
    again = command.json("retry", "blank.md")
    assert (again["retried"], again["documents"]["removed"]) == (["blank.md"], 1)
    collected = command.json("gc")
    assert collected["generations"] == []
    assert collected["vectors"] >= 1
    assert command.json("gc") == {"generations": [], "chunks": 0, "vectors": 0, "outside": []}


def test_an_evaluation_that_misses_a_floor_ends_with_3_and_says_which(command: CommandLine) -> None:
    (command.cwd / "questions.jsonl").write_text(QUESTION, encoding="utf-8")
    _configure(command, "[gates]\nsearch_p95_seconds = 0.0000001\n")
    failed = command.run("evaluate", "--questions", "questions.jsonl", "--json")
    assert failed.code == 3
    assert failed.json["verdict"] == "fail"
    assert "the budget is 0 ms" in " ".join(failed.json["reasons"])
    assert "verdict fail" in failed.err
