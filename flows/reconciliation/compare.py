"""Match all rows and items by key and digest; ``reconcile`` classifies the rest."""

import gc
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.disk_space import needing_room
from flows.mapping.model import CREATED, TIMES, UPDATED
from flows.mapping.template import Template
from flows.models import Key, Letter, SourceTable
from flows.models.digests import DIGEST, Texts, digest_texts
from flows.reconciliation.expected_columns import TAGS
from flows.reconciliation.expected_items import ExpectedItems
from flows.reconciliation.joined_keys import KEY, NO_KEY
from flows.reconciliation.judge import ANY_ITEM, Judge
from flows.reconciliation.source_rows import ALL_ROWS, Selection, copy_rows
from flows.reconciliation.spill import Buckets, pair
from flows.stores.dynamodb.parallel_scan import scan_segments
from flows.stores.dynamodb.table import OWN_PARTITION, EnterpriseTable
from flows.timing import Progress

SEGMENTS = 4
DIGESTED = pa.schema([("key", KEY), ("digest", DIGEST)])
KIND_LENGTH = 32
# More than the objects of a page of the most items.
CREATED_OBJECTS = 1_000_000
MAKE_ROOM = "Make room there, or set TMPDIR to another disk; then try again."
# The names of both times in reports.
MOMENTS = {CREATED: "created", UPDATED: "updated"}
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

# Counts by event, then by side, then by day.
DayCounts: TypeAlias = dict[str, dict[str, Counter[str]]]


@dataclass(frozen=True)
class Compares:
    """An entity to compare: the items that its rows must have, and how to judge."""

    expected_items: ExpectedItems
    judge: Judge = ANY_ITEM
    selection: Selection = ALL_ROWS

    @property
    def source(self) -> SourceTable:
        """Return the source of the entity."""
        return self.expected_items.source

    @property
    def entity(self) -> str:
        """Return the entity's name."""
        return self.source.entity

    @property
    def has_unique_keys(self) -> bool:
        """Return whether no two rows can have one key; texts may spell one UUID."""
        return self.source.has_unique_keys and self.source.id_kind != "text"


@dataclass
class Seen:
    """Counts of the comparison: other kinds of item, and times by day and side."""

    progress: Progress = field(default_factory=Progress)
    others: Counter[str] = field(default_factory=Counter)
    # By entity.
    days: dict[str, DayCounts] = field(default_factory=dict)

    def count_days(self, source: SourceTable, side: str, table: pa.Table) -> None:
        """Count the days in the times of rows or items, those that the source has."""
        days = self.days.setdefault(source.entity, {})
        for moment in source.moments:
            column = table[TIMES[moment.name][1] if side == "target" else moment.name]
            sides = {"source": Counter[str](), "target": Counter[str]()}
            counts = days.setdefault(MOMENTS[moment.name], sides)[side]
            found = pc.value_counts(pc.utf8_slice_codeunits(column, 0, 10))
            both = (found.field(i).to_pylist() for i in range(2))
            for day, count in zip(*both, strict=True):
                if day in counts or _DAY.fullmatch(day or ""):
                    counts[day] += count


@dataclass(frozen=True)
class Compared:
    """A part of both sides: what agrees, and what must be examined.

    ``explained_with_item`` counts the explained rows that have an item, whatever its
    values. ``doubtful`` has rows as texts, in the columns of the source. ``unmatched``
    has the keys of items without a row, ``shared`` those that several rows have.
    """

    rows: int
    items: int
    matched: int
    explained: int
    explained_with_item: int
    doubtful: list[tuple[str | None, ...]]
    unmatched: list[Key]
    shared: frozenset[Key] = frozenset()


def compare_sides(
    connection: Connection,
    table: EnterpriseTable,
    wanted: Sequence[Compares],
    seen: Seen,
) -> Iterator[tuple[Compares, Compared]]:
    """Compare every row of some entities with every item of theirs, in parts.

    The whole table is scanned first, once. *seen* counts during the comparison.

    Raises:
        Incomplete: there is no disk space for the data that does not fit in memory.
    """
    temporary = Path(gettempdir())
    with (
        needing_room("The compared data", temporary, MAKE_ROOM),
        TemporaryDirectory(prefix="reconcile-") as name,
        ExitStack() as opened,
    ):
        sides = [
            _open_sides(Path(name), number, one, opened)
            for number, one in enumerate(wanted)
        ]
        _read_items(table, sides, seen)
        seen.progress.begin("reading the source", seen.progress.rows)
        for side in sides:
            copy_rows(connection, side.compares.source, _taking(side, seen))
        seen.progress.begin("comparing", seen.progress.done)
        for side in sides:
            explained = sorted(side.compares.judge.quarantined)
            excused = pa.array(explained, pa.large_string())
            for rows, items in pair(side.rows, side.items):
                part = compare_part(rows, items, excused, side.compares)
                yield side.compares, part


@dataclass(frozen=True)
class _Sides:
    """Both sides of an entity."""

    compares: Compares
    rows: Buckets
    items: Buckets


