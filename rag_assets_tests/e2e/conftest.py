"""Fixtures: installations of the real command, one for each module that asks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rag_assets_tests.e2e.commands import SETTINGS, CommandLine
from rag_assets_tests.e2e.processes import assert_nothing_runs_in, remove_cluster


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A fresh RAG_HOME with two shards; at the end of the module nothing may run in it any more."""
    root = tmp_path_factory.mktemp("installation")
    made = make_installation(root)
    yield made
    assert_nothing_runs_in(made.home)
    remove_cluster(made.home)


def make_installation(root: Path) -> CommandLine:
    """A RAG_HOME and a working directory with a settings file, below ``root``."""
    cwd = root / "work"
    cwd.mkdir()
    (cwd / "rag_assets.toml").write_text(SETTINGS, encoding="utf-8")
    return CommandLine(home=root / "home", cwd=cwd)
