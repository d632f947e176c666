"""The start of a run: plan it under a snapshot, record it, take the lease, begin."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from os import getpid
from secrets import token_hex
from socket import gethostname

from flows.errors import (
    Incomplete,
    LeaseHeld,
    Refused,
    SourceError,
    TargetError,
)
from flows.extract import ExtractionPlan, plan_extraction
from flows.models import MigrateOptions, PartitionLedger, PartitionSpec
from flows.planning.estimate import Measured, measure_rows, planned_units
from flows.run.context import RunContext
from flows.run.next_commands import record_command, resume_command
from flows.run.preflight import Stores, open_stores, require_places
from flows.run.process_workers import choose_workers, warm_up
from flows.run.replay import ids_to_replay, rows_gone
from flows.run.schema_drift import (
    other_columns_changed,
    read_columns,
    source_key,
    unusual_rows,
)
from flows.run.since import read_since
from flows.run.trial import Trial, pick_ids, plan_trial, require_alone, save_present
from flows.state.database import holding_sessions
from flows.state.runs import PastRun
from flows.state.tables import TRIAL
from flows.stores.dynamodb.lease import Lease, require_no_cutover
from flows.stores.dynamodb.schema import origin_item, record_origin
from flows.stores.postgres.session_limits import require_sessions
from flows.stores.postgres.snapshots import export_snapshot

logger = logging.getLogger(__name__)

# PostgreSQL accepts 63 bytes for the name of an application and its session.
SESSION_LENGTH = 40


@dataclass(frozen=True)
class Run:
    """A run under way: its plan, and the session that keeps its snapshot alive."""

    run_id: str
    options: MigrateOptions
    stores: Stores
    rows: int
    taken: str
    # What all its partitions have in common.
    spec: PartitionSpec
    partitions: tuple[PartitionSpec, ...]
    started: float
    # Called if a process may still write under the run's lease.
    abandon_lease: Callable[[], None] = lambda: None
    resumed: PastRun | None = None
    replayed: str | None = None
    trial: Trial | None = None
    warnings: tuple[str, ...] = ()
    measured: Measured | None = None
    planned: dict[str, float] = field(default_factory=dict)

    @property
    def since(self) -> str | None:
        """Return the time since which rows are moved; None for all rows."""
        return self.spec.since

    @property
    def resume_command(self) -> str | None:
        """Return the command that resumes this run; None if none finds its stores.

        Embedded stores are not those of the environment, which a command reads.
        """
        if not self.stores.settings.from_environment:
            return None
        return resume_command(self.run_id, self.options)

    @property
    def ledgers_before(self) -> list[PartitionLedger]:
        """Return the ledgers of the partitions that were done before a resume."""
        if self.resumed is None:
            return []
        return self.stores.state.ledgers(self.run_id)

    @property
    def ids(self) -> tuple[str, ...] | None:
        """Return the ids of the rows that a replay or a trial moves; else None."""
        if self.replayed is None and self.trial is None:
            return None
        return tuple(one for spec in self.partitions for one in spec.ids or ())


@contextmanager
def open_run(
    options: MigrateOptions,
    context: RunContext,
    ready: Callable[[Run], None] | None = None,
) -> Iterator[Run]:
    """Begin or resume a run: check everything, plan it, record it, take the lease.

    *ready* is called when the run is recorded in the state, and may refuse it.

    Raises:
        Refused: a check failed; nothing was written.
        LeaseHeld: another run is under way.
        Incomplete: the run stopped after that, and can be resumed.
    """
    started = time.time()
    resumed = options.resume if options.resume != "last" else None
    session = (options.run_id or resumed or new_run_id())[:SESSION_LENGTH]
    opening = open_stores(context, accept_schema=options.accept_schema, session=session)
    with opening as stores:
        require_places(stores.settings)
        run = _plan_run(options, stores, started)
        if options.runner == "local":
            warm_up(workers_here(run))
        _require_sessions(run)
        owner = f"{run.run_id}@{gethostname()}:{getpid()}-{token_hex(3)}"
        lease = Lease(stores.table, owner, stores.settings.lease_seconds)
        taken_over = _take(lease, run, ready)
        try:
            with lease.heartbeat():
                yield _begin(run, lease, taken_over=taken_over)
        finally:
            lease.release()


def check_run(options: MigrateOptions) -> None:
    """Check all that a run checks before its first write, and write nothing.

    Raises:
        Refused: a check failed.
    """
    with open_stores(accept_schema=options.accept_schema) as stores:
        require_places(stores.settings)
        run = _plan_run(options, stores, time.time())
        _require_sessions(run)
        if not options.after_cutover:
            require_no_cutover(stores.table)


def workers_here(run: Run) -> int:
    """Return how many processes of this machine work on the run's partitions."""
    return choose_workers(run.options.workers, run.rows, len(run.partitions))


def _require_sessions(run: Run) -> None:
    # The number of Dask workers is known when the cluster is joined.
    count = 1 if run.options.runner == "dask" else workers_here(run)
    stores = run.stores
    # Each worker has the state open. A single worker prepares a partition while it
    # loads another, and has the state open for both.
    state = stores.settings.state_url.get_secret_value()
    with holding_sessions(state, max(2, count)):
        require_sessions(stores.settings, stores.connection, count)


