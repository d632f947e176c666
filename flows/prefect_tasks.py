"""The tasks of the Prefect flows, and the runner that runs partitions in tasks."""

from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from itertools import islice
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import as_completed
from prefect.tasks import exponential_backoff

from flows import pipeline
from flows.errors import Ambiguous, Incomplete, MigrationError, NotApplied, SourceLost
from flows.models import PartitionLedger, PartitionSpec
from flows.prefect_artifacts import show_progress
from flows.reconciliation.report import ReconciliationReport
from flows.run import partition
from flows.run.context import RunContext
from flows.run.runner import Runner

P = ParamSpec("P")
R = TypeVar("R")

# Tasks that run at once, unless the number of workers is given.
MOST_AT_ONCE = 64

# The runs that this process started, with the runner of their partitions; None once a
# run has ended. A task is passed only its partition, since Prefect may give it to
# another process.
_runners: dict[str, Runner | None] = {}


def is_passing(_: Task[Any, Any], __: TaskRun, state: State[Any]) -> bool:
    """Return whether a failed task is worth a retry."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, (SourceLost, NotApplied, Ambiguous))


# Options of tasks that read and write; their results hold values of rows, or are small.
IO: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(2),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": is_passing,
}


def hide_faults(call: Callable[P, R]) -> Callable[P, R]:
    """Wrap a call so that unexpected errors show only their class and place.

    Their text may hold secrets or values of rows, and Prefect shows and stores it.
    """

    @wraps(call)
    def hiding(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return call(*args, **kwargs)
        except MigrationError:
            raise
        except Exception as error:  # noqa: BLE001
            message = f"internal error ({type(error).__name__})"
            fault = RuntimeError(message).with_traceback(error.__traceback__)
        # Outside the handler, so that the error is not stored as its context.
        raise fault

    return hiding


@task(name="migrate-partition", task_run_name="partition-{spec.number}", **IO)
def migrate_partition(spec: PartitionSpec) -> PartitionLedger:
    """Migrate one partition through all steps, and record its ledger.

    A process that did not start the run does this under its own environment.
    """
    return hide_faults(_migrate)(spec)


def _migrate(spec: PartitionSpec) -> PartitionLedger:
    if spec.run_id not in _runners:
        return partition.migrate_partition(spec, RunContext())
    runner = _runners[spec.run_id]
    if runner is None:
        raise Incomplete("The run was stopped.")
    (ledger,) = runner.map([spec])
    return ledger


class PrefectRunner:
    """Runs each partition in a task, with the runner of the process that started it."""

    def __init__(self, inner: Runner, at_once: int | None) -> None:
        self._inner = inner
        # One more than can run, so that no worker waits for the next.
        self._at_once = 1 + (at_once or MOST_AT_ONCE)

    def map(self, specs: Sequence[PartitionSpec]) -> Iterator[PartitionLedger]:
        """Submit a task per partition, and yield the ledgers as tasks finish."""
        runs = {spec.run_id for spec in specs}
        show = show_progress(len(specs))
        _runners.update(dict.fromkeys(runs, self._inner))
        try:
            waiting = iter(specs)
            first = islice(waiting, self._at_once)
            running = [migrate_partition.submit(spec) for spec in first]
            done = 0
            while running:
                ended = next(as_completed(running))
                running.remove(ended)
                ledger = ended.result()
                running += [migrate_partition.submit(s) for s in islice(waiting, 1)]
                done += 1
                show(done)
                yield ledger
        finally:
            _runners.update(dict.fromkeys(runs))


@task(name="compare", task_run_name="compare", **IO)
def compare(
    sample: int | None, max_read_units: float | None, *, allow_empty: bool
) -> ReconciliationReport:
    """Compare both sides, and record the result."""
    reconcile = hide_faults(pipeline.reconcile)
    return reconcile(
        sample=sample, max_read_units=max_read_units, allow_empty=allow_empty
    )
