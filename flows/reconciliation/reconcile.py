"""The proof: rows are compared with items, field by field."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import pyarrow as pa
from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.models import (
    CLASSES,
    ITEM_ATTRIBUTES,
    KEY_PREFIX,
    PROVENANCE_ATTRIBUTES,
    Attribute,
    Difference,
    DifferenceClass,
    Item,
    LastWrite,
    WriteHistory,
    changed_by_application,
    is_edited,
    is_enterprise,
    same_value,
)
from flows.models.stamps import has_readable_stamps, is_newer
from flows.reconciliation.compare import Compared, Seen, as_rows, compare_sides
from flows.reconciliation.expected_items import (
    ALL_ROWS,
    ExpectedItems,
    Selection,
    copy_rows,
)
from flows.reconciliation.report import ReconciliationReport
from flows.stores.dynamodb.table import READ_KEYS, EnterpriseTable
from flows.timing import Progress

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

    def find_broken(self, items: Sequence[Item]) -> Iterator[bool]:
        """Yield for each item whether it is invalid."""
        for start in range(0, len(items), JUDGED_ROWS):
            chunk = items[start : start + JUDGED_ROWS]
            rows = [[item.get(name) for name in ITEM_ATTRIBUTES] for item in chunk]
            frame = pd.DataFrame(rows, columns=list(ITEM_ATTRIBUTES), dtype=object)
            broken = self.breaks_suite
            yield from broken(frame) if broken else [False] * len(chunk)

    def read_history(self, ids: set[str]) -> Mapping[str, LastWrite]:
        """Return the last writes of runs to some items, as far as they are known."""
        return self.history(ids) if self.history and ids else {}


ANY_ITEM = Judge()


@dataclass(frozen=True)
class _Differing:
    """The item of a row, the item that is *there*, and their difference."""

    item: Item
    there: Item
    difference: Difference


def reconcile_enterprises(  # noqa: PLR0913 - each is independent
    connection: Connection,
    table: EnterpriseTable,
    expected_items: ExpectedItems,
    *,
    judge: Judge = ANY_ITEM,
    selection: Selection = ALL_ROWS,
    progress: Progress | None = None,
) -> ReconciliationReport:
    """Compare every row with every enterprise item, in both directions.

    The whole table is scanned with strongly consistent reads. Apparent differences are
    read again before they are reported. For a *selection* of rows, only the items with
    the same keys are compared.

    The *judge* decides what counts as a difference. Its history shows whether a run or
    the application wrote an item without a row, and whether an item with unreadable
    times was edited. After the cutover the application may change any item, and a valid
    item is no difference. *progress* is kept up to date.
    """
    seen = Seen(progress or Progress())
    total: Counter[str] = Counter()
    differing: list[_Differing] = []
    unmatched: list[str] = []
    if selection.mode == "full":
        known = judge.quarantined
        parts = compare_sides(connection, table, expected_items, known, seen)
    else:
        seen.progress.begin("comparing")
        parts = _some_rows(
            connection, table, expected_items, judge.quarantined, selection
        )
    for part in parts:
        seen.progress.advance(part.rows)
        total.update(_counts(part))
        unmatched += part.unmatched
        for one in _read_again(table, expected_items, part.doubtful):
            if one.difference.kind == DifferenceClass.MATCHED:
                total["matched"] += 1
            else:
                differing.append(one)
    found = _judge_edits(differing, judge)
    found += _judge_unmatched(table, unmatched, judge)
    classes = Counter(d.kind for d in found) + total
    counts = {name: classes[name] for name in CLASSES}
    return ReconciliationReport(
        total["rows"],
        _count_items(selection, total, counts),
        counts,
        tuple(found),
        explained_with_item=total["explained_with_item"],
        source=expected_items.source,
        other_items=seen.others,
        days={**seen.days, "differences": _days_of(found, differing)},
        sample=selection.sample,
        mode=selection.mode,
    )


def _count_items(
    selection: Selection, total: Mapping[str, int], counts: Mapping[str, int]
) -> int:
    """Return how many enterprises the target has; for a selection, at its keys."""
    if selection.mode == "full":
        return total["items"]
    without = counts["missing"] + counts["deleted_in_target"]
    return total["rows"] - without - total["explained"] + total["explained_with_item"]


def _days_of(
    found: Sequence[Difference], differing: Sequence[_Differing]
) -> dict[str, Counter[str]]:
    """Count the differences of rows by class and the day of the row's last change."""
    days: dict[str, Counter[str]] = {}
    for difference, one in zip(found, differing, strict=False):
        if stamp := one.item["updatedAt"]:
            days.setdefault(difference.kind, Counter())[str(stamp)[:10]] += 1
    return days


