"""Which documents a command is about: given once and remembered, named by the environment, or several by a settings file."""

from dataclasses import replace
from pathlib import Path

import pytest

from rag_assets_tests.e2e.commands import SETTINGS, CommandLine


@pytest.fixture(scope="module")
def command(installation: CommandLine) -> CommandLine:
    """An installation with a folder that was indexed with ``--source``."""
    for folder, name, text in (
        ("rivers", "otters.txt", "Otters hold hands while they sleep so that they do not drift apart."),
        ("deserts", "camels.txt", "Camels store fat in their humps."),
        ("moons", "titan.txt", "Titan has lakes of methane."),
    ):
        (installation.cwd / folder).mkdir()
        (installation.cwd / folder / name).write_text(text, encoding="utf-8")
    installation.succeed("sync", "--source", "rivers")
    return installation


def _found(command: CommandLine, *arguments: str) -> tuple[str, list[str]]:
    found = command.json("search", "animals", *arguments)
    return found["generation"], [hit["document"] for hit in found["hits"]]


def test_a_source_given_once_is_what_later_commands_are_about_wherever_they_run(
    command: CommandLine, tmp_path: Path
) -> None:
    elsewhere = replace(command, cwd=tmp_path)
    assert elsewhere.run("sync", "--source", "mistyped").code == 2
    assert elsewhere.json("status")["collections"][0]["source"] == str(command.cwd / "rivers")
    assert _found(elsewhere) == ("default#1", ["otters.txt"])


def test_a_source_of_the_environment_is_not_remembered_for_another_collection(command: CommandLine) -> None:
    variables = {"RAG_SOURCE": str(command.cwd / "deserts"), "RAG_COLLECTION": "deserts"}
    in_environment = replace(command, variables=variables)
    assert in_environment.json("sync")["collection"] == "deserts"
    assert _found(in_environment) == ("deserts#1", ["camels.txt"])
    assert _found(command) == ("default#1", ["otters.txt"])
    assert _found(command, "--collection", "deserts") == ("deserts#1", ["camels.txt"])


def test_a_settings_file_in_the_working_directory_names_collections(command: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "rag_assets.toml").write_text(
        f'{SETTINGS}[collections.moons]\nsource = "{command.cwd / "moons"}"\n'
        f'[collections.dunes]\nsource = "{command.cwd / "deserts"}"\nexclude = ["camels*"]\n',
        encoding="utf-8",
    )
    elsewhere = replace(command, cwd=tmp_path)
    assert elsewhere.json("sync", "--collection", "moons")["documents"]["added"] == 1
    assert _found(elsewhere, "--collection", "moons") == ("moons#1", ["titan.txt"])
    assert elsewhere.run("sync", "--collection", "dunes").code == 2
    names = [item["name"] for item in elsewhere.json("status", "--collection", "moons")["collections"]]
    assert names == ["moons", "default", "deserts", "dunes"]
