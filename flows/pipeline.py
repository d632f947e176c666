"""The driver: one run, from its checks to its proof.

A runner (plain process, Prefect, Dask) decides only who calls ``migrate_partition``
for which partition; everything else is here, once.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any, TypeAlias

import pandas as pd
from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.errors import MigrationError, SettingsError, SourceError
from flows.extract import ExtractionPlan, extract_enterprises, plan_extraction
from flows.load import LoadReport, Outcome, load_items
from flows.models import (
    Ledger,
    MigrateOptions,
    PartitionLedger,
    PartitionSpec,
    SourceTable,
    add_counts,
)
from flows.reconcile import Derivation, ReconciliationReport, reconcile_enterprises
from flows.report import (
    MigrationReport,
    write_id_map,
    write_quarantine,
    write_reconciliation,
)
from flows.settings import Settings, load_settings
from flows.state import QUARANTINE_COLUMNS, State
from flows.stores.dynamodb import EnterpriseTable, open_table
from flows.stores.postgres import describe_source, export_snapshot, open_source
from flows.stores.tables import (
    origin_item,
    record_origin,
    require_origin,
    require_table,
)
from flows.transform import transform_enterprises
from validation.report import ValidationReport
from validation.run import validate_enterprises, validate_items

logger = logging.getLogger(__name__)

REFUSED_BY_STORE = "refused_by_store"
Each: TypeAlias = Callable[
    [Callable[[PartitionSpec], PartitionLedger], Sequence[PartitionSpec]],
    Iterable[PartitionLedger],
]


@dataclass(frozen=True)
class Stores:
    """Source and target, opened and checked, and the state beside them."""

    settings: Settings
    connection: Connection
    source: SourceTable
    table: EnterpriseTable
    state: State

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


@dataclass(frozen=True)
class Run:
    """A run under way: its plan, and the session that keeps its snapshot alive."""

    run_id: str
    options: MigrateOptions
    stores: Stores
    plan: ExtractionPlan
    snapshot: str
    partitions: tuple[PartitionSpec, ...]
    started: float
    seconds: dict[str, float] = field(default_factory=dict)


def migrate(
    options: MigrateOptions | None = None, *, each: Each = map
) -> MigrationReport:
    """Move the enterprises and prove it; *each* says who does the partitions.

    Raises:
        Refused: something is wrong that can be known before the first write.
    """
    with open_run(options or MigrateOptions()) as run:
        try:
            ledgers = list(each(migrate_partition, run.partitions))
            return finish_run(run, ledgers)
        except MigrationError as error:
            return stop_run(run, error)


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
        source = describe_source(connection, settings)
        if settings.item_provenance and source.id_kind != "integer":
            message = f"ITEM_PROVENANCE needs integer ids, {source.id_column} is not."
            raise SettingsError(message, "Set ITEM_PROVENANCE=false.")
        require_table(table)
        require_origin(table, origin_item(settings, source))
        yield Stores(settings, connection, source, table, state)


@contextmanager
def open_run(options: MigrateOptions) -> Iterator[Run]:
    """Begin a run: check everything, take the snapshot, plan, and record it.

    Raises:
        Refused: a check failed; nothing was written.
    """
    started = time.time()
    deadline = started + options.deadline if options.deadline else None
    with open_stores(deadline) as stores:
        snapshot, taken = export_snapshot(stores.connection)
        plan = plan_extraction(stores.connection, stores.source, options.partition_rows)
        if plan.rows == 0 and not options.allow_empty:
            message = f"{stores.source.name} has no rows."
            raise SourceError(message, "If that is right, give --allow-empty.")
        fresh = not stores.table.holds_enterprises()
        run_id = options.run_id or new_run_id()
        specs = tuple(
            PartitionSpec(
                run_id=run_id,
                number=number,
                source=stores.source,
                lower=lower,
                upper=upper,
                snapshot=snapshot,
                table_is_fresh=fresh,
                deadline=deadline,
                duplicate_ids=plan.duplicate_ids,
            )
            for number, (lower, upper) in enumerate(plan.ranges, 1)
        )
        stores.state.start_run(run_id, stores.identity)
        record_origin(stores.table, origin_item(stores.settings, stores.source))
        logger.info("run %s: %s rows to %s", run_id, plan.rows, stores.table.where)
        yield Run(run_id, options, stores, plan, taken, specs, started)


def migrate_partition(spec: PartitionSpec) -> PartitionLedger:
    """Put one partition through all steps, and record its ledger.

    It opens its own connections, by this process's settings. Called again for the
    same partition it converges: what is there is read and compared.
    """
    settings = load_settings()
    state, table = State.open(settings), open_table(settings, spec.deadline)
    attempt = state.begin_partition(spec)
    seconds: dict[str, float] = {}
    with timed(seconds, "extract"), open_source(settings, spec.snapshot) as source:
        rows = extract_enterprises(source, spec)
    made = make_items(rows, spec.source, settings, seconds)
    state.save_manifest(spec, made.items)
    with timed(seconds, "load"):
        fresh = spec.table_is_fresh and attempt == 1
        loaded = load_items(made.items, table, fresh=fresh)
    quarantine = made.quarantine(loaded)
    report = PartitionLedger(
        run_id=spec.run_id,
        number=spec.number,
        ledger=Ledger(
            read=len(rows),
            written=loaded.count(Outcome.WRITTEN),
            unchanged=loaded.count(Outcome.UNCHANGED),
            kept_newer=loaded.count(Outcome.KEPT_NEWER),
            quarantined=len(quarantine),
            failed=loaded.count(Outcome.FAILED),
        ),
        validation=made.validation,
        seconds=seconds,
        capacity=table.capacity.asdict(),
    )
    state.finish_partition(report, quarantine)
    logger.info("partition %s: %s", spec.number, report.ledger)
    return report


@dataclass(frozen=True)
class MadeItems:
    """The items of a partition that may be sent, and why the other rows may not."""

    rows: pd.DataFrame
    items: pd.DataFrame
    row_report: ValidationReport
    item_report: ValidationReport

    @property
    def validation(self) -> dict[str, Any]:
        """Return both validations' counts."""
        return {
            "source": self.row_report.asdict(),
            "items": self.item_report.asdict(),
        }

    def quarantine(self, loaded: LoadReport) -> pd.DataFrame:
        """Return the rows that are not to be in the table, with their reasons."""
        refused = self.items.index[self.items["source_id"].isin(loaded.refused)]
        reasons = pd.concat(
            [
                self.row_report.reasons,
                self.item_report.reasons,
                pd.Series(REFUSED_BY_STORE, index=refused, dtype=object),
            ]
        )
        rows: pd.DataFrame = self.rows.loc[reasons.index]
        return rows.assign(reasons=reasons)[list(QUARANTINE_COLUMNS)]


