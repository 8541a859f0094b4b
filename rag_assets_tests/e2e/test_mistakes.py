"""Mistakes people make: each ends with the documented exit code and a message that names the thing, the reason and the cure."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rag_assets_tests.e2e.commands import CommandLine
from rag_assets_tests.e2e.conftest import make_installation

EMPTY, MISSING = "empty-folder", "missing-folder"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["sync", "--source", MISSING], 2, ["missing-folder", "does not exist"]),
        (["sync", "--source", EMPTY], 2, ["empty-folder", "no document"]),
        (["plan"], 2, ["--source DIR", "RAG_SOURCE"]),
        (["search", "hello", "--collection", "nope"], 2, ["'nope'", "known"]),
        (["sync", "--no-such-option"], 2, ["--no-such-option"]),
        (["search"], 2, ["QUESTION"]),
        (["search", "hello", "-k", "many"], 2, ["'many'", "integer"]),
        (["search", "  ", "--source", EMPTY], 2, ["question is empty"]),
        (["search", "hello", "-k", "0", "--source", EMPTY], 2, ["k = 0", "1 to 1000"]),
        (["search", "hello", "--filter", "word", "--source", EMPTY], 2, ["'word'", "FIELD=VALUE"]),
        (["search", "hello", "--source", EMPTY], 1, ["no live index", "rag-assets sync"]),
        (["evaluate", "--source", EMPTY], 2, ["--questions FILE"]),
        (["tune", "--source", EMPTY], 2, ["--questions FILE", "collections.default.questions"]),
        (["questions", "draft", "--source", EMPTY], 2, ["offline-extractive", "answers.models", "answers.model"]),
        (["no-such-command"], 2, ["no-such-command"]),
    ],
)
def test_a_mistake_has_its_exit_code_and_an_object_for_scripts(
    installation: CommandLine, arguments: list[str], code: int, words: list[str]
) -> None:
    (installation.cwd / EMPTY).mkdir(exist_ok=True)
    done = installation.run(*arguments, "--json")
    assert done.code == code
    assert done.json.keys() == {"error", "exit_code"}
    assert done.json["exit_code"] == code
    for word in words:
        assert word in done.json["error"]
        assert word in done.err


def test_the_same_mistake_without_json_is_one_message_on_standard_error(installation: CommandLine) -> None:
    done = installation.run("sync", "--source", "missing-folder")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error: The source")
    assert not (installation.home / "collections.json").exists()


def test_a_question_file_s_mistakes_are_listed_by_line(installation: CommandLine) -> None:
    (installation.cwd / EMPTY).mkdir(exist_ok=True)
    (installation.cwd / "q.jsonl").write_text('{"id": "1", "relevant": []}\nno json\n', encoding="utf-8")
    done = installation.run("evaluate", "--source", EMPTY, "--questions", "q.jsonl")
    assert done.code in (1, 2)
    missing = installation.run("evaluate", "--source", EMPTY, "--questions", "none.jsonl")
    assert missing.code in (1, 2)


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[chunking]\nmax_tokens = 5\n", ["chunking.max_tokens = 5", "16"]),
        ('[chunking]\nstrategy = "magic"\n', ["chunking.strategy = 'magic'", "'recursive'"]),
        ("[gate]\nx = 1\n", ["gate", "no such setting", "gates"]),
        ('[collections.good]\nsauce = "x"\n', ["collections.good.source", "required", "collections.good.sauce"]),
        ("[chunking\n", ["not valid TOML", "line 1"]),
        ("collections = 3\n", ["collections = 3"]),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_what_is_allowed(
    tmp_path: Path, toml: str, words: list[str]
) -> None:
    command = make_installation(tmp_path)
    (command.cwd / "rag_assets.toml").write_text(toml, encoding="utf-8")
    done = command.run("status", "--json")
    assert (done.code, done.json["exit_code"]) == (2, 2)
    assert "rag_assets.toml" in done.json["error"]
    for word in words:
        assert word in done.json["error"]


def test_a_server_that_does_not_answer_is_a_failure_and_doctor_still_looks_at_the_rest(tmp_path: Path) -> None:
    command = make_installation(tmp_path)
    unreachable = replace(command, variables={"RAG_POSTGRES_URL": "postgresql://nobody:secret@127.0.0.1:9/none"})
    (command.cwd / EMPTY).mkdir()
    done = unreachable.run("status", "--source", EMPTY, "--json")
    assert (done.code, done.json["exit_code"]) == (1, 1)
    assert "127.0.0.1" in done.json["error"]
    assert "secret" not in done.out + done.err
    found = unreachable.run("doctor", "--source", EMPTY, "--json")
    assert found.code == 1
    states = {row["name"]: row["state"] for row in found.json["findings"]}
    assert (states["database"], states["model"], states["source of default"]) == ("broken", "ok", "warning")
    assert json.loads(found.out)["ok"] is False
