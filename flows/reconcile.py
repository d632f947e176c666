"""Rows against items, field by field: the proof."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import pandas as pd
import pyarrow as pa
from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.compare import Compared, Seen, as_rows, compare_sides
from flows.derivation import Derivation, copy_rows
from flows.models import (
    ITEM_ATTRIBUTES,
    Difference,
    Item,
    Trace,
    is_enterprise,
    is_newer,
    is_theirs,
    same_value,
)
from flows.stores.dynamodb import READ_KEYS, EnterpriseTable
from flows.verdict import CLASSES, DIFFERENT, ReconciliationReport

# Returns, for some ids, what earlier runs left of their items.
Known: TypeAlias = Callable[[set[str]], Mapping[str, Trace]]


def reconcile_enterprises(  # noqa: PLR0913 - each is a question of its own
    connection: Connection,
    table: EnterpriseTable,
    derivation: Derivation,
    *,
    quarantined: frozenset[str] = frozenset(),
    breaks_suite: Callable[[pd.DataFrame], Sequence[bool]] | None = None,
    known: Known | None = None,
    manifests: Known | None = None,
    since: str | None = None,
    sample: int | None = None,
    ids: Sequence[str] | None = None,
) -> ReconciliationReport:
    """Compare every row with every enterprise item, in both directions.

    The table is scanned whole, strongly consistent; what seems different is read once
    more before it is reported. *quarantined* are the source ids that are explained by
    the quarantine; *breaks_suite* tells which items without a row are malformed.

    After the cutover *known* says how earlier runs left some items: what is otherwise
    now is the application's own right. With *since*, only the rows stamped since then
    are compared, with the items of the same keys; with *ids*, so are only these
    rows, and with *sample* so many of them, by chance. *manifests* tells likewise where
    items without a row come from.
    """
    seen = Seen()
    total: Counter[str] = Counter()
    found: list[Difference] = []
    rows: dict[str, Item] = {}
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
        for item, difference in _settle(table, derivation, part.doubtful):
            total["matched"] += difference.kind == "matched"
            if difference.kind != "matched":
                found.append(difference)
                rows[str(difference.source_id)] = item
    found += _unmatched(table, unmatched, breaks_suite)
    if known is not None:
        found = _after_cutover(found, table, rows, known)
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
        days={**seen.days, "differences": _days_of(found, rows)},
        sample=sample,
        mode="full" if not some else "partial" if sample is None else "sampled",
    )


def _days_of(
    found: Sequence[Difference], rows: Mapping[str, Item]
) -> dict[str, Counter[str]]:
    """Count the differences of rows by class and the day of the row's last change."""
    days: dict[str, Counter[str]] = {}
    for difference in found:
        stamp = rows.get(str(difference.source_id), {}).get("updatedAt")
        if stamp:
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
    asked, found = sorted(set(keys)), set()
    for start in range(0, len(asked), READ_KEYS):
        there = table.read(asked[start : start + READ_KEYS])
        found |= {key for key, item in there.items() if is_enterprise(item)}
    return sum(key in found for key in keys)


def _settle(
    table: EnterpriseTable,
    derivation: Derivation,
    doubtful: Sequence[Sequence[str | None]],
) -> Iterator[tuple[Item, Difference]]:
    for start in range(0, len(doubtful), READ_KEYS):
        chunk = doubtful[start : start + READ_KEYS]
        items = [derivation.item(row) for row in chunk]
        there = table.read(list({str(item["PK"]) for item in items}))
        for row, item in zip(chunk, items, strict=True):
            yield item, _compare(str(row[0]), item, there.get(str(item["PK"])))


def _compare(source_id: str, item: Item, there: Item | None) -> Difference:
    if there is None:
        return Difference("missing", source_id, str(item["id"]))
    fields = {
        name: {"source": value, "target": there.get(name)}
        for name, value in item.items()
        if value is None or not same_value(there.get(name), value)
    }
    kind = "mismatched" if fields else "matched"
    stamp = item["updatedAt"]
    if fields and stamp and is_enterprise(there) and is_newer(there, str(stamp)):
        kind = "newer_in_target"
    return Difference(kind, source_id, str(item["id"]), fields)


def _after_cutover(
    differences: Sequence[Difference],
    table: EnterpriseTable,
    rows: Mapping[str, Item],
    known: Known,
) -> list[Difference]:
    """Tell what the application did, in its own right, from what is wrong."""
    wrong = [d for d in differences if d.kind in DIFFERENT]
    ours = known({d.id for d in wrong})
    kinds: dict[int, str] = {}
    for difference in wrong:
        if difference.source_id is None:
            if difference.id not in ours:
                kinds[id(difference)] = "created_in_target"
            continue
        item = rows[difference.source_id]
        there = table.read([str(item["PK"])]).get(str(item["PK"]))
        # A row that can be no item is nothing that the application did.
        if None not in item.values() and is_theirs(ours, item, there):
            gone = there is None
            kinds[id(difference)] = "deleted_in_target" if gone else "newer_in_target"
    return [replace(d, kind=kinds.get(id(d), d.kind)) for d in differences]


def _with_origins(found: Sequence[Difference], manifests: Known) -> list[Difference]:
    """Tell items whose row was deleted from those that the application created."""
    extra = {d.id for d in found if d.kind == "extra"}
    ours = manifests(extra) if extra else {}
    origins = dict.fromkeys(ours, "deleted_in_source")
    return [
        replace(d, origin=origins.get(d.id, "created_by_application"))
        if d.kind == "extra"
        else d
        for d in found
    ]


def _unmatched(
    table: EnterpriseTable,
    keys: Sequence[str],
    breaks_suite: Callable[[pd.DataFrame], Sequence[bool]] | None,
) -> Iterator[Difference]:
    for start in range(0, len(keys), READ_KEYS):
        chunk = table.read(keys[start : start + READ_KEYS])
        there = [item for item in chunk.values() if is_enterprise(item)]
        if not there:
            continue
        rows = [[item.get(name) for name in ITEM_ATTRIBUTES] for item in there]
        frame = pd.DataFrame(rows, columns=list(ITEM_ATTRIBUTES), dtype=object)
        broken = breaks_suite(frame) if breaks_suite else [False] * len(there)
        for item, malformed in zip(there, broken, strict=True):
            kind = "malformed" if malformed else "extra"
            identity = str(item.get("id", str(item["PK"]).removeprefix("ENT#")))
            yield Difference(kind, None, identity)