def make_items(
    rows: pd.DataFrame,
    source: SourceTable,
    settings: Settings,
    seconds: dict[str, float],
) -> MadeItems:
    """Validate rows, transform the good ones, and validate their items."""
    with timed(seconds, "validate"):
        row_report = validate_enterprises(rows)
    with timed(seconds, "transform"):
        items = transform_enterprises(
            rows.drop(row_report.critical),
            id_kind=source.id_kind,
            namespace=settings.id_namespace,
            provenance=settings.item_provenance,
        )
    with timed(seconds, "validate"):
        item_report = validate_items(items)
    return MadeItems(rows, items.drop(item_report.critical), row_report, item_report)


def finish_run(run: Run, ledgers: Sequence[PartitionLedger]) -> MigrationReport:
    """Reconcile under the run's snapshot, write its files, and say how it ended."""
    stores = run.stores
    with timed(run.seconds, "reconcile"):
        quarantine = stores.state.quarantine(run.run_id)
        reconciliation = reconcile_enterprises(
            stores.connection,
            stores.table,
            stores.derivation,
            quarantined=frozenset(quarantine["source_id"]),
            breaks_suite=breaks_item_suite,
        )
    return _report(run, ledgers, reconciliation=reconciliation)


def stop_run(run: Run, error: MigrationError) -> MigrationReport:
    """Say what an incomplete run had done when *error* stopped it."""
    ledgers = run.stores.state.ledgers(run.run_id)
    return _report(run, ledgers, stopped=error)