def _counts(part: Compared) -> dict[str, int]:
    names = ("rows", "items", "matched", "explained", "explained_with_item")
    return {name: getattr(part, name) for name in names}


def _some_rows(
    connection: Connection,
    table: EnterpriseTable,
    expected_items: ExpectedItems,
    quarantined: frozenset[str],
    selection: Selection,
) -> Iterator[Compared]:
    """Yield some rows as doubtful, so that each is looked up."""
    tables: list[pa.Table] = []
    copy_rows(connection, expected_items.source, tables.append, selection)
    for part in tables:
        rows = [row for row in as_rows(part) if row[0] not in quarantined]
        excused = [row for row in as_rows(part) if row[0] in quarantined]
        left = _with_item(
            table, [str(expected_items.item(row)["PK"]) for row in excused]
        )
        yield Compared(len(part), 0, 0, len(excused), left, rows, [])


def _with_item(table: EnterpriseTable, keys: Sequence[str]) -> int:
    """Return how many of these keys, including duplicates, have an enterprise."""
    there = table.read(sorted(set(keys)))
    found = {key for key, item in there.items() if is_enterprise(item)}
    return sum(key in found for key in keys)


def _read_again(
    table: EnterpriseTable,
    expected_items: ExpectedItems,
    doubtful: Sequence[Sequence[str | None]],
) -> Iterator[_Differing]:
    for start in range(0, len(doubtful), READ_KEYS):
        chunk = doubtful[start : start + READ_KEYS]
        items = [expected_items.item(row) for row in chunk]
        there = table.read(list({str(item["PK"]) for item in items}))
        for row, item in zip(chunk, items, strict=True):
            found = there.get(str(item["PK"]), {})
            own = {name: found[name] for name in item if name in found}
            difference = _compare(str(row[0]), item, own)
            if (
                difference.kind == DifferenceClass.MATCHED
                and item["id"] in expected_items.shared
            ):
                # One item cannot stand for two rows, even if it equals both.
                both: dict[str, Attribute | None]
                both = {"source": row[0], "target": item["id"]}
                difference = replace(
                    difference, kind=DifferenceClass.MISMATCHED, fields={"id": both}
                )
            yield _Differing(item, own, difference)


def _compare(source_id: str, item: Item, there: Item) -> Difference:
    if not there:
        return Difference(DifferenceClass.MISSING, source_id, str(item["id"]))
    fields = {
        name: {"source": value, "target": there.get(name)}
        for name, value in item.items()
        if value is None or not same_value(there.get(name), value)
    }
    kind = DifferenceClass.MISMATCHED if fields else DifferenceClass.MATCHED
    return Difference(kind, source_id, str(item["id"]), fields)


