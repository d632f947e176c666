"""The driver: migrate, reconcile and validate, the same for every caller.

A runner decides only which worker runs which partition; all other code is shared.
"""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import pandas as pd

from flows.disk_space import needing_room
from flows.errors import (
    Incomplete,
    LeaseHeld,
    MigrationError,
    Refused,
    SnapshotLost,
    SourceLost,
    Terminated,
)
from flows.extract import (
    count_among,
)
from flows.models import MigrateOptions, add_counts
from flows.planning.plan import plan_migration
from flows.reconciliation.report import ReconciliationReport
from flows.reconciliation.source_rows import ALL_ROWS, Selection
from flows.reports.environment import describe_environment
from flows.run.context import RunContext
from flows.run.dask_workers import Cluster, joining
from flows.run.evidence import describe_report, read_spot_checks
from flows.run.finish import finish_run, stop_run
from flows.run.preflight import (
    Stores,
    open_stores,
    require_places,
)
from flows.run.process_workers import process_runner
from flows.run.proof import compare
from flows.run.repair import RepairOptions, plan_repair, repair_differences
from flows.run.report import MigrationReport
from flows.run.report_files import write_reconciliation
from flows.run.runner import Runner
from flows.run.start import Run, new_run_id, open_run, workers_here
from flows.run.undo_trial import (
    RemovalReport,
    remove_trials,
    require_removal_options,
)
from flows.shortage import translating_shortage
from flows.state.reconciliations import as_frame
from flows.stores.dynamodb.lease import read_holder
from flows.stores.dynamodb.rate_limiter import RateLimiter, make_read_limiter
from flows.stores.postgres.snapshots import export_snapshot
from flows.stores.postgres.watch import why_ended
from flows.timing import Progress, Stopwatch
from flows.validate import validate, validate_source, validate_target

__all__ = [
    "MigrateOptions",
    "migrate",
    "plan_migration",
    "reconcile",
    "reconciliation_history",
    "undo_trial",
    "validate",
    "validate_source",
    "validate_target",
]

logger = logging.getLogger(__name__)

# A session that holds a snapshot may be terminated; if it is lost each time, the cause
# persists, and the run stops.
SNAPSHOTS = 3
STOPPED = "The run was stopped (SIGTERM)."

# Wraps the runner that the run's options ask for.
WrapRunner: TypeAlias = Callable[[Runner], Runner]


def migrate(
    options: MigrateOptions | None = None,
    *,
    runner: WrapRunner = lambda inner: inner,
    progress: Progress | None = None,
    signals: tuple[type[BaseException], ...] = (),
) -> MigrationReport:
    """Migrate the enterprises and prove the result.

    *runner* may wrap the runner that *options* ask for. *progress* is kept up to date.
    A run that loses its snapshot resumes under a new one. If one of the runner's
    *signals* stops the run, that is recorded and raised again.

    Raises:
        Refused: a check before the first write failed.
        LeaseHeld: another run is under way.
    """
    options, progress = options or MigrateOptions(), progress or Progress()
    if options.runner == "dask":
        progress.begin("joining the Dask cluster")
    with joining(options) as cluster:
        return _Migration(cluster, runner, progress, signals).run(options)


