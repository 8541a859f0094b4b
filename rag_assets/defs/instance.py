"""The Dagster instance: stored in the project's PostgreSQL and under ``RAG_HOME``, with no variable to set.

``dagster.yaml`` names these classes, because YAML has no word for "the embedded server, unless RAG_POSTGRES_URL is set".
"""

import os
import shutil
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import psycopg
from dagster import DagsterInstance
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._serdes import ConfigurableClassData
from dagster_postgres.storage import DagsterPostgresStorage

from rag_assets.database.pool import database_url
from rag_assets.settings import Settings, load_settings

SCHEMA = "dagster"
INSTANCE_FILE = "dagster.yaml"
WORKSPACE_FILE = "workspace.yaml"


def storage_url(settings: Settings) -> str:
    """SQLAlchemy URL of Dagster's own tables: the project's database, schema ``dagster``.

    The driver is named because SQLAlchemy 2.1 reads plain ``postgresql://`` as psycopg 3, which Dagster does not speak.
    """
    url = database_url(settings)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    query["options"] = f"-csearch_path={SCHEMA}"
    return urlunsplit(("postgresql+psycopg2", parts.netloc, parts.path, urlencode(query), ""))


class ProjectStorage(DagsterPostgresStorage):
    """Runs, events and schedules in the project's PostgreSQL; starts the embedded server if need be."""

    @classmethod
    def config_type(cls) -> Any:
        """No configuration: settings say everything."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Make the storage from the settings in force."""
        return cls(postgres_url=storage_url(load_settings()), inst_data=inst_data)


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
        shutil.copyfile(source if source.is_file() else str(resources.files("rag_assets.defs") / name), folder / name)
    return folder


def open_instance(settings: Settings) -> DagsterInstance:
    """The same instance that ``dagster dev`` and ``rag-assets up`` show."""
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    os.environ["RAG_HOME"] = str(settings.home)
    return DagsterInstance.from_ref(InstanceRef.from_dir(str(prepare_home(settings))))