def _open_sides(
    folder: Path, number: int, compares: Compares, opened: ExitStack
) -> _Sides:
    schema = compares.expected_items.schema
    rows = opened.enter_context(Buckets(folder, f"rows-{number}", schema))
    items = opened.enter_context(Buckets(folder, f"items-{number}", DIGESTED))
    return _Sides(compares, rows, items)


def _read_items(table: EnterpriseTable, sides: Sequence[_Sides], seen: Seen) -> None:
    letters = letters_of([side.compares.expected_items for side in sides])
    seen.progress.begin("reading the table", seen.progress.rows)
    with _collecting_rarely():
        for page in scan_segments(table, letters, SEGMENTS):
            _take_page(page, letters, sides, seen)


def _take_page(
    page: pa.Table,
    letters: Mapping[str, Letter],
    sides: Sequence[_Sides],
    seen: Seen,
) -> None:
    others = None
    for side in sides:
        ours = find_items(page, side.compares.source)
        found = page.filter(ours).combine_chunks()
        side.items.add(digest_items(found, letters, side.compares, seen))
        rest = pc.invert(ours)
        others = rest if others is None else pc.and_(others, rest)
    _count_others(page.filter(others), seen.others)
    seen.progress.advance(len(page))


@contextmanager
def _collecting_rarely() -> Iterator[None]:
    """Let Python look for cycles of objects rarely: pages of nested values have none.

    Its searches take as long as parsing such a page.
    """
    before = gc.get_threshold()
    gc.set_threshold(CREATED_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _taking(side: _Sides, seen: Seen) -> Callable[[pa.Table], None]:
    """Return a function that takes rows of the source."""

    def take(part: pa.Table) -> None:
        seen.count_days(side.compares.source, "source", part)
        side.rows.add(side.compares.expected_items.derive(part))
        seen.progress.advance(len(part))

    return take


def letters_of(wanted: Sequence[ExpectedItems]) -> dict[str, Letter]:
    """Return the attributes that are scanned, each with the letter of its type.

    An attribute to which entities give different types has values of any type.
    """
    letters: dict[str, Letter] = {}
    for expected in wanted:
        for name, letter in expected.letters.items():
            letters[name] = letter if letters.get(name, letter) == letter else "*"
    return letters


def find_items(page: pa.Table, source: SourceTable) -> pa.ChunkedArray:
    """Return which items of a page are those of a source, as its ``owns`` does."""
    fits = pc.equal(page["entity_type"], source.entity)
    for name, template in (("PK", source.partition_key), ("SK", source.sort_key)):
        fits = pc.and_(fits, _may_be(page[name], template))
    return pc.fill_null(fits, fill_value=False)


def _may_be(keys: pa.ChunkedArray, template: Template) -> pa.ChunkedArray:
    match = pc.equal if template.is_constant else pc.starts_with
    return match(keys, template.prefix)


def digest_items(
    items: pa.Table, letters: Mapping[str, Letter], compares: Compares, seen: Seen
) -> pa.Table:
    """Return the keys and digests of an entity's items."""
    seen.count_days(compares.source, "target", items)
    texts: list[Texts] = [
        (TAGS[letters[name]], items[name].combine_chunks())
        for name in compares.expected_items.attributes
    ]
    digests = digest_texts(texts, len(items))
    parts = (items[name].combine_chunks() for name in ("PK", "SK"))
    keys = compares.expected_items.joined_keys.join_columns(*parts)
    return pa.table([keys, digests], schema=DIGESTED)


def compare_part(
    rows: pa.Table, items: pa.Table, explained: pa.Array, compares: Compares
) -> Compared:
    """Compare a part of both sides that has all rows and items of its keys.

    If several rows have one key, none of them is proven.
    """
    unique = compares.has_unique_keys
    split = compares.expected_items.joined_keys.split
    rows, items = rows.combine_chunks(), items.combine_chunks()
    places = pc.index_in(rows["key"], value_set=items["key"])
    same = pc.equal(rows["digest"], items["digest"].take(places))
    same = pc.fill_null(same, fill_value=False)
    shared = pa.array([], KEY) if unique else _find_shared(rows["key"])
    if len(shared):
        same = pc.and_(same, pc.invert(pc.is_in(rows["key"], value_set=shared)))
    excused = pc.is_in(rows["row:source_id"], value_set=explained)
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
        doubtful=as_rows(doubtful.select(doubtful.column_names[2:])),
        unmatched=[split(key) for key in unmatched.to_pylist()],
        shared=frozenset(map(split, shared.to_pylist())),
    )


def _find_shared(keys: pa.ChunkedArray) -> pa.Array:
    """Return the keys that several rows have."""
    counts = pc.value_counts(keys)
    several = pc.and_(
        pc.greater(counts.field("counts"), 1),
        pc.not_equal(counts.field("values"), NO_KEY),
    )
    return counts.field("values").filter(several)


def as_rows(table: pa.Table) -> list[tuple[str | None, ...]]:
    """Return rows as tuples of texts, in the order of their columns."""
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


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
