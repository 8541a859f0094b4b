"""What the tests of a sync's stamp begin with."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rag_assets.indexing.sync_report import SyncReport
from rag_assets_tests.driving import OpenIndex, corpus, run, write
from rag_assets_tests.indexing.stamping import noted


@pytest.fixture
def called(tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is a command that was called where the index is."""
    monkeypatch.setenv("RAG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAG_POSTGRES_URL", postgres_url)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def indexed(called: None, open_index: OpenIndex, source: Path) -> Callable[..., SyncReport]:
    """Four documents and a folder that was up to date when the call returned; what is returned syncs it once more."""
    corpus(source, 4)
    write(source, "below/e.md", "# Below\n\nA document in a folder.\n")
    run(open_index())
    noted(open_index())
    return lambda **settings: noted(open_index(**settings))
