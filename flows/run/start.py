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
    TargetError,
)
from flows.models import MigrateOptions, PartitionLedger, PartitionSpec
from flows.planning.estimate import planned_units
from flows.run.context import RunContext
from flows.run.next_commands import record_command, resume_command
from flows.run.parts import EntityRun, measured_of, plan_entities, trial_of
from flows.run.preflight import Acceptance, Stores, open_stores, require_places
from flows.run.process_workers import choose_workers, warm_up
from flows.run.since import read_since
from flows.run.trial import Trial, require_alone, save_present
from flows.state.database import holding_sessions
from flows.state.runs import PastRun
from flows.state.tables import TRIAL
from flows.stores.dynamodb.lease import Lease, require_no_cutover
from flows.stores.dynamodb.origin import record_origin
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
    taken: str
    # The parts of the run, one per entity, in the order in which they are moved.
    entities: tuple[EntityRun, ...]
    started: float
    # The time since which rows are moved; None for all rows.
    since: str | None = None
    # Called if a process may still write under the run's lease.
    abandon_lease: Callable[[], None] = lambda: None
    resumed: PastRun | None = None
    replayed: str | None = None
    planned: dict[str, float] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Return the number of rows of all entities."""
        return sum(one.rows for one in self.entities)

    @property
    def partitions(self) -> tuple[PartitionSpec, ...]:
        """Return the partitions of all entities, in their order."""
        return tuple(spec for one in self.entities for spec in one.partitions)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return the warnings of all entities."""
        return tuple(warning for one in self.entities for warning in one.warnings)

    @property
    def trial(self) -> Trial | None:
        """Return the size of a trial; None for another run."""
        return trial_of(self.entities)

    @property
    def chosen(self) -> bool:
        """Return whether only some rows are moved, in a replay or a trial."""
        return any(one.chosen for one in self.entities)

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
    opening = open_stores(context, accepting=_accepting(options), session=session)
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
    with open_stores(accepting=_accepting(options)) as stores:
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


def _accepting(options: MigrateOptions) -> Acceptance:
    return Acceptance(options.accept_schema, options.accept_mapping, options.entity)


def _plan_run(options: MigrateOptions, stores: Stores, started: float) -> Run:
    """Take the snapshot and find the partitions; nothing is written."""
    state = stores.state
    if options.limit is not None:
        require_alone(options)
    if options.after_cutover:
        for source in stores.sources:
            state.require_full_run(stores.migration, stores.source_key(source))
    if options.run_id is not None:
        state.require_new(options.run_id)
    resume, past = options.resume, None
    if resume is not None:
        past = state.resumable(resume, stores.identity, stores.plain_mapping)
        if past is None:
            logger.info("there is no run to resume: a new one begins")
    since = past.since if past else read_since(options.since, stores)
    snapshot, taken = export_snapshot(stores.connection)
    run_id = past.run_id if past else options.run_id or new_run_id()
    spec = replace(
        stores.spec(stores.source, run_id, snapshot),
        since=since,
        after_cutover=options.after_cutover,
    )
    return Run(
        run_id=run_id,
        options=options,
        stores=stores,
        taken=taken,
        entities=plan_entities(options, stores, spec, past),
        started=started,
        since=since,
        resumed=past,
        replayed=options.replay,
    )


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
            mapping=run.stores.plain_mapping,
        )
    record_command(run.resume_command)
    if run.replayed is not None:
        state.record_replay(run.run_id, run.replayed)
    if run.trial is None:
        # Columns that only a trial accepted are new for the next run.
        for source in run.stores.sources:
            key, columns = run.stores.source_key(source), run.stores.columns(source)
            state.source.save_columns(run.run_id, key, columns)
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
            or run.chosen
            or run.options.after_cutover
        )
        table_was_empty = not conditional and not stores.table.is_taken(stores.sources)
        accept = run.options.accept_mapping
        record_origin(stores.table, stores.origin, accept_mapping=accept)
        if run.trial is not None:
            for one in run.entities:
                save_present(stores.of(one.source), run.run_id, one.ids or ())
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
    measured = measured_of(run.entities)
    entities = tuple(
        replace(one, spec=begun(one.spec), partitions=tuple(map(begun, one.partitions)))
        for one in run.entities
    )
    planned = planned_units(measured, stores.size, table_was_empty=table_was_empty)
    return replace(run, entities=entities, abandon_lease=lease.abandon, planned=planned)


def new_run_id() -> str:
    """Create a run id from the time and a few random digits."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{token_hex(3)}"
