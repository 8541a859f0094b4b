"""Runs the same assets as the Dagster UI, in this process: what ``rag-assets sync`` uses."""

import logging
from typing import Any

from dagster import DagsterInstance, Definitions
from dagster._core.errors import DagsterAssetCheckFailedError, DagsterExecutionInterruptedError
from dagster_postgres.utils import DagsterPostgresException
from sqlalchemy.exc import InterfaceError, OperationalError

from rag_assets.database import generations
from rag_assets.defs.dead_runs import end_dead_runs, end_own_runs, owner_tags
from rag_assets.defs.event_log import batched, keep_connections
from rag_assets.defs.index_assets import INDEX_JOB
from rag_assets.defs.instance import open_instance
from rag_assets.defs.partitions import shard_partition_key
from rag_assets.defs.shard_assets import SHARD_JOB
from rag_assets.errors import DatabaseLost, GateRefused, RagAssetsError
from rag_assets.runtime import Runtime

# What our own transactions raise, and what Dagster's storage does, where it gives up connecting again.
_LOST = (DatabaseLost, OperationalError, InterfaceError, DagsterPostgresException)
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class LocalRunner:
    """Materializes assets in this process; the runs appear in the Dagster UI like any other."""

    def __init__(self, runtime: Runtime, definitions: Definitions, instance: DagsterInstance | None = None) -> None:
        """``definitions`` hold ``runtime``; ``instance`` None: the project's own, opened from its settings."""
        self._runtime = runtime
        # To capture what a step prints takes two processes each; here it is printed where people look.
        self._instance = instance or open_instance(runtime.settings, capturing=False)
        keep_connections(self._instance)
        end_dead_runs(self._instance)
        self._definitions = definitions
        self._lost = False
        logging.getLogger("dagster").setLevel(logging.CRITICAL)

    def update_shard(self, collection: str, shard: int) -> None:
        """Materialize the four shard assets of one partition."""
        self._execute(SHARD_JOB, shard_partition_key(collection, shard))

    def publish(self, collection: str) -> None:
        """Build, evaluate, promote if it passes, report.

        Raises:
            GateRefused: a blocking check failed; says which.
        """
        judged = self._runtime.target(collection)
        try:
            self._execute(INDEX_JOB, collection)
        except DagsterAssetCheckFailedError:
            # A rebuild that was refused is the target no more, so it is asked for by its id.
            with self._runtime.database.transaction() as connection:
                generation = generations.by_id_or_none(connection, judged.id) if judged else None
            reason = generation.reason if generation and generation.reason else "a blocking check failed."
            raise GateRefused(
                f"{generation.name if generation else collection} did not go live: {reason} "
                "What was live before still answers."
            ) from None

    def _execute(self, job: str, partition: str) -> Any:
        definition = self._definitions.resolve_job_def(job)
        if self._lost:
            # The database went away under the last run, which therefore may not have noted its own end.
            end_own_runs(self._instance)
            self._lost = False
        try:
            with batched(self._instance):
                result = definition.execute_in_process(
                    instance=self._instance,
                    partition_key=partition,
                    run_config=_QUIET,
                    raise_on_error=True,
                    tags=owner_tags(),
                )
        except DagsterExecutionInterruptedError:
            # Dagster puts its own handlers in place of ours while a step runs; Ctrl-C and SIGTERM mean the same in both.
            raise KeyboardInterrupt from None
        except _LOST as error:
            self._lost = True
            raise DatabaseLost(f"The database went away under a run of {job}: {error}") from error
        if not result.success:
            raise RagAssetsError(f"The run {result.run_id} of {job} failed. Look at it in the Dagster UI (`make dev`).")
        return result
