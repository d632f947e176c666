"""A run: both stores opened and checked, planned, fenced by its lease, recorded."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from os import getpid
from secrets import token_hex
from socket import gethostname
from typing import Any

from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.derivation import Derivation
from flows.errors import (
    Incomplete,
    LeaseHeld,
    Refused,
    SettingsError,
    SourceError,
    TargetError,
)
from flows.extract import plan_extraction
from flows.models import MigrateOptions, PartitionSpec, SourceTable
from flows.settings import Settings, load_settings
from flows.state import PastRun, State, fingerprint
from flows.stores.dynamodb import EnterpriseTable, open_table
from flows.stores.lease import Lease
from flows.stores.postgres import (
    describe_source,
    export_snapshot,
    open_source,
    read_watermark,
)
from flows.stores.tables import (
    origin_item,
    record_origin,
    require_origin,
    require_table,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stores:
    """Source and target, opened and checked, and the state beside them."""

    settings: Settings
    connection: Connection
    source: SourceTable
    table: EnterpriseTable
    state: State
    watermark: str

    @property
    def derivation(self) -> Derivation:
        """Return how reconciliation derives an item from a row."""
        settings = self.settings
        return Derivation(self.source, settings.id_namespace, settings.item_provenance)

    @property
    def identity(self) -> dict[str, Any]:
        """Return what makes two runs the same migration."""
        source, table, settings = self.source, self.table, self.settings
        arguments = settings.source_arguments()
        database = {key: arguments.get(key) for key in ("host", "port", "dbname")}
        left_out = {"columns_not_migrated"}
        columns = {k: v for k, v in vars(source).items() if k not in left_out}
        return {
            "source": database | columns,
            "namespace": str(settings.id_namespace),
            "provenance": settings.item_provenance,
            "target": [table.name, table.region, table.endpoint],
        }

    @property
    def migration(self) -> str:
        """Return the fingerprint of the migration, by which its runs are found."""
        return fingerprint(self.identity)


@dataclass(frozen=True)
class Run:
    """A run under way: its plan, and the session that keeps its snapshot alive."""

    run_id: str
    options: MigrateOptions
    stores: Stores
    rows: int
    snapshot: str
    taken: str
    partitions: tuple[PartitionSpec, ...]
    started: float
    owner: str = ""
    since: str | None = None
    resumed: PastRun | None = None
    warnings: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)


@contextmanager
def open_stores(deadline: float | None = None) -> Iterator[Stores]:
    """Open both stores and check all that can be known before the first write.

    In this order: settings, source, columns, target table, origin.

    Raises:
        Refused: a check failed; nothing was written.
    """
    settings = load_settings()
    table = open_table(settings, deadline)
    state = State.open(settings)
    with open_source(settings) as connection:
        # In a transaction of its own, before the snapshot: a transaction that is not in
        # the snapshot is then either seen here or begins after this moment.
        watermark = read_watermark(connection)
        connection.rollback()
        source = describe_source(connection, settings)
        if settings.item_provenance and source.id_kind != "integer":
            message = f"ITEM_PROVENANCE needs integer ids, {source.id_column} is not."
            raise SettingsError(message, "Set ITEM_PROVENANCE=false.")
        require_table(table)
        require_origin(table, origin_item(settings, source))
        yield Stores(settings, connection, source, table, state, watermark)


@contextmanager
def open_run(options: MigrateOptions) -> Iterator[Run]:
    """Begin or resume a run: check everything, plan it, record it, take the lease.

    Raises:
        Refused: a check failed; nothing was written.
        LeaseHeld: another run is under way.
        Incomplete: it stopped after that; what there is of it can be resumed.
    """
    started = time.time()
    deadline = started + options.deadline if options.deadline else None
    with open_stores(deadline) as stores:
        run = _plan_run(options, stores, started)
        owner = f"{run.run_id}@{gethostname()}:{getpid()}-{token_hex(3)}"
        lease = Lease(stores.table, owner, stores.settings.lease_seconds)
        stale = _take(lease, run)
        try:
            with lease.kept():
                yield _begin(run, owner, deadline, stale=stale)
        finally:
            lease.release()


def _plan_run(options: MigrateOptions, stores: Stores, started: float) -> Run:
    """Take the snapshot and find the partitions; nothing is written."""
    state = stores.state
    if options.after_cutover and not state.past_runs(stores.migration):
        message = "--after-cutover: the state has no manifest of an earlier run."
        raise SettingsError(message, "Set STATE_URL to the state of those runs.")
    if options.run_id is not None:
        state.require_new(options.run_id)
    past = None
    if options.resume is not None:
        past = state.resumable(options.resume, stores.identity)
        if past is None:
            logger.info("there is no run to resume: a new one is begun")
    since = past.since if past else _read_since(options.since, stores)
    snapshot, taken = export_snapshot(stores.connection)
    plan = plan_extraction(
        stores.connection, stores.source, options.partition_rows, since=since
    )
    if plan.rows == 0 and not (options.allow_empty or since):
        message = f"{stores.source.name} has no rows."
        raise SourceError(message, "If that is right, give --allow-empty.")
    run_id = past.run_id if past else options.run_id or new_run_id()
    specs = tuple(
        PartitionSpec(
            run_id=run_id,
            number=number,
            source=stores.source,
            lower=lower,
            upper=upper,
            snapshot=snapshot,
            duplicate_ids=plan.duplicate_ids,
            since=since,
            former_runs=stores.migration if options.after_cutover else None,
        )
        for number, lower, upper in (past.pending if past else plan.ranges)
    )
    return Run(
        run_id=run_id,
        options=options,
        stores=stores,
        rows=plan.rows,
        snapshot=snapshot,
        taken=taken,
        partitions=specs,
        started=started,
        since=since,
        resumed=past,
        warnings=plan.warnings,
    )


def _take(lease: Lease, run: Run) -> bool:
    """Record the run, so that it can be resumed from here on, and take the lease.

    Return whether a former holder had not released it.
    """
    state = run.stores.state
    if run.resumed is None:
        state.start_run(
            run.run_id,
            run.stores.identity,
            run.partitions,
            since=run.since,
            watermark=run.stores.watermark,
        )
    try:
        return lease.take(
            after_cutover=run.options.after_cutover,
            resumed=run.run_id if run.resumed else "",
        )
    except (Refused, LeaseHeld):
        if run.resumed is None:
            state.forget_run(run.run_id)
        raise


def _begin(run: Run, owner: str, deadline: float | None, *, stale: bool) -> Run:
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
        conditional = stale or run.resumed or run.since or run.options.after_cutover
        fresh = not conditional and not stores.table.holds_enterprises()
        record_origin(stores.table, origin_item(stores.settings, stores.source))
    except TargetError as error:
        raise Incomplete(error.message, error.remedy) from None
    specs = tuple(
        replace(spec, owner=owner, table_is_fresh=fresh, deadline=deadline)
        for spec in run.partitions
    )
    logger.info("run %s: %s rows to %s", run.run_id, run.rows, stores.table.where)
    return replace(run, partitions=specs, owner=owner)


def _read_since(text: str | None, stores: Stores) -> str | None:
    if text == "last":
        return stores.state.last_watermark(stores.migration)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        message = f"--since {text!r} is not a time with its zone."
        raise SettingsError(message, "Write 2026-01-31T08:00:00Z, or last.")
    return moment.astimezone(UTC).isoformat()


def new_run_id() -> str:
    """Make a run id of the time and a few random digits."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{token_hex(3)}"
