"""Fixtures: one real PostgreSQL and one warm parser for the session, a database of its own for each test, an index on top."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

# Before any library reads them: tests never ask the network for anything.
os.environ.update(HF_HUB_OFFLINE="1", DO_NOT_TRACK="1", DAGSTER_DISABLE_TELEMETRY="1")
for _name in ("RAG_HOME", "RAG_SOURCE", "RAG_CONFIG", "RAG_COLLECTION", "RAG_POSTGRES_URL", "DAGSTER_HOME"):
    os.environ.pop(_name, None)

import psycopg
import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says something about the machine's load, and nothing about what is tested.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

from rag_assets.database.embedded import embedded
from rag_assets.database.migrate import migrate
from rag_assets_tests.driving import index, open_index, parsers
from rag_assets_tests.faults.summary import pytest_sessionfinish, pytest_terminal_summary, pytest_testnodedown
from rag_assets_tests.source_servers import s3, web

# Here, and not beside the tests that use them: a session has one of each only if one conftest names it.
__all__ = [
    "index",
    "open_index",
    "parsers",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "pytest_testnodedown",
    "s3",
    "web",
]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a real server with pgvector, whose database ``template_rag`` has every migration."""
    # Open to the service user that runs PostgreSQL for root, so that the data stay in the temporary folder.
    home = Path(tempfile.mkdtemp(prefix="rag-tests-"))
    home.chmod(0o711)
    server = embedded(home)
    url = server.acquire()
    _wait_for_no_disk(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE template_rag")
    with psycopg.connect(_with_database(url, "template_rag")) as connection:
        migrate(connection)
    yield url
    server.release()
    shutil.rmtree(home, ignore_errors=True)


def _wait_for_no_disk(url: str) -> None:
    """Let nothing wait for the disk: this server's data need not outlive it, and no test of a crash runs on it."""
    with psycopg.connect(url.replace("//rag@", "//postgres@"), autocommit=True) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(f"ALTER SYSTEM SET {setting} = off")
        connection.execute("SELECT pg_reload_conf()")


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """URL of a fresh, migrated database."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template_rag")
    yield _with_database(postgres_server, name)
    drop_database(postgres_server, name)


def drop_database(server: str, name: str) -> None:
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


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for ``RAG_MODEL_CACHE``: converting a model takes seconds, so whoever runs one shares what is made here."""
    folder = tmp_path_factory.getbasetemp()
    # Each of pytest-xdist's processes has a folder of its own below the run's.
    return (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "converted-models"


@pytest.fixture(scope="session", autouse=True)
def named_model_cache(model_cache: Path) -> Iterator[Path]:
    """``RAG_MODEL_CACHE`` of this process and its children: nothing is noted in the cache of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAG_MODEL_CACHE", str(model_cache))
        yield model_cache
