"""An index that follows its folder, driven as people do it: edit, sync, search; and the gates that hold it back."""

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
    kept = {}
    for name in ("harbour.txt", "theatre.txt", "galley.html"):
        path = command.cwd / "documents" / name
        kept[path] = path.read_bytes()
        path.unlink()
    refused = command.run("sync", "--json")
    assert refused.code == 3
    assert refused.json["exit_code"] == 3
    assert "--allow-mass-delete" in refused.json["error"]
    assert len(refused.json["withheld"]) == 3
    assert command.json("status")["collections"][0]["documents"] == 5
    confirmed = command.json("sync", "--allow-mass-delete")
    assert confirmed["documents"]["removed"] == 3
    assert confirmed["chunks"]["total"] == 2
    for path, data in kept.items():
        path.write_bytes(data)
    assert command.json("sync")["embeddings"] == {"computed": 0, "reused": 3}


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
    _configure(command, '[answers]\nmodels = "models.yaml"\nmodel = "unknown"\n')
    found = command.run("doctor", "--json")
    assert found.code == 1
    (broken,) = [row for row in found.json["findings"] if row["state"] == "broken"]
    assert broken["name"] == "answering model"
    assert "Known: dead" in broken["text"]


def test_an_evaluation_that_misses_a_floor_ends_with_3_and_says_which(command: CommandLine) -> None:
    (command.cwd / "questions.jsonl").write_text(QUESTION, encoding="utf-8")
    _configure(command, "[gates]\nsearch_p95_seconds = 0.0000001\n")
    failed = command.run("evaluate", "--questions", command.cwd / "questions.jsonl", "--json")
    assert failed.code == 3
    assert failed.json["verdict"] == "fail"
    assert "the budget is 0 ms" in " ".join(failed.json["reasons"])
    assert "verdict fail" in failed.err
