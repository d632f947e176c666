"""Deletion of items whose rows are gone, if they are as one of our runs left them."""

from collections.abc import Sequence
from dataclasses import dataclass

from flows.errors import ConditionFailed
from flows.models import DifferenceClass, Item, Key, LastWrite, SourceTable
from flows.reconciliation.report import ReconciliationReport
from flows.run.preflight import Stores


@dataclass(frozen=True)
class OurItem:
    """An item that a run wrote: its id, its key, and what is known of its content."""

    id: str
    key: Key
    known: LastWrite
    source: SourceTable


def ours_among(stores: Stores, report: ReconciliationReport) -> list[OurItem]:
    """Return the extra items that a manifest of this migration has."""
    gone = [d for d in report.found if d.kind == DifferenceClass.EXTRA and d.key]
    ids = {d.id for d in gone}
    known = stores.state.manifests.known_items(stores.migration, ids) if ids else {}
    sources = {source.entity: source for source in stores.sources}
    found = []
    for d in gone:
        trace = known[d.id].at(d.key) if d.id in known and d.key else None
        if trace and d.key:
            found.append(OurItem(d.id, d.key, trace, sources[d.entity]))
    return found


def delete_as_left(stores: Stores, run_id: str, ours: Sequence[OurItem]) -> int:
    """Delete the items among *ours* that nobody changed; return how many are gone.

    Their ids are durable in the run's state before the first item is deleted.
    """
    there = stores.table.read([one.key for one in ours])
    as_left = [one for one in ours if is_as_left(stores, there.get(one.key, {}), one)]
    save_deleted(stores, run_id, as_left)
    return sum(delete_unless_changed(stores, one) for one in as_left)


def save_deleted(stores: Stores, run_id: str, items: Sequence[OurItem]) -> None:
    """Save the items that a run deletes, durably."""
    log = stores.state.manifests
    for source in dict.fromkeys(one.source for one in items):
        some = [one for one in items if one.source == source]
        keys = None if source.has_keys_of_ids else [one.key for one in some]
        log.save_ids(run_id, [one.id for one in some], "deleted", keys)


def delete_unless_changed(stores: Stores, one: OurItem, *, whole: bool = False) -> bool:
    """Delete an item unless it has changed; return whether it is gone."""
    attributes = own_attributes(stores, one.source)
    try:
        for attempt in stores.table.attempts():
            with attempt:
                there = stores.table.read([one.key]).get(one.key, {})
                if there and not is_as_left(stores, there, one, whole=whole):
                    return False
                if there:
                    stores.table.delete(there, attributes)
    except ConditionFailed:
        # The application has just changed the item: it stays.
        return False
    return True


def is_as_left(
    stores: Stores, there: Item, one: OurItem, *, whole: bool = False
) -> bool:
    """Return whether our attributes of an item are as a run left them.

    If *whole*, the item must have no other attributes either.
    """
    own = own_attributes(stores, one.source)
    same = bool(there) and one.known.is_left_in(there, own)
    return same and not (whole and there.keys() - set(own))


def own_attributes(stores: Stores, source: SourceTable) -> tuple[str, ...]:
    """Return the attributes that a run writes to the items of a source."""
    return source.attributes_with(provenance=stores.settings.item_provenance)
