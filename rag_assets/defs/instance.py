"""The Dagster instance: stored in the project's PostgreSQL and under ``RAG_HOME``, with no variable to set.

``dagster.yaml`` names these classes, because YAML has no word for "the embedded server, unless RAG_POSTGRES_URL is set".
"""

import os
import shutil
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import psycopg
from dagster import DagsterInstance
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.compute_log_manager import CapturedLogContext
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._serdes import ConfigurableClassData
from dagster._utils import touch_file
from dagster_postgres.storage import DagsterPostgresStorage

from rag_assets.database.pool import database_url
from rag_assets.defs.event_log import ProjectEventLog, ProjectRunStorage
from rag_assets.settings import Settings, load_settings

SCHEMA = "dagster"
_ASIDE = "dagster_unfinished"
_LOCK = 0x6461675F  # "dag_": advisory lock key, so that two processes never create the tables at once
INSTANCE_FILE = "dagster.yaml"
WORKSPACE_FILE = "workspace.yaml"
_NOT_CAPTURED = {"module": "rag_assets.defs.instance", "class": "UncapturedLogs", "config": {}}


def storage_url(settings: Settings, schema: str = SCHEMA) -> str:
    """SQLAlchemy URL of Dagster's own tables: the project's database, schema ``dagster``.

    The driver is named because SQLAlchemy 2.1 reads plain ``postgresql://`` as psycopg 3, which Dagster does not speak.
    """
    parts = urlsplit(database_url(settings))
    query = dict(parse_qsl(parts.query))
    query["options"] = f"-csearch_path={schema}"
    return urlunsplit(("postgresql+psycopg2", parts.netloc, parts.path, urlencode(query), ""))


def create_storage(settings: Settings) -> None:
    """Create Dagster's tables, all or none, if there are none yet.

    Dagster commits after each table and asks later only whether the first is there, so that a process killed in between
    would leave a database that no run can use. They are therefore made in a schema aside, which gets its name at the end.
    """
    with psycopg.connect(database_url(settings), autocommit=True) as connection:
        if _exists(connection):
            return
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            if _exists(connection):
                return
            _create_aside(settings)
            connection.execute(f"ALTER SCHEMA {_ASIDE} RENAME TO {SCHEMA}")


def _create_aside(settings: Settings) -> None:
    with psycopg.connect(database_url(settings), autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {_ASIDE} CASCADE")
        connection.execute(f"CREATE SCHEMA {_ASIDE}")
    DagsterPostgresStorage(postgres_url=storage_url(settings, _ASIDE))


def _exists(connection: "psycopg.Connection[Any]") -> bool:
    row: Any = connection.execute("SELECT to_regnamespace(%s) IS NOT NULL", (SCHEMA,)).fetchone()
    return bool(row[0])


class ProjectStorage(DagsterPostgresStorage):
    """Runs, events and schedules in the project's PostgreSQL; starts the embedded server if need be."""

    def __init__(self, postgres_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        """The tables have to be there."""
        super().__init__(postgres_url, should_autocreate_tables=False, inst_data=inst_data)
        self._run_storage = ProjectRunStorage(postgres_url)
        self._event_log_storage = ProjectEventLog(postgres_url)

    @classmethod
    def config_type(cls) -> Any:
        """No configuration: settings say everything."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Make the storage from the settings in force."""
        settings = load_settings()
        create_storage(settings)
        return cls(postgres_url=storage_url(settings), inst_data=inst_data)


class ProjectArtifactStorage(LocalArtifactStorage):
    """Artifacts under ``<RAG_HOME>/dagster``."""

    @classmethod
    def config_type(cls) -> Any:
        """No configuration: settings say everything."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        """Make the storage from the settings in force."""
        return cls(base_dir=str(instance_folder(load_settings())), inst_data=inst_data)


class ProjectComputeLogManager(LocalComputeLogManager):
    """What steps print, under ``<RAG_HOME>/dagster/logs``."""

    @classmethod
    def config_type(cls) -> Any:
        """No configuration: settings say everything."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        """Make the manager from the settings in force."""
        return cls(base_dir=str(instance_folder(load_settings()) / "logs"), inst_data=inst_data)


class UncapturedLogs(ProjectComputeLogManager):
    """What steps print goes where the process prints, and nowhere else; to the UI each capture is complete, and empty."""

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Generator[CapturedLogContext, None, None]:
        """Capture nothing."""
        yield CapturedLogContext(log_key)
        touch_file(self.complete_artifact_path(log_key))  # type: ignore[no-untyped-call]


def instance_folder(settings: Settings) -> Path:
    """Where the instance keeps files; made if missing."""
    folder = settings.home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def prepare_home(settings: Settings) -> Path:
    """A folder fit to be DAGSTER_HOME: the instance's folder, with ``dagster.yaml`` and ``workspace.yaml`` in it."""
    folder = instance_folder(settings)
    checkout = Path(__file__).resolve().parents[2]
    for name in (INSTANCE_FILE, WORKSPACE_FILE):
        # In a checkout the files stand at the root; in an installed wheel they are packed beside this module.
        source = checkout / name
        whole = folder / f".{name}-{os.getpid()}"
        shutil.copyfile(source if source.is_file() else str(resources.files("rag_assets.defs") / name), whole)
        # A process that starts at the same time must not read half of it: Dagster would store its runs elsewhere.
        whole.replace(folder / name)
    return folder


def open_instance(settings: Settings, *, capturing: bool = True) -> DagsterInstance:
    """The same instance that ``dagster dev`` and ``rag-assets up`` show.

    Without ``capturing`` what steps print goes where this process prints, and not to files of each run as well.
    """
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    os.environ["RAG_HOME"] = str(settings.home)
    overrides = None if capturing else {"compute_logs": _NOT_CAPTURED}
    return DagsterInstance.from_ref(InstanceRef.from_dir(str(prepare_home(settings)), overrides=overrides))
