"""Deletion of items whose rows are gone, if they are as one of our runs left them."""

from collections.abc import Mapping

from flows.errors import ConditionFailed
from flows.models import DifferenceClass, Item, LastWrite, digest
from flows.reconciliation.report import ReconciliationReport
from flows.run.preflight import Stores


def ours_among(stores: Stores, report: ReconciliationReport) -> dict[str, LastWrite]:
    """Return, by id, the extra items that a manifest of this migration has."""
    gone = [d.id for d in report.found if d.kind == DifferenceClass.EXTRA]
    known = (
        stores.state.manifests.known_items(stores.migration, set(gone)) if gone else {}
    )
    return {key: known[key] for key in gone if key in known}


def delete_as_left(stores: Stores, run_id: str, ours: Mapping[str, LastWrite]) -> int:
    """Delete the items among *ours* that nobody changed; return how many are gone.

    Their ids are durable in the run's state before the first item is deleted.
    """
    as_left = [key for key in ours if _read_as_left(stores, key, ours[key])]
    stores.state.manifests.save_deletions(run_id, as_left)
    return sum(_delete(stores, key, ours[key]) for key in as_left)


def _delete(stores: Stores, identity: str, known: LastWrite) -> bool:
    """Delete an item unless it has changed; return whether it is gone."""
    attributes = stores.expected_items.attributes
    try:
        for attempt in stores.table.attempts():
            with attempt:
                if there := _read_as_left(stores, identity, known):
                    stores.table.delete(there, attributes)
    except ConditionFailed:
        # The application has just changed the item: it stays.
        return False
    return True


def _read_as_left(stores: Stores, identity: str, known: LastWrite) -> Item | None:
    """Return an item if it is as a run left it, None if it is changed or gone."""
    key = f"ENT#{identity}"
    there = stores.table.read([key]).get(key, {})
    values = [there.get(name) for name in stores.expected_items.attributes]
    return there if digest(values) in known.digests else None
