"""Deletion of items whose rows are gone, if they are as one of our runs left them."""

from collections.abc import Mapping

from flows.errors import ConditionFailed
from flows.models import KEY_PREFIX, DifferenceClass, Item, LastWrite, digest
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
    there = {key: _read(stores, key) for key in ours}
    as_left = [key for key in ours if is_as_left(stores, there[key], ours[key])]
    stores.state.manifests.save_ids(run_id, as_left, "deleted")
    return sum(delete_unless_changed(stores, key, ours[key]) for key in as_left)


def delete_unless_changed(
    stores: Stores, identity: str, known: LastWrite, *, whole: bool = False
) -> bool:
    """Delete an item unless it has changed; return whether it is gone."""
    attributes = stores.expected_items.attributes
    try:
        for attempt in stores.table.attempts():
            with attempt:
                there = _read(stores, identity)
                if there and not is_as_left(stores, there, known, whole=whole):
                    return False
                if there:
                    stores.table.delete(there, attributes)
    except ConditionFailed:
        # The application has just changed the item: it stays.
        return False
    return True


def is_as_left(
    stores: Stores, there: Item, known: LastWrite, *, whole: bool = False
) -> bool:
    """Return whether our attributes of an item are as a run left them.

    If *whole*, the item must have no other attributes either.
    """
    own = stores.expected_items.attributes
    same = digest(there.get(name) for name in own) in known.digests
    return same and not (whole and there.keys() - set(own))


def _read(stores: Stores, identity: str) -> Item:
    key = f"{KEY_PREFIX}{identity}"
    return stores.table.read([key]).get(key, {})
