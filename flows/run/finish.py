"""The end of a run: the proof, what is still to be moved or deleted, the report."""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from uuid import UUID

import pandas as pd

from flows.disk_space import needing_room
from flows.errors import Incomplete, MigrationError
from flows.extract import check_text_ids, list_ids
from flows.models import (
    LastWrite,
    Ledger,
    PartitionLedger,
    add_counts,
)
from flows.reconciliation.reconcile import reconcile_enterprises
from flows.reconciliation.report import ReconciliationReport
from flows.reports.environment import describe_environment
from flows.reports.files import write_id_map, write_quarantine
from flows.reports.validation_results import merge_validations, write_data_docs
from flows.run.deletions import delete_as_left, ours_among
from flows.run.next_commands import record_command
from flows.run.partition import migrate_partition
from flows.run.preflight import Stores
from flows.run.report import MigrationReport
from flows.run.schema_drift import read_profile, source_key, unusual_values
from flows.run.start import Run
from flows.state.source import count_reasons
from flows.stores.dynamodb.lease import CUTOVER
from flows.timing import Stopwatch
from validation.contract import Reason, Severity
from validation.validate import validate_items

logger = logging.getLogger(__name__)

UNKNOWN_EDITS = (
    "the cutover is declared, and this state has no proven full run of this migration:"
    " edits of the application cannot be separated from differences; set STATE_URL to"
    " the state of such a run"
)


def finish_run(run: Run, ledgers: Sequence[PartitionLedger]) -> MigrationReport:
    """Reconcile under the run's snapshot, write its files, and say how it ended.

    A resumed run moves once what differs under its new snapshot. Items whose rows are
    gone are deleted where that was asked for.
    """
    state = run.stores.state
    watch = Stopwatch()
    with watch.timing("reconcile"):
        report = _compare(run)
        changed = run.resumed is not None and _move_differing(run, report)
        if run.options.propagate_deletes:
            changed |= _delete_gone(run, report)
        if changed:
            report = _compare(run)
    if run.resumed is not None:
        ledgers = state.ledgers(run.run_id)
    named = replace(report, name=run.run_id, taken=run.taken)
    history = state.reconciliations.save(run.stores.migration, named.facts)
    report = named.with_history(history)
    found = _report(run, ledgers, reconciliation=report, seconds=watch.seconds)
    return _written(run, _profiled(run, found))


def stop_run(run: Run, error: MigrationError) -> MigrationReport:
    """Record and report an incomplete run, which *error* stopped."""
    logger.error("run %s stopped: %s", run.run_id, error.message)
    stopped = str(error)
    if run.resume_command:
        stopped += f"\nResume with: {run.resume_command}"
    report = _report(run, run.stores.state.ledgers(run.run_id), stopped=stopped)
    try:
        return _written(run, report)
    except Incomplete as no_room:
        # What stopped the run is what matters; its state is as durable as it was.
        logger.error("%s", no_room.message)  # noqa: TRY400 - no traceback for users
        return report


def compare(
    stores: Stores,
    quarantined: frozenset[str],
    *,
    since: str | None = None,
    sample: int | None = None,
    ids: Sequence[str] | None = None,
) -> ReconciliationReport:
    """Compare the source of this session's snapshot with the table as it is now.

    Raises:
        SourceError: a text id is not a UUID.
    """

    def known(ids: set[str]) -> dict[str, LastWrite]:
        return stores.state.manifests.known_items(stores.migration, ids)

    shared = check_text_ids(stores.connection, stores.source)
    cutover = stores.table.get_own(CUTOVER) is not None
    if cutover and not stores.state.has_full_run(stores.migration):
        # By a state without manifests every item would be the application's.
        logger.warning("%s", UNKNOWN_EDITS)
        cutover = False
    return reconcile_enterprises(
        stores.connection,
        stores.table,
        replace(stores.derivation, shared=frozenset(shared)),
        quarantined=quarantined,
        breaks_suite=breaks_item_suite,
        known=known if cutover else None,
        manifests=known,
        since=since,
        sample=sample,
        ids=ids,
    )


def breaks_item_suite(items: pd.DataFrame) -> Sequence[bool]:
    """Return for each item whether it fails a critical expectation.

    Of two items with one id, only that one is broken whose key is another: it fails
    the expectation on keys.
    """
    failures = validate_items(items).failures
    critical = failures["severity"] == Severity.CRITICAL.value
    broken = failures.loc[critical & (failures["reason"] != Reason.ITEM_DUPLICATE)]
    return items.index.isin(broken["row"]).tolist()


def _compare(run: Run) -> ReconciliationReport:
    quarantine = run.stores.state.source.quarantine(run.run_id)
    ids = frozenset(quarantine["source_id"])
    found = compare(run.stores, ids, since=run.since, ids=run.ids)
    return replace(found, allow_empty=run.options.allow_empty)


def _move_differing(run: Run, report: ReconciliationReport) -> bool:
    """Move the rows that changed after their partition was done, once."""
    differing = {
        difference.source_id
        for difference in report.found
        if difference.kind in {"missing", "mismatched"} and difference.source_id
    }
    differing |= _new_twins(run)
    if not differing or run.resumed is None:
        return False
    ids, number = tuple(sorted(differing)), run.resumed.highest + 1
    spec = replace(run.spec, number=number, ids=ids, since=None)
    migrate_partition(spec, run.stores.context)
    return True


