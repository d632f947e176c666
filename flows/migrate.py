"""The Prefect flows: thin tasks over the driver in ``flows.pipeline``.

No class is defined here: Prefect loads this file under another module name.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

# Prefect reads its settings when it is imported; what the user set wins.
for _name, _value in {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,validation",
    # The same functions are called outside of flows too, by notebooks.
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}.items():
    os.environ.setdefault(_name, _value)

from prefect import Task, flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import deployment
from prefect.states import Completed
from prefect.tasks import exponential_backoff

from flows import pipeline, workers
from flows.errors import (
    Ambiguous,
    CutoverDeclared,
    MigrationError,
    NotApplied,
    SourceLost,
)
from flows.models import MigrateOptions, PartitionLedger, PartitionSpec
from flows.quality import reason_lines
from flows.report import MigrationReport

logger = logging.getLogger(__name__)

REASONS = "validation-reasons"


def is_passing(_: Task[Any, Any], __: TaskRun, state: State[Any]) -> bool:
    """Tell whether a failed partition is worth another try."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, (SourceLost, NotApplied, Ambiguous))


@contextmanager
def faults_untold() -> Iterator[None]:
    """Keep the text of any error that is not ours from Prefect, but not its place.

    It may hold secrets or values of rows, and Prefect shows and stores it.
    """
    try:
        yield
    except MigrationError:
        raise
    except Exception as error:  # noqa: BLE001
        message = f"a fault of the program ({type(error).__name__})"
        raise RuntimeError(message).with_traceback(error.__traceback__) from None


@task(
    name="migrate-partition",
    task_run_name="partition-{spec.number}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=3,
    retry_delay_seconds=exponential_backoff(2),
    retry_jitter_factor=0.5,
    retry_condition_fn=is_passing,
)
def migrate_partition(spec: PartitionSpec) -> PartitionLedger:
    """Put one partition through all steps, and record its ledger."""
    with faults_untold():
        return workers.migrate_partition(spec)


@flow(name="migrate-enterprises", persist_result=False)
def migrate_enterprises(
    options: MigrateOptions | None = None,
) -> MigrationReport | State[None]:
    """Move the enterprises from PostgreSQL to DynamoDB, and prove it.

    Once the cutover is declared, an incremental run of a deployment ends as completed,
    skipped: its schedule may go on until somebody stops it.

    Raises:
        Unproven: the run finished, and something is not as it should be.
        Incomplete: the run stopped before its end.
    """
    try:
        with faults_untold():
            report = pipeline.migrate(options, each=map_partitions)
        show_reasons(report)
    except CutoverDeclared as fence:
        scheduled = deployment.id is not None
        if not scheduled or options is None or options.since is None:
            raise
        return Completed(name="Skipped", message=fence.message)
    report.raise_for_failures()
    return report


def show_reasons(report: MigrationReport) -> None:
    """Show on the run's page which reasons rows were put aside or told for.

    The run is over and its files are written: an API that is gone changes no verdict.
    """
    lines = reason_lines(report.validation, report.quarantine)
    try:
        create_table_artifact(lines, REASONS, description=report.verdict)
    except Exception as error:  # noqa: BLE001
        logger.warning("no artifact was made: %s", type(error).__name__)


def map_partitions(
    _: object, specs: Sequence[PartitionSpec]
) -> Iterator[PartitionLedger]:
    """Submit a task for each partition, and yield their ledgers."""
    for future in migrate_partition.map(list(specs)):
        yield future.result()


def start_server() -> None:
    """Have a Prefect API answer: the configured one, or an ephemeral server."""
    with get_client(sync_client=True) as client:
        client.api_healthcheck()
