"""The proof of a run, and the moves and deletions that it shows to be outstanding."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from uuid import UUID

import pandas as pd

from flows.extract import check_text_ids, list_ids
from flows.models import LOADABLE
from flows.reconciliation.expected_items import ALL_ROWS, Selection
from flows.reconciliation.reconcile import Judge, reconcile_enterprises
from flows.reconciliation.report import ReconciliationReport
from flows.run.deletions import delete_as_left, ours_among
from flows.run.partition import migrate_partition
from flows.run.preflight import Stores
from flows.run.start import Run
from flows.stores.dynamodb.lease import CUTOVER
from validation.contract import Reason, Severity
from validation.validate import validate_items

logger = logging.getLogger(__name__)

UNKNOWN_EDITS = (
    "the cutover is declared, and this state has no proven full run of this migration:"
    " edits of the application cannot be separated from differences; set STATE_URL to"
    " the state of such a run"
)


def prove(run: Run) -> ReconciliationReport:
    """Compare source and target under the run's snapshot, and record the result.

    That of a trial is not recorded: later reconciliations are not compared with it.
    A resumed run moves once the rows that differ under its new snapshot. Items whose
    rows are gone are deleted on request.
    """
    report = _compare(run)
    changed = run.resumed is not None and _move_differing(run, report)
    if run.options.propagate_deletes:
        changed |= _delete_gone(run, report)
    if changed:
        report = _compare(run)
    if run.trial is not None:
        return report
    reconciliations = run.stores.state.reconciliations
    return report.with_history(reconciliations.save(run.stores.migration, report.facts))


def compare(
    stores: Stores, quarantined: frozenset[str], selection: Selection = ALL_ROWS
) -> ReconciliationReport:
    """Compare the source of this session's snapshot with the table as it is now.

    Raises:
        SourceError: a text id is not a UUID.
    """
    shared = check_text_ids(stores.connection, stores.source)
    cutover = stores.table.get_own(CUTOVER) is not None
    if cutover and not stores.state.has_full_run(stores.migration):
        # Without manifests, every item would count as the application's.
        logger.warning("%s", UNKNOWN_EDITS)
        cutover = False
    return reconcile_enterprises(
        stores.connection,
        stores.table,
        replace(stores.expected_items, shared=frozenset(shared)),
        judge=Judge(
            quarantined=quarantined,
            breaks_suite=breaks_item_suite,
            history=partial(stores.state.manifests.known_items, stores.migration),
            after_cutover=cutover,
        ),
        selection=selection,
        progress=stores.context.progress,
    )


def breaks_item_suite(items: pd.DataFrame) -> Sequence[bool]:
    """Return for each item whether it fails a critical expectation.

    Of two items with the same id, only the one whose key has another id is broken: it
    fails the expectation on keys.
    """
    failures = validate_items(items).failures
    critical = failures["severity"] == Severity.CRITICAL.value
    broken = failures.loc[critical & (failures["reason"] != Reason.ITEM_DUPLICATE)]
    return items.index.isin(broken["row"]).tolist()


def _compare(run: Run) -> ReconciliationReport:
    quarantine = run.stores.state.source.quarantine(run.run_id)
    ids = frozenset(quarantine["source_id"])
    report = compare(run.stores, ids, Selection(since=run.since, ids=run.ids))
    accepted = run.options.allow_empty
    return replace(report, name=run.run_id, taken=run.taken, allow_empty=accepted)


def _move_differing(run: Run, report: ReconciliationReport) -> bool:
    """Move the rows that changed after their partition was done, once."""
    differing = {
        difference.source_id
        for difference in report.found
        if difference.kind in LOADABLE and difference.source_id
    }
    differing |= _new_duplicates(run)
    if not differing or run.resumed is None:
        return False
    ids, number = tuple(sorted(differing)), run.resumed.highest + 1
    spec = replace(run.spec, number=number, ids=ids, since=None)
    migrate_partition(spec, run.stores.context)
    return True


def _new_duplicates(run: Run) -> set[str]:
    """Return the rows that share an id and are not in quarantine yet.

    One was added after the partition of the other was done.
    """
    if not run.spec.duplicate_ids:
        return set()
    stores = run.stores
    rows = list_ids(stores.connection, stores.source, run.since)
    rows.difference_update(stores.state.source.quarantine(run.run_id)["source_id"])
    return {row for row in rows if str(UUID(row)) in run.spec.duplicate_ids}


def _delete_gone(run: Run, report: ReconciliationReport) -> bool:
    """Delete items whose rows are gone, if they are as one of our runs left them."""
    ours = ours_among(run.stores, report)
    if len(ours) > run.options.propagate_deletes:
        logger.warning(
            "%s items have lost their rows, more than --propagate-deletes allows;"
            " none was deleted",
            len(ours),
        )
        return False
    return delete_as_left(run.stores, run.run_id, ours) > 0