def _plan_run(options: MigrateOptions, stores: Stores, started: float) -> Run:
    """Take the snapshot and find the partitions; nothing is written."""
    state = stores.state
    if options.limit is not None:
        require_alone(options)
    if options.after_cutover:
        state.require_full_run(stores.migration)
    if options.run_id is not None:
        state.require_new(options.run_id)
    resume = options.resume
    past = state.resumable(resume, stores.identity) if resume is not None else None
    if resume is not None and past is None:
        logger.info("there is no run to resume: a new one begins")
    since = past.since if past else read_since(options.since, stores)
    snapshot, taken = export_snapshot(stores.connection)
    size, connection, source = options.partition_rows, stores.connection, stores.source
    plan = plan_trial(stores) if options.limit else None
    plan = plan or plan_extraction(connection, source, size, since=since)
    plan = replace(plan, warnings=(*plan.warnings, *_drift(stores, plan, options)))
    if plan.rows == 0 and not (options.allow_empty or since):
        message = f"{stores.source.name} has no rows."
        raise SourceError(message, "Give --allow-empty if that is right.")
    measured, provenance = None, stores.settings.item_provenance
    if not (since or past or options.limit):
        measured = measure_rows(
            connection,
            source,
            provenance=provenance,
            rows=plan.rows,
            indexes=stores.table.indexes,
        )
    run_id = past.run_id if past else options.run_id or new_run_id()
    spec = replace(
        stores.spec(run_id, snapshot),
        duplicate_ids=plan.duplicate_ids,
        since=since,
        after_cutover=options.after_cutover,
    )
    run = Run(
        run_id=run_id,
        options=options,
        stores=stores,
        rows=plan.rows,
        taken=taken,
        spec=spec,
        partitions=tuple(spec.of_ranges(past.pending if past else plan.ranges)),
        started=started,
        resumed=past,
        warnings=plan.warnings,
        measured=measured,
    )
    if options.limit is not None:
        return _plan_trial(run, options.limit)
    return run if options.replay is None else _plan_replay(run, options.replay)


def _plan_trial(run: Run, limit: int) -> Run:
    """Pick the rows of a trial; there are no others in its partitions."""
    ids = pick_ids(run.stores.connection, run.stores.source, limit)
    return replace(
        run,
        rows=len(ids),
        partitions=tuple(run.spec.of_ids(ids, run.options.partition_rows)),
        trial=Trial(len(ids), run.rows),
    )


def _plan_replay(run: Run, replayed: str) -> Run:
    """Find the rows that are in quarantine, regardless of the rest of the table."""
    stores = run.stores
    ids = ids_to_replay(stores.state, stores.migration, replayed)
    rows, warnings = rows_gone(stores.connection, stores.source, ids)
    return replace(
        run,
        rows=rows,
        partitions=tuple(run.spec.of_ids(ids, run.options.partition_rows)),
        replayed=replayed,
        measured=None,
        warnings=(*run.warnings, *warnings),
    )


def _drift(
    stores: Stores, plan: ExtractionPlan, options: MigrateOptions
) -> tuple[str, ...]:
    """Return warnings about columns and row count, compared with the last run."""
    key = source_key(stores.settings)
    warnings = other_columns_changed(
        read_columns(stores.connection, stores.settings),
        stores.state.source.last_columns(key),
    )
    if options.since is None and options.replay is None and options.limit is None:
        profile = stores.state.source.last_profile(key)
        warnings = (*warnings, *unusual_rows(plan.rows, profile))
    for warning in warnings:
        logger.warning("%s", warning)
    return warnings


def _take(lease: Lease, run: Run, ready: Callable[[Run], None] | None) -> bool:
    """Record the run, so that it can be resumed from here on, and take the lease.

    Return whether a previous holder had not released it.
    """
    state = run.stores.state
    if run.resumed is None:
        state.start_run(
            run.run_id,
            run.stores.identity,
            run.partitions,
            since=run.since,
            watermark=run.stores.watermark,
            status=TRIAL if run.trial else "running",
        )
    record_command(run.resume_command)
    if run.replayed is not None:
        state.record_replay(run.run_id, run.replayed)
    if run.trial is None:
        # Columns that only a trial accepted are new for the next run.
        key = source_key(run.stores.settings)
        state.source.save_columns(run.run_id, key, run.stores.columns)
    try:
        if ready is not None:
            ready(run)
        return lease.acquire(
            after_cutover=run.options.after_cutover,
            resumed=run.run_id if run.resumed else "",
        )
    except (Refused, LeaseHeld):
        if run.resumed is None:
            state.forget_run(run.run_id)
        record_command(None)
        raise


def _begin(run: Run, lease: Lease, *, taken_over: bool) -> Run:
    """Make the run ready to load, and record the origin of its items.

    Raises:
        Incomplete: the table cannot be used; the lease was written already.
    """
    stores = run.stores
    if run.resumed:
        stores.state.resume_run(run.run_id, stores.watermark)
    try:
        # A holder that died may have a request under way; after the cutover a table
        # without enterprises may be one that the application emptied.
        conditional = (
            taken_over
            or run.resumed is not None
            or run.since is not None
            or run.ids is not None
            or run.options.after_cutover
        )
        table_was_empty = not conditional and not stores.table.is_taken()
        record_origin(stores.table, origin_item(stores.settings, stores.source))
        if run.trial is not None:
            save_present(stores, run.run_id, run.ids or ())
    except TargetError as error:
        raise Incomplete(error.message, error.remedy) from None

    def begun(spec: PartitionSpec) -> PartitionSpec:
        return replace(
            spec,
            owner=lease.owner,
            table_was_empty=table_was_empty,
            deadline=stores.context.deadline,
        )

    where = f"{stores.table.where}, account {stores.account}"
    logger.info("run %s: %s rows to %s", run.run_id, f"{run.rows:,}", where)
    planned = planned_units(run.measured, stores.size, table_was_empty=table_was_empty)
    return replace(
        run,
        spec=begun(run.spec),
        partitions=tuple(map(begun, run.partitions)),
        abandon_lease=lease.abandon,
        planned=planned,
    )


def new_run_id() -> str:
    """Create a run id from the time and a few random digits."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{token_hex(3)}"
