"""Homes of embedded servers for tests: made, looked into, used by other processes, killed and cleared away."""

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from rag_assets.database.binaries import binaries_for
from rag_assets.database.cluster import Cluster
from rag_assets.database.embedded import EmbeddedPostgres
from rag_assets.database.location import existing_cluster

PROJECT = Path(__file__).parents[3]
ACQUIRE = "import sys; from pathlib import Path; from rag_assets.database.embedded import embedded\n"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@contextmanager
def folder_for_homes() -> Iterator[Path]:
    """A folder that a service user can enter; pytest's own folders are closed to other users."""
    folder = Path(tempfile.mkdtemp(prefix="rag-home-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def template() -> Iterator[Path]:
    """A home whose cluster is made, to be copied: quicker than initdb for every test."""
    with folder_for_homes() as folder:
        server = EmbeddedPostgres(folder / "template")
        server.acquire()
        server.release()
        yield server.home


@pytest.fixture
def new_home() -> Iterator[Path]:
    """A home that does not exist yet; its server is stopped afterwards."""
    with folder_for_homes() as folder:
        yield folder / "home"
        dispose(folder / "home")


@pytest.fixture
def home(new_home: Path, template: Path) -> Path:
    """A home with a cluster that was never started there."""
    subprocess.run(["cp", "-a", template, new_home], check=True)
    return new_home


def dispose(home: Path) -> None:
    """Stop the server of a test, whatever state the test left it in, and remove what lies outside the home."""
    cluster = existing_cluster(home.resolve()) if home.exists() else None
    if cluster is not None:
        cluster.stop(binaries_for(cluster.account))
        if not cluster.socket_folder.is_relative_to(cluster.data.parent):
            shutil.rmtree(cluster.socket_folder, ignore_errors=True)
        if not cluster.data.is_relative_to(home.resolve()):
            shutil.rmtree(cluster.data.parent)


def cluster_of(home: Path) -> Cluster:
    cluster = existing_cluster(home.resolve())
    assert cluster is not None
    return cluster


def postmaster_of(home: Path) -> int:
    pid = cluster_of(home).postmaster()
    assert pid is not None
    return pid


def query(url: str, statement: str) -> Any:
    with psycopg.connect(url) as connection:
        row = connection.execute(statement.encode()).fetchone()
        return row[0] if row else None


def python(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script to its end with its output captured, as CI and shells do."""
    command = [sys.executable, "-c", ACQUIRE + textwrap.dedent(script), *map(str, arguments)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True)


class Holder:
    """Another process that holds a lease until it is told to end or killed."""

    def __init__(self, home: Path) -> None:
        script = "print(embedded(Path(sys.argv[1])).acquire(), flush=True); sys.stdin.read()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", ACQUIRE + script, str(home)],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = ""

    def acquired(self) -> "Holder":
        """Wait until it holds its lease."""
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("postgresql://")
        return self

    def end(self) -> None:
        self.process.communicate(timeout=60)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=60)


def kill_whole_cluster(home: Path) -> None:
    """SIGKILL the postmaster *and* its children: alone, the children would go on and commit."""
    postmaster = psutil.Process(postmaster_of(home))
    family = [postmaster, *postmaster.children(recursive=True)]
    for process in family:
        # Some come and go by themselves.
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=30)
