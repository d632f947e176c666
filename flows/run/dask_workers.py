"""Partitions on the workers of a Dask cluster, on any number of machines.

The driver keeps the snapshot, the plan and the proof. A worker migrates whole
partitions with the settings of its environment. Dask gives the partition of a lost
worker to another one as a further attempt: the items that are there are read and
compared.
"""

import importlib.util
import logging
import math
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from concurrent.futures import Future as ThreadFuture
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from threading import Event, Lock
from typing import TYPE_CHECKING

from flows.errors import Incomplete, MigrationError, SettingsError
from flows.models import MigrateOptions, PartitionLedger, PartitionSpec, SourceTable
from flows.run import partition
from flows.run.context import RunContext
from flows.run.preflight import migration_identity, root_of
from flows.run.process_workers import LATE_SECONDS, FutureRunner, done_in_time
from flows.run.start import Run
from flows.settings import load_settings
from flows.state.runs import State
from flows.stores.dynamodb.rate_limiter import FIRST_RATE, FIRST_READ_RATE, RateLimiter
from flows.stores.dynamodb.schema import account_of, require_table
from flows.stores.dynamodb.table import open_table
from flows.stores.postgres.session_limits import require_sessions

if TYPE_CHECKING:
    from distributed import Client, Future

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 10
# How often to check whether a worker is there, and for how long there may be none.
WORKER_CHECK_SECONDS = 5.0
NO_WORKER_SECONDS = 120.0
INSTALL = (
    "Install this program with its extra `dask`: `make install` in a checkout, or its"
    " wheel's file name followed by [dask]."
)
START = (
    "Start one with `dask scheduler`, and on each machine, with the settings of this"
    " one, `dask worker ADDRESS --nworkers auto --nthreads 1`."
)
FIT = (
    "Each worker needs this version of the program, the settings of the driver in its"
    " environment, and a STATE_URL that all reach: a PostgreSQL, or on one machine a"
    " file with an absolute path."
)

_here = Lock()


@dataclass(frozen=True)
class Share:
    """The share of a run's rates that one worker process has."""

    owner: str
    among: int
    max_write_units: float | None
    max_read_units: float | None
    # The source that identifies the run's migration.
    root: SourceTable

    def of(self, units: float | None) -> float | None:
        """Return this share of a rate, if there is one."""
        return units / self.among if units else None


@contextmanager
def joining(options: MigrateOptions) -> Iterator["Cluster | None"]:
    """Join the cluster of ``DASK_SCHEDULER_ADDRESS``, if the run uses Dask.

    Raises:
        SettingsError: the address is not set, cannot be reached, or has no workers.
    """
    if options.runner != "dask":
        yield None
        return
    if importlib.util.find_spec("distributed") is None:
        message = "--runner dask: the package distributed is not installed."
        raise SettingsError(message, INSTALL)
    address = load_settings().dask_scheduler_address
    if address is None:
        message = "--runner dask: DASK_SCHEDULER_ADDRESS is not set."
        raise SettingsError(message, f"Set it, e.g. tcp://10.0.0.5:8786. {START}")
    with _connecting(address) as client:
        yield Cluster(client)


@contextmanager
def _connecting(address: str) -> Iterator["Client"]:
    from distributed import Client

    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except Exception as error:  # noqa: BLE001 - an address is wrong in many ways
        message = f"No Dask scheduler answers at {address} ({type(error).__name__})."
        raise SettingsError(message, f"Check DASK_SCHEDULER_ADDRESS. {START}") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError:
            message = f"The Dask scheduler at {address} has no workers."
            raise SettingsError(message, START) from None
        yield client