def _new_twins(run: Run) -> set[str]:
    """Return the rows that share an id, and of which none is in quarantine yet.

    One has come after the partition of the other was done.
    """
    if not run.spec.duplicate_ids:
        return set()
    stores = run.stores
    rows = list_ids(stores.connection, stores.source, run.since)
    rows.difference_update(stores.state.source.quarantine(run.run_id)["source_id"])
    return {row for row in rows if str(UUID(row)) in run.spec.duplicate_ids}


def _delete_gone(run: Run, report: ReconciliationReport) -> bool:
    """Delete items whose rows are gone, if they are as a run of ours left them."""
    ours = ours_among(run.stores, report)
    if len(ours) > run.options.propagate_deletes:
        logger.warning(
            "%s items have lost their rows, more than --propagate-deletes allows;"
            " none was deleted",
            len(ours),
        )
        return False
    return delete_as_left(run.stores, run.run_id, ours) > 0


def _report(
    run: Run,
    ledgers: Sequence[PartitionLedger],
    *,
    reconciliation: ReconciliationReport | None = None,
    seconds: Mapping[str, float] = MappingProxyType({}),
    stopped: str | None = None,
) -> MigrationReport:
    stores = run.stores
    loaded = sum((one.ledger for one in ledgers), Ledger())
    capacity = stores.table.capacity.asdict()
    spent = add_counts(*(one.seconds for one in ledgers), seconds)
    return MigrationReport(
        run_id=run.run_id,
        source=stores.source,
        source_rows=run.rows,
        snapshot=run.taken,
        target=stores.target,
        ledger=_settle(run, reconciliation) if reconciliation else loaded,
        loaded=loaded,
        allowed=run.options.allow_quarantined,
        reconciliation=reconciliation,
        validation=merge_validations(one.validation for one in ledgers),
        seconds=spent | {"total": time.time() - run.started},
        capacity=add_counts(*(one.capacity for one in ledgers), capacity),
        limit=_limit(run, ledgers),
        files={},
        warnings=run.warnings,
        stopped=stopped,
        resumed=run.resumed is not None,
        since=run.since,
        replayed=run.replayed,
        loading=tuple(_loaded(run, ledgers)),
        environment=describe_environment(stores.settings),
        planned=run.planned,
    )


def _loaded(
    run: Run, ledgers: Sequence[PartitionLedger]
) -> Iterator[tuple[float, float, int]]:
    """Yield when the partitions were loaded that this process drove, with their items.

    Those of a run before a resume are hours away from them, perhaps.
    """
    for one in ledgers:
        if one.loading and one.loading[0] >= run.started:
            begun, ended = one.loading
            yield begun, ended, one.ledger.read - one.ledger.quarantined


def _profiled(run: Run, report: MigrationReport) -> MigrationReport:
    """Measure the rows, compare them with the last run's, and remember that.

    A run that read some rows alone has no profile.
    """
    if run.since is not None or run.replayed is not None:
        return report
    stores = run.stores
    key = source_key(stores.settings)
    last = stores.state.source.last_profile(key, apart_from=run.run_id)
    profile = read_profile(stores.connection, stores.source)
    stores.state.source.save_profile(run.run_id, profile)
    validation = merge_validations(
        [report.validation], duplicate_names=profile["name_duplicate"]
    )
    return replace(
        report,
        validation=validation,
        profile=profile,
        last_profile=last,
        warnings=(*report.warnings, *unusual_values(profile, last)),
    )


def _limit(run: Run, ledgers: Sequence[PartitionLedger]) -> str | None:
    """Return what limited the loading of the run: CPU, source, table or a cap."""
    spent = add_counts(*(one.spent for one in ledgers))
    if not spent:
        return None
    most = max(spent, key=lambda name: float(spent[name]))
    logger.info(
        "seconds of the workers: %s", {k: round(v, 1) for k, v in spent.items()}
    )
    if most == "rate":
        # Without a cap it is the table's: its gentle start, and what it refused.
        if run.options.max_write_units:
            return "write cap"
        return "read cap" if run.options.max_read_units else "table"
    return "client CPU" if most == "cpu" else most


def _written(run: Run, report: MigrationReport) -> MigrationReport:
    """Write the run's files and record its end.

    Raises:
        Incomplete: there is no room for them.
    """
    state, directory = run.stores.state, run.stores.settings.runs_dir / run.run_id
    with needing_room("The run's files", directory, "Make room."):
        rows = state.source.quarantine(run.run_id)
        files: dict[str, str | None] = dict(write_quarantine(rows, directory))
        files["id_map"] = write_id_map(state.manifests.of_run(run.run_id), directory)
        if run.options.data_docs:
            files["data_docs"] = write_data_docs(report.validation, directory)
        reasons = count_reasons(rows["reasons"])
        refusals = dict(Counter(rows["store_reason"].dropna()))
        report = replace(report, files=files, quarantine=reasons, refusals=refusals)
        report = report.written_to(directory)
    state.finish_run(run.run_id, report.status, report.asdict())
    if report.status != "incomplete":
        record_command(None)
    return report


def _settle(run: Run, reconciliation: ReconciliationReport) -> Ledger:
    """Count every row of the snapshot in the column that the table shows for it.

    Only whether an equal item was written or had been there is the loader's word. A
    malformed item of a row was kept, since it claims to be newer.
    """
    counts = reconciliation.counts
    malformed = sum(d.kind == "malformed" and d.has_row for d in reconciliation.found)
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
