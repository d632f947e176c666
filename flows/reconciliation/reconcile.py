"""Rows against items, field by field: the proof."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

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
from flows.reconciliation.expected_items import Derivation, copy_rows
from flows.reconciliation.report import ReconciliationReport
from flows.stores.dynamodb.table import READ_KEYS, EnterpriseTable

# Returns, for items in a frame, whether each is no valid one.
BreaksSuite: TypeAlias = Callable[[pd.DataFrame], Sequence[bool]]
JUDGED_ROWS = 10_000


@dataclass(frozen=True)
class _Differing:
    """The item of a row, what is *there* at its key, and how the two differ."""

    item: Item
    there: Item
    difference: Difference


def reconcile_enterprises(  # noqa: PLR0913 - each is a question of its own
    connection: Connection,
    table: EnterpriseTable,
    derivation: Derivation,
    *,
    quarantined: frozenset[str] = frozenset(),
    breaks_suite: BreaksSuite | None = None,
    known: WriteHistory | None = None,
    manifests: WriteHistory | None = None,
    since: str | None = None,
    sample: int | None = None,
    ids: Sequence[str] | None = None,
) -> ReconciliationReport:
    """Compare every row with every enterprise item, in both directions.

    The table is scanned whole, strongly consistent; what seems different is read once
    more before it is reported. *quarantined* are the source ids that are explained by
    the quarantine; *breaks_suite* says which items are not valid.

    After the cutover *known* says how earlier runs left some items: a valid item that
    is otherwise now is the application's own right. *manifests* says it at any time,
    for items without a row and for those whose time cannot be read. With *since*, only
    the rows stamped since then are compared, with the items of the same keys; with
    *ids*, only these rows; with *sample*, only that many of them, at random.
    """
    seen = Seen()
    total: Counter[str] = Counter()
    differing: list[_Differing] = []
    some = not (since is None and sample is None and ids is None)
    if some:
        chosen = {"since": since, "sample": sample, "ids": ids}
        parts = _some_rows(connection, table, derivation, quarantined, chosen)
    else:
        parts = compare_sides(connection, table, derivation, quarantined, seen)
    unmatched: list[str] = []
    for part in parts:
        total.update(_counts(part))
        unmatched += part.unmatched
        for one in _settle(table, derivation, part.doubtful):
            if one.difference.kind == "matched":
                total["matched"] += 1
            else:
                differing.append(one)
    found = _judge_edits(differing, breaks_suite, known, manifests)
    found += _unmatched(table, unmatched, breaks_suite)
    if known is not None:
        found = _created_in_target(found, known)
    if manifests is not None:
        found = _with_origins(found, manifests)
    classes = Counter(d.kind for d in found) + total
    counts = {name: classes[name] for name in CLASSES}
    target_items = total["items"]
    if some:
        target_items = total["rows"] - counts["missing"] - counts["deleted_in_target"]
        target_items -= total["explained"] - total["explained_with_item"]
    return ReconciliationReport(
        total["rows"],
        target_items,
        counts,
        tuple(found),
        explained_with_item=total["explained_with_item"],
        source=derivation.source,
        other_items=seen.others,
        days={**seen.days, "differences": _days_of(found, differing)},
        sample=sample,
        mode="full" if not some else "partial" if sample is None else "sampled",
    )


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
    derivation: Derivation,
    quarantined: frozenset[str],
    chosen: dict[str, Any],
) -> Iterator[Compared]:
    """Take some rows for doubtful: each is looked up."""
    tables: list[pa.Table] = []
    copy_rows(connection, derivation.source, tables.append, **chosen)
    for part in tables:
        rows = [row for row in as_rows(part) if row[0] not in quarantined]
        excused = [row for row in as_rows(part) if row[0] in quarantined]
        left = _with_item(table, [str(derivation.item(row)["PK"]) for row in excused])
        yield Compared(len(part), 0, 0, len(excused), left, rows, [])


def _with_item(table: EnterpriseTable, keys: Sequence[str]) -> int:
    """Return how many of these keys, some of them twice, have an enterprise."""
    there = table.read(sorted(set(keys)))
    found = {key for key, item in there.items() if is_enterprise(item)}
    return sum(key in found for key in keys)


def _settle(
    table: EnterpriseTable,
    derivation: Derivation,
    doubtful: Sequence[Sequence[str | None]],
) -> Iterator[_Differing]:
    for start in range(0, len(doubtful), READ_KEYS):
        chunk = doubtful[start : start + READ_KEYS]
        items = [derivation.item(row) for row in chunk]
        there = table.read(list({str(item["PK"]) for item in items}))
        for row, item in zip(chunk, items, strict=True):
            found = there.get(str(item["PK"]), {})
            own = {name: found[name] for name in item if name in found}
            difference = _compare(str(row[0]), item, own)
            if difference.kind == "matched" and item["id"] in derivation.shared:
                # One item is not two rows, though it is equal to both.
                both: dict[str, Attribute | None]
                both = {"source": row[0], "target": item["id"]}
                difference = replace(difference, kind="mismatched", fields={"id": both})
            yield _Differing(item, own, difference)


def _compare(source_id: str, item: Item, there: Item) -> Difference:
    if not there:
        return Difference("missing", source_id, str(item["id"]))
    fields = {
        name: {"source": value, "target": there.get(name)}
        for name, value in item.items()
        if value is None or not same_value(there.get(name), value)
    }
    kind = "mismatched" if fields else "matched"
    return Difference(kind, source_id, str(item["id"]), fields)


def _judge_edits(
    differing: Sequence[_Differing],
    breaks_suite: BreaksSuite | None,
    known: WriteHistory | None,
    manifests: WriteHistory | None,
) -> list[Difference]:
    """Separate what an application did, in its own right, from what is wrong.

    An item that loading leaves to the application is newer only if it is valid, and
    malformed otherwise. After the cutover (*known*) one may be gone, too.
    """
    ours = _traces(differing, known, manifests)
    cutover = known is not None
    theirs = [one for one in differing if _is_left_alone(one, ours, cutover=cutover)]
    edited = [one for one in theirs if one.there]
    broken = _find_broken([one.there for one in edited], breaks_suite)
    kinds = {one.difference.source_id: "deleted_in_target" for one in theirs}
    kinds |= {
        one.difference.source_id: _kind_of_edit(one, malformed, cutover=cutover)
        for one, malformed in zip(edited, broken, strict=True)
    }
    found = [one.difference for one in differing]
    return [replace(d, kind=kinds.get(d.source_id, d.kind)) for d in found]


def _traces(
    differing: Sequence[_Differing],
    known: WriteHistory | None,
    manifests: WriteHistory | None,
) -> Mapping[str, LastWrite]:
    """Return what earlier runs left of the items on which it depends whose they are."""
    if known is not None:
        return known({one.difference.id for one in differing})
    unreadable = {
        one.difference.id for one in differing if not has_readable_stamps(one.there)
    }
    return manifests(unreadable) if manifests and unreadable else {}


def _is_left_alone(
    one: _Differing, ours: Mapping[str, LastWrite], *, cutover: bool
) -> bool:
    """Return whether loading leaves a key as an application made it."""
    item, there, stamp = one.item, one.there, one.item["updatedAt"]
    if there and not is_enterprise(there):
        return False
    if there and stamp and is_newer(there, str(stamp)):
        return True
    # A row that can be no item is nothing that the application did.
    if None in item.values():
        return False
    if cutover:
        return changed_by_application(ours, item, there or None)
    return (
        bool(there) and not has_readable_stamps(there) and is_edited(ours, item, there)
    )


def _kind_of_edit(one: _Differing, malformed: bool, *, cutover: bool) -> str:  # noqa: FBT001
    if malformed or _is_of_another_row(one.difference):
        return "malformed"
    # By text alone: valid times have one form.
    later = str(one.there["updatedAt"]) > str(one.item["updatedAt"])
    return "newer_in_target" if later or cutover else "mismatched"


def _find_broken(
    items: Sequence[Item], breaks_suite: BreaksSuite | None
) -> Iterator[bool]:
    """Yield for each item whether it is no valid one."""
    for start in range(0, len(items), JUDGED_ROWS):
        chunk = items[start : start + JUDGED_ROWS]
        rows = [[item.get(name) for name in ITEM_ATTRIBUTES] for item in chunk]
        frame = pd.DataFrame(rows, columns=list(ITEM_ATTRIBUTES), dtype=object)
        yield from breaks_suite(frame) if breaks_suite else [False] * len(chunk)


def _is_of_another_row(difference: Difference) -> bool:
    """Return whether an item says that it came from another row than its own."""
    fields = difference.fields
    return any(
        fields[name]["target"] is not None
        for name in PROVENANCE_ATTRIBUTES
        if name in fields
    )


def _created_in_target(
    found: Sequence[Difference], known: WriteHistory
) -> list[Difference]:
    """Take valid items that no run of ours brought for the application's own."""
    ours = known({d.id for d in found if d.kind == "extra"})
    return [
        replace(d, kind="created_in_target")
        if d.kind == "extra" and d.id not in ours
        else d
        for d in found
    ]