@dataclass(frozen=True)
class _Migration:
    """One call of ``migrate``: a run under one or more snapshots."""

    cluster: Cluster | None
    runner: WrapRunner
    progress: Progress
    signals: tuple[type[BaseException], ...]

    def run(self, options: MigrateOptions) -> MigrationReport:
        report, snapshots = None, 0
        # The deadline applies to the run, not to each of its snapshots.
        deadline = time.time() + options.deadline if options.deadline else None
        ready = self.cluster.require_fit if self.cluster else None
        while True:
            context = RunContext(
                writes=RateLimiter(options.max_write_units),
                reads=make_read_limiter(options.max_read_units),
                deadline=deadline,
                progress=self.progress,
            )
            self.progress.waits_for = context.waits_for
            self.progress.begin("planning")
            try:
                with open_run(options, context, ready) as run:
                    report, lost = self._end(run)
            except (Refused, LeaseHeld) as error:
                # A run that has written can no longer be refused.
                if report is None:
                    raise
                logger.error("the run cannot resume: %s", error.message)  # noqa: TRY400
                return report
            snapshots += 1
            if not lost or snapshots == SNAPSHOTS:
                return report
            logger.warning("run %s resumes under a new snapshot", run.run_id)
            # Without ranges to resume, a replay or a trial is repeated.
            resume = None if run.chosen else run.run_id
            options = options.model_copy(update={"resume": resume, "run_id": None})

    def _end(self, run: Run) -> tuple[MigrationReport, bool]:
        """Finish a run; return its report, and whether it only lost its snapshot."""
        try:
            with translating_shortage():
                return self._finish(run), False
        except MigrationError as error:
            stores = run.stores
            reason = why_ended(error, stores.watch, stores.table.deadline)
            return stop_run(run, reason), isinstance(reason, SnapshotLost)
        except Terminated:
            return stop_run(run, Incomplete(STOPPED)), False
        except self.signals:
            stop_run(run, Incomplete(STOPPED))
            raise

    def _finish(self, run: Run) -> MigrationReport:
        ledgers, total = [], len(run.partitions)
        done = sum(one.ledger.read for one in run.ledgers_before)
        with self._runner_of(run) as inner:
            self.progress.rows = run.rows
            self.progress.begin("moving", run.rows, done)
            runner = self.runner(inner)
            # One entity after the other: rows that refer to rows in quarantine are
            # flagged.
            for entity in run.entities:
                for one in runner.map(entity.partitions):
                    ledgers.append(one)
                    done += one.ledger.read
                    self.progress.finish_partition(len(ledgers), total, done)
            try:
                return finish_run(run, ledgers)
            except SourceLost as error:
                # The session that reads here also holds the snapshot.
                raise SnapshotLost(error.message, error.remedy) from None

    def _runner_of(self, run: Run) -> AbstractContextManager[Runner]:
        if self.cluster:
            return self.cluster.runner(run)
        return process_runner(run.stores.context, workers_here(run), run.abandon_lease)


