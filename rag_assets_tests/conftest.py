"""Fixtures: one real PostgreSQL for the session, a database of its own for each test, and a runtime on top of it."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

# Before any library reads them: tests never ask the network for anything.
os.environ.update(HF_HUB_OFFLINE="1", DO_NOT_TRACK="1", DAGSTER_DISABLE_TELEMETRY="1")
for _name in ("RAG_HOME", "RAG_SOURCE", "RAG_CONFIG", "RAG_COLLECTION", "RAG_POSTGRES_URL", "DAGSTER_HOME"):
    os.environ.pop(_name, None)

import psycopg
import pytest

from rag_assets.database.embedded import embedded
from rag_assets.database.migrate import migrate
from rag_assets.runtime import Runtime
from rag_assets.settings import Settings
from rag_assets_tests.fakes import FakeEmbedder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a real server with pgvector, whose database ``template_rag`` has every migration."""
    # Open to the service user that runs PostgreSQL for root, so that the data stay in the temporary folder.
    home = Path(tempfile.mkdtemp(prefix="rag-tests-"))
    home.chmod(0o711)
    server = embedded(home)
    url = server.acquire()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE template_rag")
    with psycopg.connect(_with_database(url, "template_rag")) as connection:
        migrate(connection)
    yield url
    server.release()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """URL of a fresh, migrated database."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template_rag")
    yield _with_database(postgres_server, name)
    _drop(postgres_server, name)


def _drop(server: str, name: str) -> None:
    """FORCE may not end an autovacuum worker of the server's own; without it, PostgreSQL ends those itself."""
    with psycopg.connect(server, autocommit=True) as connection:
        try:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        except psycopg.errors.InsufficientPrivilege:
            connection.execute(f"DROP DATABASE {name}")


def _with_database(url: str, name: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, f"/{name}", parts.query, ""))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An empty folder of documents."""
    folder = tmp_path / "documents"
    folder.mkdir()
    return folder


MakeRuntime = Callable[..., Runtime]


@pytest.fixture
def make_runtime(tmp_path: Path, source: Path, postgres_url: str) -> Iterator[MakeRuntime]:
    """Make runtimes over the same source and database, as separate processes would: ``make_runtime(**settings)``."""
    made: list[Runtime] = []

    def make(*, embedder: FakeEmbedder | None = None, questions: Path | None = None, **settings: Any) -> Runtime:
        collections = {"default": {"source": source, "questions": questions}}
        chosen = Settings(home=tmp_path / "home", postgres_url=postgres_url, collections=collections, **settings)
        made.append(Runtime(chosen, embedder=embedder or FakeEmbedder()))
        return made[-1]

    yield make
    for runtime in made:
        runtime.close()


@pytest.fixture
def runtime(make_runtime: MakeRuntime) -> Runtime:
    """A runtime with default settings and a fake embedder."""
    return make_runtime()