def reconcile() -> ReconciliationReport:
    """Compare the source, as it is now, with the table, as it is now.

    Rows in the quarantine of the last run of the same migration are explained.

    Raises:
        Refused: source or table cannot be read as asked.
    """
    with open_stores() as stores:
        last = stores.state.last_run(stores.identity)
        known = stores.state.quarantine(last)["source_id"] if last else ()
        report = reconcile_enterprises(
            stores.connection,
            stores.table,
            stores.derivation,
            quarantined=frozenset(known),
            breaks_suite=breaks_item_suite,
        )
        directory = stores.settings.runs_dir / f"reconcile-{new_run_id()}"
        return write_reconciliation(report, directory)


def validate(
    options: MigrateOptions | None = None,
) -> tuple[ValidationReport, ValidationReport]:
    """Validate the rows, and the items that they would become; write nothing."""
    settings = load_settings()
    options = options or MigrateOptions()
    made: list[MadeItems] = []
    with open_source(settings) as connection:
        source = describe_source(connection, settings)
        plan = plan_extraction(connection, source, options.partition_rows)
        for lower, upper in plan.ranges:
            spec = PartitionSpec(
                run_id="validate",
                number=len(made),
                source=source,
                lower=lower,
                upper=upper,
                duplicate_ids=plan.duplicate_ids,
            )
            rows = extract_enterprises(connection, spec)
            made.append(make_items(rows, source, settings, {}))
    return (
        ValidationReport.merged([one.row_report for one in made]),
        ValidationReport.merged([one.item_report for one in made]),
    )


def breaks_item_suite(items: pd.DataFrame) -> Sequence[bool]:
    """Tell for each item whether it fails a critical expectation."""
    broken = set(validate_items(items).critical)
    return [label in broken for label in items.index]


def new_run_id() -> str:
    """Make a run id of the time and a few random digits."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{token_hex(3)}"


@contextmanager
def timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    """Add the wall time of the block to a step's seconds."""
    begun = time.perf_counter()
    try:
        yield
    finally:
        seconds[step] = seconds.get(step, 0.0) + time.perf_counter() - begun


def _report(
    run: Run,
    ledgers: Sequence[PartitionLedger],
    *,
    reconciliation: ReconciliationReport | None = None,
    stopped: MigrationError | None = None,
) -> MigrationReport:
    stores, directory = run.stores, run.stores.settings.runs_dir / run.run_id
    capacity = stores.table.capacity.asdict()
    quarantine = stores.state.quarantine(run.run_id)
    files = {
        "quarantine": write_quarantine(quarantine, directory),
        "id_map": write_id_map(stores.state.manifests(run.run_id), directory),
    }
    report = MigrationReport(
        run_id=run.run_id,
        source=stores.source,
        source_rows=run.plan.rows,
        snapshot=run.snapshot,
        target={
            "table": stores.table.name,
            "region": stores.table.region,
            "endpoint": stores.table.endpoint,
        },
        ledger=sum((one.ledger for one in ledgers), Ledger()),
        allowed=run.options.allow_quarantined,
        reconciliation=reconciliation,
        validation=add_counts(*(one.validation for one in ledgers)),
        seconds=add_counts(*(one.seconds for one in ledgers), run.seconds)
        | {"total": time.time() - run.started},
        capacity=add_counts(*(one.capacity for one in ledgers), capacity),
        files=files,
        warnings=run.plan.warnings,
        stopped=str(stopped) if stopped else None,
    ).written_to(directory)
    stores.state.finish_run(run.run_id, report.status, report.asdict())
    return report
