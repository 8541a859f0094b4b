"""Dagster's own tables come all or not at all, whoever makes them and whatever happens meanwhile."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from dagster import AssetKey

from rag_assets.defs.instance import SCHEMA, open_instance
from rag_assets.settings import Settings

_OPEN = """
import sys
from pathlib import Path
from rag_assets.defs.instance import create_storage
from rag_assets.settings import Settings
settings = Settings(home=Path(sys.argv[1]), postgres_url=sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
create_storage(settings)
"""


@pytest.fixture
def settings(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("RAG_HOME", str(tmp_path / "home"))  # which opening it sets, and later tests must not find
    monkeypatch.setenv("RAG_POSTGRES_URL", postgres_url)  # Dagster opens the storage itself, with the settings in force
    return Settings(home=tmp_path / "home", postgres_url=postgres_url)


def _creator(settings: Settings) -> "subprocess.Popen[str]":
    arguments = [sys.executable, "-c", _OPEN, str(settings.home), str(settings.postgres_url)]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def _go(process: "subprocess.Popen[str]") -> None:
    assert process.stdin
    process.stdin.write("go\n")
    process.stdin.flush()


def _tables(url: Any, schema_like: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname LIKE %s", (schema_like,))
        return {name for (name,) in rows}


def _usable(settings: Settings) -> set[str]:
    with open_instance(settings) as instance:
        assert instance.get_runs_count() == 0
        assert not instance.has_asset_key(AssetKey("chunks"))
        assert instance.all_instigator_state() == []
        # What Dagster marks as done where it made the tables itself; without it every query takes the old, slow way.
        assert instance.event_log_storage.has_secondary_index("asset_key_index_columns")  # type: ignore[attr-defined]
    return _tables(settings.postgres_url, SCHEMA)


@pytest.mark.parametrize("table", ["event_logs", "jobs"])
def test_a_process_killed_while_it_creates_them_leaves_nothing_half_done(settings: Settings, table: str) -> None:
    process = _creator(settings)
    with psycopg.connect(str(settings.postgres_url), autocommit=True) as connection:
        _go(process)
        deadline = time.monotonic() + 60
        found: Any = None
        while found is None and time.monotonic() < deadline:
            found = connection.execute("SELECT 1 FROM pg_class WHERE relname = %s", (table,)).fetchone()
        process.kill()
        process.wait()
    assert found, f"{table} was never made"
    assert len(_usable(settings)) > 20


def test_two_at_once_make_them_once(settings: Settings) -> None:
    both = [_creator(settings), _creator(settings)]
    for process in both:
        _go(process)
    assert [process.wait(60) for process in both] == [0, 0]
    made = _usable(settings)
    assert {"runs", "event_logs", "asset_keys", "jobs", "alembic_version"} <= made
    assert _tables(settings.postgres_url, f"{SCHEMA}%") == made