class Cluster:
    """The workers of a run, seen from its driver."""

    def __init__(self, client: "Client") -> None:
        self._client = client

    def require_fit(self, run: Run) -> None:
        """Refuse workers that have another migration or another state.

        Raises:
            SettingsError: a worker has other settings, or does not find the run.
            SourceError: PostgreSQL has no session for each worker.
        """
        among = _share(run, len(self._client.nthreads())).among
        require_sessions(run.stores.settings, run.stores.connection, among)
        asked = (run.run_id, root_of(run.stores.mapped))
        found = self._client.run(_require_fit, *asked, on_error="return")
        for worker, error in found.items():
            if error is not None:
                family = isinstance(error, MigrationError)
                why = error.message if family else f"{type(error).__name__}."
                raise SettingsError(f"The Dask worker at {worker} is unfit: {why}", FIT)

    @contextmanager
    def runner(self, run: Run) -> Iterator[FutureRunner]:
        """Yield a runner on the workers, each at its share of the run's rates.

        After the block, no worker writes any more; if that is uncertain, the lease is
        left to expire.
        """
        here = set(self._client.nthreads())
        share = _share(run, len(here))
        with ExitStack() as stack:
            stack.callback(self._keep_lease_of_lost, run, here)
            # As many partitions at once as there are shares.
            threads = stack.enter_context(ThreadPoolExecutor(share.among))

            def submit(spec: PartitionSpec) -> "ThreadFuture[PartitionLedger]":
                return threads.submit(self._do, share, spec)

            stack.callback(threads.shutdown, cancel_futures=True)
            try:
                yield FutureRunner(submit)
            except BaseException:
                self._stop(run, share)
                raise

    def _do(self, share: Share, spec: PartitionSpec) -> PartitionLedger:
        """Run one partition on a worker, and wait for it.

        Raises:
            Incomplete: see ``partition.migrate_partition``; or no worker is left.
        """
        from distributed import KilledWorker

        future = self._client.submit(migrate_partition, share, spec, pure=False)
        try:
            report = self._await(future, spec.deadline)
        except CancelledError:
            message = "The connection to the Dask scheduler was lost."
            raise Incomplete(message) from None
        except KilledWorker as error:
            message = f"Partition {spec.number} has lost {error.allowed_failures + 1}"
            message += " Dask workers, perhaps for lack of memory."
            raise Incomplete(message, "Use fewer --partition-rows.") from None
        logger.info("partition %s: %s", spec.number, report.ledger)
        return report

    def _await(
        self, future: "Future[PartitionLedger]", deadline: float | None
    ) -> PartitionLedger:
        seen = time.monotonic()
        while True:
            try:
                left = math.inf if deadline is None else deadline - time.time()
                pause = min(WORKER_CHECK_SECONDS, max(0.0, left) + LATE_SECONDS)
                return future.result(timeout=pause)
            except TimeoutError:
                if self._client.nthreads():
                    seen = time.monotonic()
            if deadline is not None and time.time() > deadline + LATE_SECONDS:
                message = "The deadline has passed, and a Dask worker did not answer."
                raise Incomplete(message)
            if time.monotonic() - seen > NO_WORKER_SECONDS:
                message = f"No Dask worker was available for {NO_WORKER_SECONDS:.0f} s."
                raise Incomplete(message)

    def _stop(self, run: Run, share: Share) -> None:
        """Stop the workers; leave the lease to expire if one does not answer."""
        stopped = Event()

        def stop() -> None:
            # A failure here is ignored, since the run already ends for another reason.
            with suppress(Exception):
                self._client.run(_stop, share)
                stopped.set()

        # A worker that is frozen does not answer.
        done_in_time(stop)
        if not stopped.is_set():
            logger.warning("Dask workers did not confirm that they stopped")
            run.abandon_lease()

    def _keep_lease_of_lost(self, run: Run, here: set[str]) -> None:
        """Leave the lease to expire if a worker is unreachable: it may be alive."""
        try:
            lost = here - set(self._client.nthreads())
        except Exception:  # noqa: BLE001 - there is no scheduler to ask
            lost = here
        if lost:
            logger.warning("Dask workers were lost: %s", ", ".join(sorted(lost)))
            run.abandon_lease()


def _share(run: Run, workers: int) -> Share:
    """Divide the run's rates among the workers that it uses."""
    options = run.options
    # The default of --workers is for one machine.
    wanted = options.workers if "workers" in options.model_fields_set else None
    among = max(1, min(wanted or workers, workers, len(run.partitions)))
    return Share(
        run.entities[0].spec.owner,
        among,
        options.max_write_units,
        options.max_read_units,
        root_of(run.stores.mapped),
    )


# The functions below run in the workers.


def migrate_partition(share: Share, spec: PartitionSpec) -> PartitionLedger:
    """Migrate one partition in this worker, at its share of the run's rates.

    Raises:
        Incomplete: see ``partition.migrate_partition``; or this worker is unfit.
    """
    # One at a time: with threads a worker would hold many partitions in memory.
    with _here:
        context = RunContext(load_settings(), *_limiters(share))
        try:
            _require_fit(spec.run_id, share.root)
        except SettingsError as error:
            raise Incomplete(f"A Dask worker is unfit: {error.message}", FIT) from None
        return partition.migrate_partition(spec, context)


def _require_fit(run_id: str, root: SourceTable) -> None:
    settings = load_settings()
    table = open_table(settings)
    account = account_of(require_table(table))
    identity = migration_identity(settings, root, table, account)
    State.open(settings).require_run(run_id, identity)


@lru_cache(maxsize=8)
def _limiters(share: Share) -> tuple[RateLimiter, RateLimiter]:
    first, first_read = FIRST_RATE / share.among, FIRST_READ_RATE / share.among
    writes = RateLimiter(share.of(share.max_write_units), first=first)
    return writes, RateLimiter(share.of(share.max_read_units), first=first_read)


def _stop(share: Share) -> None:
    for limiter in _limiters(share):
        limiter.stop()
