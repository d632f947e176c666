"""The end of a run: the proof, the profile of the rows, the files and the report."""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from flows.disk_space import needing_room
from flows.errors import Incomplete, MigrationError
from flows.extract import list_ids
from flows.models import DifferenceClass, Ledger, PartitionLedger, add_counts
from flows.reconciliation.expected_items import Selection
from flows.reconciliation.report import ReconciliationReport
from flows.reports.environment import describe_environment
from flows.reports.files import write_differences, write_id_map, write_quarantine
from flows.reports.spot_checks import SpotCheck
from flows.reports.validation_results import merge_validations, write_data_docs
from flows.run.evidence import describe_report, read_spot_checks
from flows.run.next_commands import record_command
from flows.run.proof import prove
from flows.run.report import MigrationReport, name_files, write_migration
from flows.run.schema_drift import read_profile, source_key, unusual_values
from flows.run.start import Run
from flows.state.source import count_reasons
from flows.state.tables import TRIAL
from flows.timing import Stopwatch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _End:
    """The end of a run: the results of its partitions, its proof and its profile."""

    ledgers: Sequence[PartitionLedger]
    reconciliation: ReconciliationReport | None = None
    profile: Mapping[str, Any] | None = None
    last_profile: Mapping[str, Any] | None = None
    seconds: float = 0.0
    spot_checks: tuple[SpotCheck, ...] = ()
    stopped: str | None = None

    @cached_property
    def validation(self) -> dict[str, Any]:
        """Return the validations of all partitions as one."""
        duplicates = self.profile["name_duplicate"] if self.profile else None
        validations = (one.validation for one in self.ledgers)
        return merge_validations(validations, duplicate_names=duplicates)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what is unusual about the rows, compared with the last run's."""
        if self.profile is None:
            return ()
        return tuple(unusual_values(self.profile, self.last_profile))


def finish_run(run: Run, ledgers: Sequence[PartitionLedger]) -> MigrationReport:
    """Prove the run under its snapshot, write its files, and record its end.

    Raises:
        Incomplete: there is no room for the files.
    """
    watch, state = Stopwatch(), run.stores.state
    with watch.timing("reconcile"):
        reconciliation = prove(run)
    if run.resumed is not None:
        ledgers = state.ledgers(run.run_id)
    run.stores.context.progress.begin("measuring the source")
    profile, last_profile = _profile_source(run)
    quarantined = state.source.quarantine(run.run_id)["source_id"]
    end = _End(
        ledgers,
        reconciliation,
        profile,
        last_profile,
        seconds=watch.seconds["reconcile"],
        spot_checks=read_spot_checks(
            run.stores,
            reconciliation,
            frozenset(quarantined),
            Selection(since=run.since, ids=run.ids),
        ),
    )
    return _record_end(run, end)


def stop_run(run: Run, error: MigrationError) -> MigrationReport:
    """Record and report an incomplete run that *error* stopped."""
    logger.error("run %s stopped: %s", run.run_id, error.message)
    stopped = str(error)
    if run.resume_command:
        stopped += f"\nResume with: {run.resume_command}"
    end = _End(run.stores.state.ledgers(run.run_id), stopped=stopped)
    try:
        return _record_end(run, end)
    except Incomplete as no_room:
        # The error that stopped the run is reported; the state is already durable.
        logger.error("%s", no_room.message)  # noqa: TRY400 - no traceback for users
        return _build_report(run, end, {})