def _with_origins(
    found: Sequence[Difference], manifests: WriteHistory
) -> list[Difference]:
    """Separate items whose row was deleted from those that the application created.

    The manifests also know the row that an item came from.
    """
    alone = {d.id for d in found if d.source_id is None}
    ours = manifests(alone) if alone else {}
    return [
        replace(d, origin="deleted_in_source", source_id=ours[d.id].source_id)
        if d.source_id is None and d.id in ours
        else replace(d, origin="created_by_application" if d.source_id is None else "")
        for d in found
    ]


def _unmatched(
    table: EnterpriseTable, keys: Sequence[str], breaks_suite: BreaksSuite | None
) -> Iterator[Difference]:
    for start in range(0, len(keys), READ_KEYS):
        chunk = table.read(keys[start : start + READ_KEYS])
        there = [item for item in chunk.values() if is_enterprise(item)]
        broken = _find_broken(there, breaks_suite)
        for item, malformed in zip(there, broken, strict=True):
            kind = "malformed" if malformed else "extra"
            identity = str(item["PK"]).removeprefix(KEY_PREFIX)
            yield Difference(kind, None, identity, _describe(item, identity))


def _describe(item: Item, identity: str) -> dict[str, dict[str, Attribute | None]]:
    """Return what names an item without a row, and its id if its key has another."""
    named = {"name": item.get("name", item.get("enterprise_name"))}
    if item.get("id") != identity:
        named["id"] = item.get("id")
    return {
        name: {"source": None, "target": value}
        for name, value in named.items()
        if value is not None
    }
