"""The judgement of rows and items that are not equal: which of them are differences."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from flows.models import (
    ENTERPRISE_TABLE,
    PROVENANCE_ATTRIBUTES,
    Attribute,
    Difference,
    DifferenceClass,
    Item,
    Key,
    LastWrite,
    SourceTable,
    WriteHistory,
    changed_by_application,
    is_edited,
    key_of,
    same_value,
)
from flows.models.differences import MOVED
from flows.models.stamps import has_readable_stamps, is_newer
from flows.reconciliation.expected_items import ExpectedItems, key_to_read
from flows.stores.dynamodb.table import READ_KEYS, EnterpriseTable

JUDGED_ROWS = 10_000


@dataclass(frozen=True)
class Judge:
    """The criteria for what counts as a difference."""

    # The source ids of rows that the quarantine explains.
    quarantined: frozenset[str] = frozenset()
    # Returns whether each item of a frame is invalid.
    breaks_suite: Callable[[pd.DataFrame], Sequence[bool]] | None = None
    # Returns the last writes of runs to some items.
    history: WriteHistory | None = None
    # Whether the application owns the items, whatever runs wrote.
    after_cutover: bool = False
    # Returns which of some source ids still have a row.
    find_rows: Callable[[set[str]], set[str]] | None = None
    source: SourceTable = ENTERPRISE_TABLE

    def find_broken(self, items: Sequence[Item]) -> Iterator[bool]:
        """Yield for each item whether it is invalid."""
        names = list(self.source.item_attributes)
        for start in range(0, len(items), JUDGED_ROWS):
            chunk = items[start : start + JUDGED_ROWS]
            rows = [[item.get(name) for name in names] for item in chunk]
            frame = pd.DataFrame(rows, columns=names, dtype=object)
            broken = self.breaks_suite
            yield from broken(frame) if broken else [False] * len(chunk)

    def read_history(self, ids: set[str]) -> Mapping[str, LastWrite]:
        """Return the last writes of runs to some items, as far as they are known."""
        return self.history(ids) if self.history and ids else {}

    def find_moved(self, ours: Mapping[str, LastWrite]) -> set[str]:
        """Return the source ids of items whose rows exist, at other keys."""
        source_ids = {one.source_id for one in ours.values() if one.source_id}
        if not (self.find_rows and source_ids) or self.source.has_keys_of_ids:
            return set()
        return self.find_rows(source_ids)


ANY_ITEM = Judge()


@dataclass(frozen=True)
class Differing:
    """The item of a row, the item that is *there*, and their difference.

    *impossible* is true if no item can have the row's values.
    """

    item: Item
    there: Item
    difference: Difference
    impossible: bool = False


def read_again(
    table: EnterpriseTable,
    expected_items: ExpectedItems,
    doubtful: Sequence[Sequence[str | None]],
    shared_keys: frozenset[Key] = frozenset(),
) -> Iterator[Differing]:
    """Read the items of doubtful rows again, and yield each with its difference."""
    for start in range(0, len(doubtful), READ_KEYS):
        chunk = doubtful[start : start + READ_KEYS]
        derived = [expected_items.item(row) for row in chunk]
        keys = [key_to_read(item) for item, _ in derived]
        there = table.read(list({key for key in keys if key}))
        for row, key, (item, impossible) in zip(chunk, keys, derived, strict=True):
            found = there.get(key, {}) if key else {}
            own = {name: found[name] for name in item if name in found}
            fields = _compare(item, own)
            if impossible:
                absent = [name for name in expected_items.needed if item[name] is None]
                fields |= {
                    name: {"source": None, "target": own.get(name)} for name in absent
                }
            shared = item["id"] in expected_items.shared or key in shared_keys
            if not fields and (impossible or shared):
                # One item cannot stand for two rows, even if it equals both.
                fields["id"] = {"source": row[0], "target": item["id"]}
            kind = DifferenceClass.MISMATCHED if fields else DifferenceClass.MATCHED
            difference = Difference(
                kind if own else DifferenceClass.MISSING,
                str(row[0]),
                str(item["id"]),
                fields if own else {},
                entity=expected_items.source.entity,
                key=key,
            )
            yield Differing(item, own, difference, impossible)


def _compare(item: Item, there: Item) -> dict[str, dict[str, Attribute | None]]:
    """Return the attributes that differ, each with its values on either side."""
    return {
        name: {"source": value, "target": there.get(name)}
        for name, value in item.items()
        if not same_value(there.get(name), value)
    }


def judge_edits(differing: Sequence[Differing], judge: Judge) -> list[Difference]:
    """Separate legitimate changes by an application from errors.

    An item that loading leaves to the application is newer only if it is valid, and
    malformed otherwise. After the cutover the application may also have deleted it.
    """
    ours = judge.read_history(
        {
            one.difference.id
            for one in differing
            if judge.after_cutover or not has_readable_stamps(one.there)
        }
    )
    theirs = [one for one in differing if _is_left_alone(one, ours, judge)]
    edited = [one for one in theirs if one.there]
    broken = judge.find_broken([one.there for one in edited])
    kinds = {
        one.difference.source_id: DifferenceClass.DELETED_IN_TARGET for one in theirs
    }
    kinds |= {
        one.difference.source_id: _kind_of_edit(one, judge, malformed=malformed)
        for one, malformed in zip(edited, broken, strict=True)
    }
    found = [one.difference for one in differing]
    return [replace(d, kind=kinds.get(d.source_id, d.kind)) for d in found]


def _is_left_alone(one: Differing, ours: Mapping[str, LastWrite], judge: Judge) -> bool:
    """Return whether loading leaves a key as an application left it."""
    item, there, stamp = one.item, one.there, one.item.get("updatedAt")
    if there and not judge.source.owns(there):
        return False
    if there and stamp and is_newer(there, str(stamp)):
        return True
    # A row that cannot be an item is not a change by the application.
    if one.impossible:
        return False
    if judge.after_cutover:
        return changed_by_application(ours, item, there or None)
    # Without times, only what runs wrote shows an edit.
    return (
        bool(there) and not has_readable_stamps(there) and is_edited(ours, item, there)
    )


def _kind_of_edit(one: Differing, judge: Judge, *, malformed: bool) -> DifferenceClass:
    if malformed or _is_of_another_row(one.difference):
        return DifferenceClass.MALFORMED
    if judge.after_cutover or judge.source.updated is None:
        return DifferenceClass.NEWER_IN_TARGET
    # Texts can be compared, since valid times have one format.
    later = str(one.there["updatedAt"]) > str(one.item["updatedAt"])
    return DifferenceClass.NEWER_IN_TARGET if later else DifferenceClass.MISMATCHED


def _is_of_another_row(difference: Difference) -> bool:
    """Return whether an item names another row as its source."""
    fields = difference.fields
    return any(
        fields[name]["target"] is not None
        for name in PROVENANCE_ATTRIBUTES
        if name in fields
    )


def judge_unmatched(
    table: EnterpriseTable, keys: Sequence[Key], judge: Judge
) -> tuple[list[Difference], int]:
    """Read items without a row again, and determine the origin of each.

    An item that no run wrote belongs to the application; after the cutover it is no
    difference if it is valid. The history also has the row that an item came from: if
    it exists, its item has moved to another key. An item of a row in quarantine is no
    difference, whatever key the row has now; the number of these is returned as well.
    """
    found = list(read_unmatched(table, keys, judge))
    ours = judge.read_history({d.id for d in found})
    sources = {identity: one.source_id for identity, one in ours.items()}
    left = [d for d in found if sources.get(d.id) not in judge.quarantined]
    moved = judge.find_moved(ours)
    judged = [_with_origin(d, ours.get(d.id), moved, judge) for d in left]
    return judged, len(found) - len(left)


def read_unmatched(
    table: EnterpriseTable, keys: Sequence[Key], judge: Judge
) -> Iterator[Difference]:
    """Yield the items that are still at these keys, as extra or malformed."""
    source = judge.source
    for start in range(0, len(keys), READ_KEYS):
        chunk = table.read(keys[start : start + READ_KEYS])
        there = [item for item in chunk.values() if source.owns(item)]
        for item, malformed in zip(there, judge.find_broken(there), strict=True):
            kind = DifferenceClass.MALFORMED if malformed else DifferenceClass.EXTRA
            identity = _identify(item, source)
            fields = _describe(item, identity, source)
            yield Difference(
                kind, None, identity, fields, entity=source.entity, key=key_of(item)
            )


def _with_origin(
    difference: Difference, ours: LastWrite | None, moved: set[str], judge: Judge
) -> Difference:
    if judge.history is None:
        return difference
    if ours is not None:
        origin = MOVED if ours.source_id in moved else "deleted_in_source"
        return replace(difference, origin=origin, source_id=ours.source_id)
    created = judge.after_cutover and difference.kind == DifferenceClass.EXTRA
    kind = DifferenceClass.CREATED_IN_TARGET if created else difference.kind
    return replace(difference, kind=kind, origin="created_by_application")


def _identify(item: Item, source: SourceTable) -> str:
    """Return the id that an item's key has; else that of its attribute, or the key."""
    keys = key_of(item)
    for template, key in zip(
        (source.partition_key, source.sort_key), keys, strict=True
    ):
        if template.names == ("id",):
            before, *after = (constant for constant, _ in template.pieces)
            return key.removeprefix(before).removesuffix("".join(after))
    identity = item.get("id")
    return identity if isinstance(identity, str) else " ".join(keys)


def _describe(
    item: Item, identity: str, source: SourceTable
) -> dict[str, dict[str, Attribute | None]]:
    """Return the name of an item without a row, and its id if its key differs."""
    names = source.name_field.attributes if source.name_field else ()
    found = [item[name] for name in names if name in item]
    # The last attribute of a name is the one that an application shows.
    described = {"name": found[-1] if found else None}
    if not source.has_keys_of_ids:
        described |= dict(zip(("PK", "SK"), key_of(item), strict=True))
    if item.get("id") != identity:
        described["id"] = item.get("id")
    return {
        name: {"source": None, "target": value}
        for name, value in described.items()
        if value is not None
    }
