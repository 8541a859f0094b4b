"""Runs of the project's own definitions in this process."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from rag_assets.definitions import build_definitions
from rag_assets.defs.index_assets import INDEX_JOB
from rag_assets.defs.partitions import shard_partition_key
from rag_assets.defs.shard_assets import SHARD_JOB
from rag_assets_tests.driving import OpenIndex, WarmRuntime

Quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class Dagster:
    """Executes the project's jobs against one runtime and one instance."""

    def __init__(self, runtime: WarmRuntime, instance: dg.DagsterInstance) -> None:
        self.runtime, self.instance = runtime, instance
        self.definitions = build_definitions(runtime=runtime)

    def update(self, shard: int, collection: str = "default", **options: Any) -> dg.ExecuteInProcessResult:
        """One shard."""
        return self._execute(SHARD_JOB, shard_partition_key(collection, shard), **options)

    def update_all(self, collection: str = "default") -> None:
        """Every shard of a collection."""
        for shard in range(self.runtime.settings.sync.shards):
            assert self.update(shard, collection).success

    def publish(self, collection: str = "default", **options: Any) -> dg.ExecuteInProcessResult:
        """The index assets; with ``asset_selection`` some of them."""
        return self._execute(INDEX_JOB, collection, **options)

    def _execute(self, job: str, partition: str, **options: Any) -> dg.ExecuteInProcessResult:
        definition = self.definitions.resolve_job_def(job)
        return definition.execute_in_process(
            instance=self.instance, partition_key=partition, run_config=Quiet, **{"raise_on_error": False, **options}
        )


OpenDagster = Callable[..., Dagster]


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A throw-away instance in memory that keeps its files where they can be counted."""
    folder = tmp_path / "instance"
    folder.mkdir()
    with dg.DagsterInstance.ephemeral(tempdir=str(folder)) as made:
        yield made


@pytest.fixture
def open_dagster(open_index: OpenIndex, instance: dg.DagsterInstance) -> OpenDagster:
    """The project under any settings, on the throw-away instance."""
    return lambda **settings: Dagster(open_index(**settings), instance)


@pytest.fixture
def dagster(open_dagster: OpenDagster) -> Dagster:
    """The project under default settings."""
    return open_dagster()