def _judge_edits(differing: Sequence[_Differing], judge: Judge) -> list[Difference]:
    """Separate legitimate changes by an application from errors.

    An item that loading leaves to the application is newer only if it is valid, and
    malformed otherwise. After the cutover the application may also have deleted it.
    """
    cutover = judge.after_cutover
    ours = judge.read_history(
        {
            one.difference.id
            for one in differing
            if cutover or not has_readable_stamps(one.there)
        }
    )
    theirs = [one for one in differing if _is_left_alone(one, ours, cutover=cutover)]
    edited = [one for one in theirs if one.there]
    broken = judge.find_broken([one.there for one in edited])
    kinds = {
        one.difference.source_id: DifferenceClass.DELETED_IN_TARGET for one in theirs
    }
    kinds |= {
        one.difference.source_id: _kind_of_edit(
            one, malformed=malformed, cutover=cutover
        )
        for one, malformed in zip(edited, broken, strict=True)
    }
    found = [one.difference for one in differing]
    return [replace(d, kind=kinds.get(d.source_id, d.kind)) for d in found]


def _is_left_alone(
    one: _Differing, ours: Mapping[str, LastWrite], *, cutover: bool
) -> bool:
    """Return whether loading leaves a key as an application left it."""
    item, there, stamp = one.item, one.there, one.item["updatedAt"]
    if there and not is_enterprise(there):
        return False
    if there and stamp and is_newer(there, str(stamp)):
        return True
    # A row that cannot be an item is not a change by the application.
    if None in item.values():
        return False
    if cutover:
        return changed_by_application(ours, item, there or None)
    return (
        bool(there) and not has_readable_stamps(there) and is_edited(ours, item, there)
    )


def _kind_of_edit(
    one: _Differing, *, malformed: bool, cutover: bool
) -> DifferenceClass:
    if malformed or _is_of_another_row(one.difference):
        return DifferenceClass.MALFORMED
    # Texts can be compared, since valid times have one format.
    later = str(one.there["updatedAt"]) > str(one.item["updatedAt"])
    return (
        DifferenceClass.NEWER_IN_TARGET
        if later or cutover
        else DifferenceClass.MISMATCHED
    )


def _is_of_another_row(difference: Difference) -> bool:
    """Return whether an item names another row as its source."""
    fields = difference.fields
    return any(
        fields[name]["target"] is not None
        for name in PROVENANCE_ATTRIBUTES
        if name in fields
    )


def _judge_unmatched(
    table: EnterpriseTable, keys: Sequence[str], judge: Judge
) -> list[Difference]:
    """Read items without a row again, and determine the origin of each.

    An item that no run wrote belongs to the application; after the cutover it is no
    difference if it is valid. The history also has the row that an item came from.
    """
    found = list(_unmatched(table, keys, judge))
    ours = judge.read_history({d.id for d in found})
    return [_with_origin(d, ours.get(d.id), judge) for d in found]


def _unmatched(
    table: EnterpriseTable, keys: Sequence[str], judge: Judge
) -> Iterator[Difference]:
    for start in range(0, len(keys), READ_KEYS):
        chunk = table.read(keys[start : start + READ_KEYS])
        there = [item for item in chunk.values() if is_enterprise(item)]
        for item, malformed in zip(there, judge.find_broken(there), strict=True):
            kind = DifferenceClass.MALFORMED if malformed else DifferenceClass.EXTRA
            identity = str(item["PK"]).removeprefix(KEY_PREFIX)
            yield Difference(kind, None, identity, _describe(item, identity))


def _with_origin(
    difference: Difference, ours: LastWrite | None, judge: Judge
) -> Difference:
    if judge.history is None:
        return difference
    if ours is not None:
        origin = "deleted_in_source"
        return replace(difference, origin=origin, source_id=ours.source_id)
    created = judge.after_cutover and difference.kind == DifferenceClass.EXTRA
    kind = DifferenceClass.CREATED_IN_TARGET if created else difference.kind
    return replace(difference, kind=kind, origin="created_by_application")


def _describe(item: Item, identity: str) -> dict[str, dict[str, Attribute | None]]:
    """Return the name of an item without a row, and its id if its key differs."""
    named = {"name": item.get("name", item.get("enterprise_name"))}
    if item.get("id") != identity:
        named["id"] = item.get("id")
    return {
        name: {"source": None, "target": value}
        for name, value in named.items()
        if value is not None
    }