def undo_trial(
    options: MigrateOptions | None = None,
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> RemovalReport:
    """Remove the items that trials of this migration created, and nobody changed since.

    Items that another run has sent too are kept. Of the *options*, the limits of units
    and time count. With *dry_run*, the items are only counted. *progress* is kept up to
    date.

    Raises:
        Refused: an option has no meaning here, there was no trial, or the cutover is
            declared.
        LeaseHeld: a run is under way.
        Incomplete: the removal stopped before its end; call it again.
    """
    options, progress = options or MigrateOptions(), progress or Progress()
    require_removal_options(options)
    context = RunContext(
        writes=RateLimiter(options.max_write_units),
        reads=make_read_limiter(options.max_read_units),
        deadline=time.time() + options.deadline if options.deadline else None,
        progress=progress,
    )
    progress.waits_for = context.waits_for
    progress.begin("opening both stores")
    opening = open_stores(context, session="undo-trial", writing=False, held=False)
    with opening as stores:
        return remove_trials(stores, planned=dry_run)


def reconcile(  # noqa: PLR0913 - each is independent
    *,
    sample: int | None = None,
    repair: RepairOptions | None = None,
    max_read_units: float | None = None,
    allow_empty: bool = False,
    operator: str | None = None,
    progress: Progress | None = None,
) -> ReconciliationReport:
    """Compare the source with the table, both as they are now.

    Rows that the runs of this migration have put in quarantine are explained, but only
    those that a proven run was allowed to leave there are accepted. A source without
    rows proves nothing, unless *allow_empty*. With *sample*, that many rows are
    compared, which proves nothing. *repair* plans a repair of the differences, or
    carries it out and compares again. The table is read at up to *max_read_units* per
    second. A comparison during a run is not recorded. The report names the *operator*,
    by default the user of this process. *progress* is kept up to date.

    Raises:
        Refused: source or table cannot be read as requested, or may not be written.
        LeaseHeld: a run is under way, and a repair was requested.
        Incomplete: there is no room for the comparison or the report.
    """
    name, watch, begun = new_run_id(), Stopwatch(), time.time()
    progress = progress or Progress()
    context = RunContext(reads=make_read_limiter(max_read_units), progress=progress)
    progress.waits_for = context.waits_for
    repairing = repair is not None and repair.yes
    opening = open_stores(context, session=name, writing=repairing)
    progress.begin("opening both stores")
    with watch.timing("total"), opening as stores:
        require_places(stores.settings)
        snapshot, taken = export_snapshot(stores.connection)
        compare_now = partial(
            _compare, name=f"reconcile-{name}", taken=taken, allow_empty=allow_empty
        )
        with watch.timing("reconcile"):
            report = compare_now(stores, Selection(sample=sample))
        repaired, spent = dict[str, Any](), dict[str, float]()
        if repair is not None:
            plan = plan_repair(stores, report, repair)
            repaired = plan.asdict() | {"done": repair.yes}
        if repairing:
            progress.begin("repairing the table")
            spent = repair_differences(stores, plan, f"repair-{name}", snapshot)
            with watch.timing("reconcile"):
                report = compare_now(stores, ALL_ROWS)
        report = _with_evidence(stores, report, begun, operator)
        capacity = add_counts(stores.table.capacity.asdict(), spent)
    report = replace(report, repair=repaired, capacity=capacity, seconds=watch.seconds)
    directory = stores.settings.runs_dir / report.name
    progress.begin("writing the report")
    with needing_room("The report", directory, "Make room, then reconcile again."):
        return write_reconciliation(report, directory)


def _compare(
    stores: Stores, selection: Selection, *, name: str, taken: str, allow_empty: bool
) -> ReconciliationReport:
    """Compare, and record the result unless a run was under way meanwhile."""
    under_way = read_holder(stores.table)
    selections = {source.entity: selection for source in stores.sources}
    report = replace(
        compare(stores, _explained(stores), selections),
        name=name,
        taken=taken,
        allow_empty=allow_empty,
        unaccepted=_count_unaccepted(stores),
        under_way=under_way or read_holder(stores.table),
    )
    if report.under_way:
        # Rows that the run has yet to write would later count as known differences.
        return report
    saved = stores.state.reconciliations.save(stores.migration, report.facts)
    return report.with_history(saved)


def _explained(stores: Stores) -> dict[str, frozenset[str]]:
    """Return the source ids of the rows in quarantine, by entity."""
    memory, entities = stores.state.source, [one.entity for one in stores.sources]
    return {entity: memory.explained(stores.migration, entity) for entity in entities}


def _with_evidence(
    stores: Stores, report: ReconciliationReport, begun: float, operator: str | None
) -> ReconciliationReport:
    """Return a report with its stores, its circumstances and items to check by hand."""
    selection = Selection(sample=report.sample)
    selections = {source.entity: selection for source in stores.sources}
    names = dict.fromkeys(source.name for source in stores.sources)
    return replace(
        report,
        where={"source": ", ".join(names), **stores.target},
        environment=describe_environment(stores.settings),
        spot_checks=read_spot_checks(stores, report, _explained(stores), selections),
        circumstances=describe_report(stores, begun, operator),
    )


def _count_unaccepted(stores: Stores) -> int:
    """Count the rows of the source that only unproven runs have put in quarantine."""
    count = 0
    for source in stores.sources:
        unaccepted = stores.state.source.unaccepted(stores.migration, source.entity)
        if ids := sorted(unaccepted):
            count += count_among(stores.connection, source, ids)
    return count


def reconciliation_history() -> pd.DataFrame:
    """Return the results of the reconciliations of this source and table, latest last.

    One row each: ``at`` (UTC), ``snapshot``, ``mode`` (full, sampled or partial),
    ``status``, ``verdict``, ``source_rows``, ``target_items``, and a column per class.

    Raises:
        Refused: source or table cannot be read as requested.
    """
    with open_stores(writing=False, held=False) as stores:
        return as_frame(stores.state.reconciliations.history(stores.migration))
