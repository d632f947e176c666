"""The proof of a run, and the moves and deletions that it shows to be outstanding."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from uuid import UUID

import pandas as pd

from flows.extract import (
    check_text_ids,
    find_existing,
    find_rows_with_keys,
    list_ids,
)
from flows.models import LOADABLE, SourceTable
from flows.prepare import subject_of
from flows.reconciliation.judge import Judge
from flows.reconciliation.reconcile import Compares, reconcile_entities
from flows.reconciliation.report import ReconciliationReport
from flows.reconciliation.source_rows import ALL_ROWS, Selection
from flows.run.deletions import delete_as_left, ours_among
from flows.run.partition import migrate_partition
from flows.run.parts import EntityRun
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
    stores: Stores,
    quarantined: Mapping[str, frozenset[str]],
    selections: Mapping[str, Selection] | None = None,
) -> ReconciliationReport:
    """Compare the sources of this session's snapshot with the table as it is now.

    *quarantined* has source ids by entity, and *selections* the rows to compare.

    Raises:
        SourceError: a text id is not a UUID.
    """
    cutover = stores.table.get_own(CUTOVER) is not None
    wanted = []
    for source in stores.sources:
        owned = cutover
        key = stores.source_key(source)
        if cutover and not stores.state.has_full_run(stores.migration, key):
            # Without manifests, every item would count as the application's.
            logger.warning("%s", UNKNOWN_EDITS)
            owned = False
        shared = check_text_ids(stores.connection, source)
        expected = replace(stores.expected_items(source), shared=frozenset(shared))
        judge = Judge(
            quarantined=quarantined.get(source.entity, frozenset()),
            breaks_suite=partial(breaks_item_suite, source),
            history=partial(stores.state.manifests.known_items, stores.migration),
            after_cutover=owned,
            find_rows=partial(find_existing, stores.connection, source),
        )
        selection = (selections or {}).get(source.entity, ALL_ROWS)
        wanted.append(Compares(expected, judge, selection))
    return reconcile_entities(
        stores.connection, stores.table, wanted, progress=stores.context.progress
    )


def breaks_item_suite(source: SourceTable, items: pd.DataFrame) -> Sequence[bool]:
    """Return for each item whether it fails a critical expectation.

    Of two items with the same id, only the one whose key has another id is broken: it
    fails the expectation on keys.
    """
    failures = validate_items(items, subject=subject_of(source)).failures
    critical = failures["severity"] == Severity.CRITICAL.value
    broken = failures.loc[critical & (failures["reason"] != Reason.ITEM_DUPLICATE)]
    return items.index.isin(broken["row"]).tolist()


def quarantined_by(run: Run) -> dict[str, frozenset[str]]:
    """Return the source ids that a run has put in quarantine, by entity."""
    memory, entities = run.stores.state.source, run.entities
    names = [one.source.entity for one in entities]
    return {
        entity: frozenset(memory.quarantine(run.run_id, entity)["source_id"])
        for entity in names
    }


def selections_of(run: Run) -> dict[str, Selection]:
    """Return the rows of a run by entity: all, or those that it moved."""
    return {
        one.source.entity: Selection(since=run.since, ids=one.ids)
        for one in run.entities
    }


def _compare(run: Run) -> ReconciliationReport:
    report = compare(run.stores, quarantined_by(run), selections_of(run))
    accepted = run.options.allow_empty
    return replace(report, name=run.run_id, taken=run.taken, allow_empty=accepted)


def _move_differing(run: Run, report: ReconciliationReport) -> bool:
    """Move the rows that changed after their partition was done, once."""
    if run.resumed is None:
        return False
    number = run.resumed.highest
    for one in run.entities:
        differing = {
            difference.source_id
            for difference in report.found
            if difference.kind in LOADABLE
            and difference.source_id
            and difference.entity == one.source.entity
        }
        differing |= _new_duplicates(run, one)
        if differing:
            number, ids = number + 1, tuple(sorted(differing))
            spec = replace(one.spec, number=number, ids=ids, since=None)
            migrate_partition(spec, run.stores.context)
    return number > run.resumed.highest


def _new_duplicates(run: Run, one: EntityRun) -> set[str]:
    """Return the rows that share an id or a key and are not in quarantine yet.

    One was added after the partition of the other was done.
    """
    stores, spec = run.stores, one.spec
    rows = find_rows_with_keys(stores.connection, spec.source, spec.duplicate_keys)
    if spec.duplicate_ids:
        ids = list_ids(stores.connection, spec.source, run.since)
        rows |= {row for row in ids if str(UUID(row)) in spec.duplicate_ids}
    if rows:
        known = stores.state.source.quarantine(run.run_id, spec.source.entity)
        rows.difference_update(known["source_id"])
    return rows


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