def _profile_source(
    run: Run,
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Record the profile of the rows; return it, and that of the last run.

    A run that read only some rows has no profile.
    """
    if run.since is not None or run.ids is not None:
        return None, None
    stores = run.stores
    known = stores.state.source
    last = known.last_profile(source_key(stores.settings), apart_from=run.run_id)
    profile = read_profile(stores.connection, stores.source)
    known.save_profile(run.run_id, profile)
    return profile, last


def _record_end(run: Run, end: _End) -> MigrationReport:
    """Write the run's files, its report last, and record its end.

    Raises:
        Incomplete: there is no room for the files.
    """
    directory = run.stores.settings.runs_dir / run.run_id
    run.stores.context.progress.begin("writing the report")
    with needing_room("The run's files", directory, "Make room."):
        quarantine = run.stores.state.source.quarantine(run.run_id)
        files = _write_tables(run, end, quarantine, directory)
        report = _build_report(run, end, files, quarantine)
        write_migration(report, directory)
    status = TRIAL if run.trial else report.status
    run.stores.state.finish_run(run.run_id, status, report.asdict())
    if report.status != "incomplete":
        record_command(None)
    return report


def _write_tables(
    run: Run, end: _End, quarantine: pd.DataFrame, directory: Path
) -> dict[str, str | None]:
    """Write the tables of a run; return the paths of all its files, by name."""
    files: dict[str, str | None] = {}
    files |= write_quarantine(quarantine, directory)
    manifests = run.stores.state.manifests.of_run(run.run_id)
    files["id_map"] = write_id_map(manifests, directory)
    if run.options.data_docs:
        files["data_docs"] = write_data_docs(end.validation, directory)
    if end.reconciliation:
        files |= write_differences(end.reconciliation.differences, directory)
    return files | name_files(directory)


def _build_report(
    run: Run,
    end: _End,
    files: Mapping[str, str | None],
    quarantine: pd.DataFrame | None = None,
) -> MigrationReport:
    stores, ledgers = run.stores, end.ledgers
    loaded = sum((one.ledger for one in ledgers), Ledger())
    seconds = add_counts(
        *(one.seconds for one in ledgers),
        {"reconcile": end.seconds, "total": time.time() - run.started},
    )
    capacity = add_counts(
        *(one.capacity for one in ledgers), stores.table.capacity.asdict()
    )
    reasons: dict[str, int] = {}
    refusals: Counter[str] = Counter()
    if quarantine is not None:
        reasons = count_reasons(quarantine["reasons"])
        refusals.update(quarantine["store_reason"].dropna())
    return MigrationReport(
        run_id=run.run_id,
        source=stores.source,
        source_rows=run.rows,
        snapshot=run.taken,
        target=stores.target,
        ledger=_count_rows(run, end.reconciliation) if end.reconciliation else loaded,
        loaded=loaded,
        allowed=run.options.allow_quarantined,
        reconciliation=end.reconciliation,
        validation=end.validation,
        seconds=seconds,
        capacity=capacity,
        limit=_limit(run, ledgers),
        files=files,
        quarantine=reasons,
        refusals=refusals,
        profile=end.profile,
        last_profile=end.last_profile,
        warnings=(*run.warnings, *end.warnings),
        stopped=end.stopped,
        resumed=run.resumed is not None,
        since=run.since,
        replayed=run.replayed,
        trial=run.trial,
        loading=tuple(_loading_times(run, ledgers)),
        environment=describe_environment(stores.settings),
        planned=run.planned,
        circumstances=describe_report(
            stores, run.started, run.options.operator, asking=end.stopped is None
        ),
        spot_checks=end.spot_checks,
    )


def _loading_times(
    run: Run, ledgers: Sequence[PartitionLedger]
) -> Iterator[tuple[float, float, int]]:
    """Yield when each partition of this process was loaded, with its number of items.

    Partitions from before a resume are left out: they may be hours older.
    """
    for one in ledgers:
        if one.loading and one.loading[0] >= run.started:
            begun, ended = one.loading
            yield begun, ended, one.ledger.read - one.ledger.quarantined


def _limit(run: Run, ledgers: Sequence[PartitionLedger]) -> str | None:
    """Return what limited the loading of the run: CPU, source, table or a cap."""
    spent = add_counts(*(one.spent for one in ledgers))
    if not spent:
        return None
    most = max(spent, key=lambda name: float(spent[name]))
    parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in spent.items())
    logger.info("time of the workers: %s", parts)
    if most == "rate":
        # Without a cap the table sets the rate: it starts low, and throttles lower it.
        if run.options.max_write_units:
            return "write cap"
        return "read cap" if run.options.max_read_units else "table"
    return "client CPU" if most == "cpu" else most


def _count_rows(run: Run, reconciliation: ReconciliationReport) -> Ledger:
    """Count every row of the snapshot in the column that the table shows for it.

    Only the loader knows whether an equal item was written or already there. A
    malformed item of a row was kept, since it claims to be newer.
    """
    counts = reconciliation.counts
    malformed = sum(
        d.kind == DifferenceClass.MALFORMED and d.has_row for d in reconciliation.found
    )
    kept = counts["newer_in_target"] + counts["deleted_in_target"] + malformed
    differing = {difference.id for difference in reconciliation.found}
    stores, rows = run.stores, None
    if run.resumed is not None:
        rows = list_ids(stores.connection, stores.source)
        rows.difference_update(stores.state.source.quarantine(run.run_id)["source_id"])
    written = stores.state.manifests.count_written(run.run_id, differing, rows)
    return Ledger(
        read=reconciliation.source_rows,
        written=written,
        unchanged=counts["matched"] - written,
        kept_newer=kept,
        quarantined=counts["explained"],
        failed=counts["missing"] + counts["mismatched"],
    )
