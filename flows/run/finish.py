"""The end of a run: the proof, the profile of the rows, the files and the report."""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from flows.disk_space import needing_room
from flows.errors import Incomplete, MigrationError
from flows.extract import list_ids
from flows.models import Ledger, PartitionLedger, add_counts
from flows.prepare import subject_of
from flows.reconciliation.report import ReconciliationReport
from flows.reports.environment import describe_environment
from flows.reports.files import write_differences, write_id_map, write_quarantine
from flows.reports.spot_checks import SpotCheck
from flows.reports.validation_results import write_data_docs
from flows.run.entity_end import EntityEnd, count_rows, validate_ends
from flows.run.evidence import describe_report, read_spot_checks
from flows.run.next_commands import record_command
from flows.run.parts import EntityRun
from flows.run.proof import prove, quarantined_by, selections_of
from flows.run.report import MigrationReport
from flows.run.report_files import name_files, write_migration
from flows.run.source_profile import read_profile, unusual_values
from flows.run.start import Run
from flows.state.source import count_reasons
from flows.state.tables import TRIAL
from flows.timing import Stopwatch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _End:
    """The end of a run: the results of its partitions, and its proof."""

    ledgers: Sequence[PartitionLedger]
    entities: tuple[EntityEnd, ...]
    reconciliation: ReconciliationReport | None = None
    seconds: float = 0.0
    spot_checks: tuple[SpotCheck, ...] = ()
    stopped: str | None = None


def finish_run(run: Run, ledgers: Sequence[PartitionLedger]) -> MigrationReport:
    """Prove the run under its snapshot, write its files, and record its end.

    Raises:
        Incomplete: there is no room for the files.
    """
    watch = Stopwatch()
    with watch.timing("reconcile"):
        reconciliation = prove(run)
    if run.resumed is not None:
        ledgers = run.stores.state.ledgers(run.run_id)
    run.stores.context.progress.begin("measuring the source")
    end = _End(
        ledgers,
        tuple(_end_of(run, one, reconciliation) for one in run.entities),
        reconciliation,
        seconds=watch.seconds["reconcile"],
        spot_checks=read_spot_checks(
            run.stores, reconciliation, quarantined_by(run), selections_of(run)
        ),
    )
    return _record_end(run, end)


def _end_of(
    run: Run, one: EntityRun, reconciliation: ReconciliationReport | None
) -> EntityEnd:
    """Return the end of an entity's part; without a proof, what is known so far."""
    state, entity = run.stores.state, one.source.entity
    ledgers = state.ledgers(run.run_id, entity)
    quarantine = state.source.quarantine(run.run_id, entity)
    profile = last = found = None
    if reconciliation is not None:
        found = reconciliation.part(entity)
        profile, last = _profile_source(run, one)
    loaded = sum((each.ledger for each in ledgers), Ledger())
    return EntityEnd(
        source=one.source,
        rows=one.rows,
        loaded=loaded,
        ledger=count_rows(found, _count_written(run, one, found)) if found else loaded,
        validation=validate_ends(ledgers, profile),
        reconciliation=found,
        quarantine=count_reasons(quarantine["reasons"]),
        profile=profile,
        last_profile=last,
        warnings=tuple(unusual_values(profile, last)) if profile else (),
    )


def stop_run(run: Run, error: MigrationError) -> MigrationReport:
    """Record and report an incomplete run that *error* stopped."""
    logger.error("run %s stopped: %s", run.run_id, error.message)
    stopped = str(error)
    if run.resume_command:
        stopped += f"\nResume with: {run.resume_command}"
    ledgers = run.stores.state.ledgers(run.run_id)
    parts = tuple(_end_of(run, one, None) for one in run.entities)
    end = _End(ledgers, parts, stopped=stopped)
    try:
        return _record_end(run, end)
    except Incomplete as no_room:
        # The error that stopped the run is reported; the state is already durable.
        logger.error("%s", no_room.message)  # noqa: TRY400 - no traceback for users
        return _build_report(run, end, {})


def _profile_source(
    run: Run, one: EntityRun
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Record the profile of an entity's rows; return it, and that of the last run.

    A run that read only some rows has no profile.
    """
    if run.since is not None or one.chosen:
        return None, None
    stores = run.stores
    known, key = stores.state.source, stores.source_key(one.source)
    last = known.last_profile(key, apart_from=run.run_id)
    profile = read_profile(stores.connection, one.source)
    known.save_profile(run.run_id, key, profile)
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
    files["id_map"] = write_id_maps(run, directory)
    if run.options.data_docs:
        results = [(subject_of(one.source), one.validation) for one in end.entities]
        files["data_docs"] = write_data_docs(results, directory)
    if end.reconciliation:
        files |= write_differences(end.reconciliation.differences, directory)
    return files | name_files(directory)


def write_id_maps(run: Run, directory: Path) -> str:
    """Write the map of ids of each entity; return the path of the first one."""
    log, paths = run.stores.state.manifests, list[str]()
    for one in run.entities:
        entity = one.source.entity
        name = "id_map" if one is run.entities[0] else f"id_map_{entity}"
        manifests = log.of_run(run.run_id, entity)
        paths.append(write_id_map(manifests, directory / f"{name}.parquet"))
    return paths[0]


def _build_report(
    run: Run,
    end: _End,
    files: Mapping[str, str | None],
    quarantine: pd.DataFrame | None = None,
) -> MigrationReport:
    stores, ledgers = run.stores, end.ledgers
    seconds = add_counts(
        *(one.seconds for one in ledgers),
        {"reconcile": end.seconds, "total": time.time() - run.started},
    )
    capacity = add_counts(
        *(one.capacity for one in ledgers), stores.table.capacity.asdict()
    )
    refusals: Counter[str] = Counter()
    if quarantine is not None:
        refusals.update(quarantine["store_reason"].dropna())
    unusual = (warning for one in end.entities for warning in one.warnings)
    return MigrationReport(
        run_id=run.run_id,
        entities=end.entities,
        snapshot=run.taken,
        target=stores.target,
        allowed=run.options.allow_quarantined,
        reconciliation=end.reconciliation,
        seconds=seconds,
        capacity=capacity,
        limit=_limit(run, ledgers),
        files=files,
        refusals=refusals,
        warnings=(*run.warnings, *unusual),
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


def _count_written(run: Run, one: EntityRun, found: ReconciliationReport) -> int:
    """Count the equal items of an entity that the run wrote."""
    differing = {difference.id for difference in found.found}
    stores, entity, rows = run.stores, one.source.entity, None
    if run.resumed is not None:
        rows = list_ids(stores.connection, one.source)
        known = stores.state.source.quarantine(run.run_id, entity)
        rows.difference_update(known["source_id"])
    return stores.state.manifests.count_written(run.run_id, differing, rows, entity)
