"""The proof: rows are compared with items, field by field."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.models import CLASSES, Difference, DifferenceClass, Key
from flows.reconciliation.combine import combine
from flows.reconciliation.compare import (
    Compared,
    Compares,
    Seen,
    as_rows,
    compare_sides,
)
from flows.reconciliation.expected_items import ExpectedItems, key_to_read
from flows.reconciliation.judge import (
    ANY_ITEM,
    Differing,
    Judge,
    judge_edits,
    judge_unmatched,
    read_again,
)
from flows.reconciliation.report import ReconciliationReport
from flows.reconciliation.source_rows import ALL_ROWS, Selection, copy_rows
from flows.stores.dynamodb.table import EnterpriseTable
from flows.timing import Progress

__all__ = ["Compares", "Judge", "reconcile_enterprises", "reconcile_entities"]


def reconcile_enterprises(  # noqa: PLR0913 - each is independent
    connection: Connection,
    table: EnterpriseTable,
    expected_items: ExpectedItems,
    *,
    judge: Judge = ANY_ITEM,
    selection: Selection = ALL_ROWS,
    progress: Progress | None = None,
) -> ReconciliationReport:
    """Compare every row of one entity with every item of it, in both directions.

    ``reconcile_entities`` describes the comparison and its arguments.
    """
    wanted = [Compares(expected_items, judge, selection)]
    return reconcile_entities(connection, table, wanted, progress=progress)


def reconcile_entities(
    connection: Connection,
    table: EnterpriseTable,
    wanted: Sequence[Compares],
    *,
    progress: Progress | None = None,
) -> ReconciliationReport:
    """Compare every row of some entities with every item of theirs, in both directions.

    The whole table is scanned once, with strongly consistent reads. Apparent
    differences are read again before they are reported. For a selection of an entity's
    rows, only the items with the same keys are compared. The report of several entities
    has one of each entity as its parts.

    The entity's judge decides what counts as a difference. Its history shows whether a
    run or the application wrote an item without a row, and whether an item with
    unreadable times, or of an entity without them, was edited. After the cutover the
    application may change any item, and a valid item is no difference. *progress* is
    kept up to date.
    """
    seen = Seen(progress or Progress())
    findings = {one.entity: _Findings(one) for one in wanted}
    for compares, part in _compare(connection, table, wanted, seen):
        seen.progress.advance(part.rows)
        findings[compares.entity].add(part, table)
    return combine({name: one.report(table, seen) for name, one in findings.items()})


def _compare(
    connection: Connection,
    table: EnterpriseTable,
    wanted: Sequence[Compares],
    seen: Seen,
) -> Iterator[tuple[Compares, Compared]]:
    """Yield the parts of each entity; those of whole entities come first."""
    whole = [one for one in wanted if one.selection.mode == "full"]
    if whole:
        yield from compare_sides(connection, table, whole, seen)
    else:
        seen.progress.begin("comparing")
    for one in wanted:
        if one.selection.mode != "full":
            for part in _some_rows(connection, table, one):
                yield one, part


@dataclass
class _Findings:
    """The findings of an entity, as they are collected."""

    compares: Compares
    total: Counter[str] = field(default_factory=Counter)
    differing: list[Differing] = field(default_factory=list)
    unmatched: list[Key] = field(default_factory=list)

    def add(self, part: Compared, table: EnterpriseTable) -> None:
        """Add a part of both sides; its doubtful rows are looked up in the table."""
        self.total.update(_counts(part))
        self.unmatched += part.unmatched
        expected_items = self.compares.expected_items
        for one in read_again(table, expected_items, part.doubtful, part.shared):
            if one.difference.kind == DifferenceClass.MATCHED:
                self.total["matched"] += 1
            else:
                self.differing.append(one)

    def report(self, table: EnterpriseTable, seen: Seen) -> ReconciliationReport:
        """Judge what is not equal, and return the report of the entity."""
        compares, total = self.compares, self.total
        source, selection = compares.source, compares.selection
        judge = replace(compares.judge, source=source)
        found = judge_edits(self.differing, judge)
        unmatched, excused = judge_unmatched(table, self.unmatched, judge)
        found += unmatched
        classes = Counter(d.kind for d in found) + total
        counts = {name: classes[name] for name in CLASSES}
        days = seen.days.get(source.entity, {})
        return ReconciliationReport(
            total["rows"],
            _count_items(selection, total, counts),
            counts,
            tuple(found),
            explained_with_item=total["explained_with_item"] + excused,
            sources=(source,),
            other_items=seen.others,
            days={**days, "differences": _days_of(found, self.differing)},
            sample=selection.sample,
            mode=selection.mode,
        )


def _count_items(
    selection: Selection, total: Mapping[str, int], counts: Mapping[str, int]
) -> int:
    """Return how many items the target has; for a selection, at its keys."""
    if selection.mode == "full":
        return total["items"]
    without = counts["missing"] + counts["deleted_in_target"]
    return total["rows"] - without - total["explained"] + total["explained_with_item"]


def _days_of(
    found: Sequence[Difference], differing: Sequence[Differing]
) -> dict[str, Counter[str]]:
    """Count the differences of rows by class and the day of the row's last change."""
    days: dict[str, Counter[str]] = {}
    for difference, one in zip(found, differing, strict=False):
        if stamp := one.item.get("updatedAt"):
            days.setdefault(difference.kind, Counter())[str(stamp)[:10]] += 1
    return days


def _counts(part: Compared) -> dict[str, int]:
    names = ("rows", "items", "matched", "explained", "explained_with_item")
    return {name: getattr(part, name) for name in names}


def _some_rows(
    connection: Connection, table: EnterpriseTable, compares: Compares
) -> Iterator[Compared]:
    """Yield some rows as doubtful, so that each is looked up."""
    tables: list[pa.Table] = []
    quarantined = compares.judge.quarantined
    copy_rows(connection, compares.source, tables.append, compares.selection)
    for part in tables:
        rows = [row for row in as_rows(part) if row[0] not in quarantined]
        excused = [row for row in as_rows(part) if row[0] in quarantined]
        left = _with_item(table, compares, excused)
        yield Compared(len(part), 0, 0, len(excused), left, rows, [])


def _with_item(
    table: EnterpriseTable,
    compares: Compares,
    rows: Sequence[tuple[str | None, ...]],
) -> int:
    """Return how many of these rows, including duplicates, have an item."""
    items = (compares.expected_items.item(row)[0] for row in rows)
    keys = [key for item in items if (key := key_to_read(item))]
    there = table.read(sorted(set(keys)))
    found = {key for key, item in there.items() if compares.source.owns(item)}
    return sum(key in found for key in keys)
