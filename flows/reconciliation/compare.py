"""Match all rows and items by key and digest; ``reconcile`` classifies the rest."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import pyarrow as pa
import pyarrow.compute as pc
from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.disk_space import needing_room
from flows.models import ENTITY_TYPE, KEY_PREFIX, SORT_KEY
from flows.models.digests import DIGEST, Texts, digest_texts
from flows.reconciliation.expected_items import (
    COLUMNS,
    DERIVED,
    KEY,
    ExpectedItems,
    copy_rows,
)
from flows.reconciliation.spill import Buckets, pair
from flows.stores.dynamodb.parallel_scan import scan_segments
from flows.stores.dynamodb.table import OWN_PARTITION, EnterpriseTable
from flows.timing import Progress

SEGMENTS = 4
DIGESTED = pa.schema([("key", KEY), ("digest", DIGEST)])
TAGS = {"migrated_from_pg": "b", "original_pg_id": "i"}
KIND_LENGTH = 32
MAKE_ROOM = "Make room there, or set TMPDIR to another disk; then try again."
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass
class Seen:
    """Counts of the comparison: other kinds of item, and times by day and side."""

    progress: Progress = field(default_factory=Progress)
    others: Counter[str] = field(default_factory=Counter)
    days: dict[str, dict[str, Counter[str]]] = field(default_factory=dict)

    def count_days(self, side: str, **columns: pa.ChunkedArray) -> None:
        """Count the days in columns of times on one side."""
        for name, column in columns.items():
            sides = {"source": Counter[str](), "target": Counter[str]()}
            counts = self.days.setdefault(name, sides)[side]
            days = pc.value_counts(pc.utf8_slice_codeunits(column, 0, 10))
            found = (days.field(i).to_pylist() for i in range(2))
            for day, count in zip(*found, strict=True):
                if day in counts or _DAY.fullmatch(day or ""):
                    counts[day] += count


@dataclass(frozen=True)
class Compared:
    """A part of both sides: what agrees, and what must be examined.

    ``explained_with_item`` counts the explained rows that have an item, whatever its
    values. ``doubtful`` has rows as id, name and both times. ``unmatched`` has the
    partition keys of items without a row.
    """

    rows: int
    items: int
    matched: int
    explained: int
    explained_with_item: int
    doubtful: list[tuple[str | None, ...]]
    unmatched: list[str]


def compare_sides(
    connection: Connection,
    table: EnterpriseTable,
    expected_items: ExpectedItems,
    quarantined: frozenset[str],
    seen: Seen,
) -> Iterator[Compared]:
    """Compare every row with every enterprise item, in parts of similar size.

    The whole table is scanned first. *seen* counts during the comparison.

    Raises:
        Incomplete: there is no disk space for the data that does not fit in memory.
    """

    def take(part: pa.Table) -> None:
        seen.count_days("source", created=part["created"], updated=part["updated"])
        rows.add(expected_items.derive(part))
        progress.advance(len(part))

    progress = seen.progress
    temporary = Path(gettempdir())
    with (
        needing_room("The compared data", temporary, MAKE_ROOM),
        TemporaryDirectory(prefix="reconcile-") as name,
        Buckets(Path(name), "rows", DERIVED) as rows,
        Buckets(Path(name), "items", DIGESTED) as items,
    ):
        progress.begin("reading the table", progress.rows)
        for page in scan_segments(table, expected_items.attributes, SEGMENTS):
            items.add(digest_page(page, seen))
            progress.advance(len(page))
        progress.begin("reading the source", progress.rows)
        copy_rows(connection, expected_items.source, take)
        explained = pa.array(sorted(quarantined), pa.large_string())
        progress.begin("comparing", progress.done)
        for some_rows, some_items in pair(rows, items):
            yield compare_part(some_rows, some_items, explained)


def digest_page(page: pa.Table, seen: Seen) -> pa.Table:
    """Return keys and digests of a page's enterprises; count its other items."""
    ours = pc.and_(
        pc.starts_with(page["PK"], KEY_PREFIX), pc.equal(page["SK"], SORT_KEY)
    )
    ours = pc.and_(ours, pc.equal(page["entity_type"], ENTITY_TYPE))
    ours = pc.fill_null(ours, fill_value=False)
    _count_others(page.filter(pc.invert(ours)), seen.others)
    found = page.filter(ours).combine_chunks()
    seen.count_days("target", created=found["createdAt"], updated=found["updatedAt"])
    texts = [_as_texts(name, found[name]) for name in found.column_names]
    digests = digest_texts(texts, len(found))
    keys = pc.cast(found["PK"].combine_chunks(), KEY)
    return pa.table([keys, digests], schema=DIGESTED)


def compare_part(rows: pa.Table, items: pa.Table, explained: pa.Array) -> Compared:
    """Compare a part of both sides that has all rows and items of its keys."""
    rows, items = rows.combine_chunks(), items.combine_chunks()
    places = pc.index_in(rows["key"], value_set=items["key"])
    same = pc.equal(rows["digest"], items["digest"].take(places))
    same = pc.fill_null(same, fill_value=False)
    excused = pc.is_in(rows["source_id"], value_set=explained)
    doubtful = rows.filter(pc.invert(pc.or_(same, excused)))
    unmatched = pc.unique(
        items["key"].filter(pc.invert(pc.is_in(items["key"], value_set=rows["key"])))
    )
    count = pc.sum(excused).as_py() or 0
    return Compared(
        rows=len(rows),
        # A store without support for segments may return an item twice.
        items=pc.count_distinct(items["key"]).as_py(),
        matched=len(rows) - count - len(doubtful),
        explained=count,
        explained_with_item=pc.sum(pc.and_(excused, pc.is_valid(places))).as_py() or 0,
        doubtful=as_rows(doubtful),
        unmatched=[k.decode("utf-8", "surrogatepass") for k in unmatched.to_pylist()],
    )


def as_rows(table: pa.Table) -> list[tuple[str | None, ...]]:
    """Return rows as id, name and both times."""
    columns = (table[name].to_pylist() for name in COLUMNS)
    return list(zip(*columns, strict=True))


def _as_texts(name: str, column: pa.ChunkedArray) -> Texts:
    values = column.combine_chunks()
    if values.type == pa.bool_():
        values = pc.if_else(values, "True", "False")
    return TAGS.get(name, "s"), values


def _count_others(page: pa.Table, others: Counter[str]) -> None:
    keys = zip(_decoded(page["PK"]), _decoded(page["SK"]), strict=True)
    for partition, order in keys:
        if partition != OWN_PARTITION:
            others[f"{_kind(partition)} / {_kind(order)}"] += 1


def _decoded(column: pa.ChunkedArray) -> list[str]:
    """Return keys as texts, including those with half of a surrogate pair."""
    keys = pc.cast(column, KEY).to_pylist()
    return [(key or b"").decode("utf-8", "surrogatepass") for key in keys]


def _kind(key: str) -> str:
    """Return a printable prefix of a key, up to and including its first ``#``."""
    head, sign, _ = key.partition("#")
    kind = (head + sign)[:KIND_LENGTH]
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in kind)
