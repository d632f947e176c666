"""The units that loading and comparing will consume, derived from the source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import pandas as pd
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.models import IdKind, Index, Item, SourceTable, add_counts
from flows.reconciliation.compare import SEGMENTS
from flows.stores.dynamodb.capacity_units import (
    LARGEST_ITEM,
    PAGE_BYTES,
    READ_BYTES,
    TABLE,
    TRANSACTION,
    WRITE_BYTES,
    Weight,
    item_bytes,
    scan_units,
    weigh,
)
from flows.stores.dynamodb.indexes import longest_name
from flows.stores.postgres.conditions import meets
from flows.stores.postgres.session import translating_errors
from flows.transform import transform_enterprises

# A name is in an item twice; all else has a fixed length. An item that has no name, or
# is too large, is never written.
MEASURE_ROWS = sql.SQL("""
SELECT count(*), count(*) FILTER (WHERE fits),
       coalesce(sum(size) FILTER (WHERE fits), 0),
       coalesce(sum(ceil(size / {read})) FILTER (WHERE fits), 0),
       {writes}
FROM (SELECT name, size, size <= {largest} AND name <= {longest} AS fits
      FROM (SELECT name, {beside} + 2.0 * name AS size
            FROM (SELECT octet_length({name}) AS name FROM {table}
                  WHERE {meets}) AS names) AS sizes
     ) AS items
""")
# One column for the table, and one for each index that holds the items.
SUM_WRITES = sql.SQL("""
coalesce(sum(ceil(({beside} + {names} * name::numeric) / {write}))
         FILTER (WHERE fits), 0)
""")
COUNT_ROWS = sql.SQL("SELECT count(*) FROM {table} WHERE {meets}")
# Units of the run's own requests: origin, lease and marker, read and written once.
OWN_READS, ORIGIN_WRITES, RELEASE_WRITES = 6, 1, 1
MARKER_READS = 2
LEASE_WRITES = 2 * TRANSACTION

_EXAMPLE_ID = "3500a20a-fa32-5543-842f-da54bef06c63"


@dataclass(frozen=True)
class Units:
    """Write units by place, the table or one of its indexes, and read units."""

    by_place: Mapping[str, float] = field(default_factory=dict)
    reads: float = 0.0

    @property
    def writes(self) -> float:
        """Return all write units."""
        return sum(self.by_place.values())

    @property
    def in_indexes(self) -> dict[str, float]:
        """Return the write units of each index."""
        return {place: n for place, n in self.by_place.items() if place != TABLE}

    def __add__(self, other: Self) -> "Units":
        added = add_counts(self.by_place, other.by_place)
        return Units(added, self.reads + other.reads)

    def times(self, share: float) -> "Units":
        """Return a share of the units."""
        writes = {place: units * share for place, units in self.by_place.items()}
        return Units(writes, self.reads * share)


@dataclass(frozen=True)
class Measured:
    """The items that the rows would become: their number, bytes, and units each once.

    ``rows`` counts all rows; the other fields cover those that can be items.
    """

    rows: int
    items: float
    size: float
    units: Units
    counted: Literal["exact", "estimated"] = "exact"

    def __add__(self, other: Self) -> "Measured":
        exact = self.counted == other.counted == "exact"
        return Measured(
            self.rows + other.rows,
            self.items + other.items,
            self.size + other.size,
            self.units + other.units,
            "exact" if exact else "estimated",
        )

    def scaled(self, share: float) -> "Measured":
        """Return a share of the items; the number of rows stays."""
        items, size = self.items * share, self.size * share
        return replace(self, items=items, size=size, units=self.units.times(share))


def measure_rows(
    connection: Connection,
    source: SourceTable,
    *,
    provenance: bool,
    rows: int | None = None,
    indexes: Sequence[Index] = (),
) -> Measured:
    """Measure all rows of the source; count them first unless *rows* is given.

    Each of the *indexes* consumes units by its keys and projection. A row whose name is
    too long for one of them yields no item.
    """
    name = sql.SQL("{}").format(sql.Identifier(source.name_column))
    if connection.get_parameter_status("server_encoding") != "UTF8":
        name = sql.SQL("convert_to({}::text, 'UTF8')").format(name)
    if rows is None:
        rows = count_rows(connection, source)
    with translating_errors(), connection.cursor() as cursor:
        example = example_item(source.id_kind, provenance=provenance, rows=rows)
        weights = weigh(example, indexes)
        query = MEASURE_ROWS.format(
            table=sql.Identifier(source.schema, source.table),
            meets=meets(source),
            name=name,
            beside=sql.Literal(weights[TABLE].beside),
            writes=sql.SQL(", ").join(map(_sum_writes, weights.values())),
            read=sql.Literal(READ_BYTES),
            largest=sql.Literal(LARGEST_ITEM),
            longest=sql.Literal(longest_name(indexes) or LARGEST_ITEM),
        )
        cursor.execute(query)
        found = [float(value) for value in cursor.fetchone() or ()]
    count, items, size, reads, *writes = found
    units = Units(dict(zip(weights, writes, strict=True)), reads)
    return Measured(int(count), items, size, units)


def count_rows(connection: Connection, source: SourceTable) -> int:
    """Count the rows that the mapping moves."""
    table = sql.Identifier(source.schema, source.table)
    query = COUNT_ROWS.format(table=table, meets=meets(source))
    with translating_errors(), connection.cursor() as cursor:
        cursor.execute(query)
        (rows,) = cursor.fetchone() or (0,)
    return int(rows)


def _sum_writes(weight: Weight) -> sql.Composable:
    return SUM_WRITES.format(
        beside=sql.Literal(weight.beside),
        names=sql.Literal(weight.names),
        write=sql.Literal(WRITE_BYTES),
    )


def example_item(id_kind: IdKind, *, provenance: bool, rows: int) -> Item:
    """Return an enterprise with an empty name.

    All of it has a fixed length, except a number that *provenance* adds, which is
    assumed to be as long as the count of *rows*.
    """
    stamp = "2024-01-05 12:34:56.789+00"
    row = {
        "source_id": str(rows) if id_kind == "integer" else _EXAMPLE_ID,
        "enterprise_name": "",
        "created_date": stamp,
        "updated_date": stamp,
    }
    frame = pd.DataFrame([row], dtype=object)
    made = transform_enterprises(frame, id_kind=id_kind, provenance=provenance)
    item: Item = made.drop(columns="source_id").iloc[0].to_dict()  # type: ignore[assignment]
    return item


def bytes_beside_name(id_kind: IdKind, *, provenance: bool, rows: int) -> int:
    """Return the bytes of an enterprise without the two copies of its name."""
    return item_bytes(example_item(id_kind, provenance=provenance, rows=rows))


def first_load(measured: Measured, size: float) -> Units:
    """Return the units of filling a table without enterprises: batches, each item once.

    *size* is that of the other items, which are scanned for an enterprise.
    """
    return Units(measured.units.by_place, scan_units(size, 1))


def next_load(measured: Measured, size: float, written: Mapping[str, float]) -> Units:
    """Return the units of loading into a table of *size* that holds enterprises.

    Each item is read. *written* has the units of each place, per unit of putting the
    items into the table anew.
    """
    page = scan_units(min(size, PAGE_BYTES), 1)
    anew = measured.units.by_place.get(TABLE, 0.0)
    writes = {place: share * anew for place, share in written.items()}
    return Units(writes, measured.units.reads + page)


def own_requests(partitions: int) -> Units:
    """Return the units of a run's lease, origin and marker, without heartbeats.

    Each partition extends the lease once.
    """
    lease = LEASE_WRITES + RELEASE_WRITES + partitions
    return Units({TABLE: lease + ORIGIN_WRITES}, OWN_READS)


def comparison(measured: Measured, size: float, *, empty: bool) -> Units:
    """Return the units of comparing: the whole table is scanned, other items included.

    *size* is that of the table now; *empty* means that it has no enterprise yet.
    """
    whole = size + measured.size if empty else max(size, measured.size)
    return Units(reads=scan_units(whole, SEGMENTS) + MARKER_READS)


def planned_units(
    measured: Measured | None, size: float, *, table_was_empty: bool
) -> dict[str, float]:
    """Return the units that a run's requests will consume, except those of its lease.

    They are empty if nothing was measured, since only some rows are moved. The writes
    into a table that holds enterprises are not known in advance.
    """
    if measured is None:
        return {}
    reads = comparison(measured, size, empty=table_was_empty).reads + OWN_READS
    if table_was_empty:
        load = first_load(measured, size)
        units = {"write_units": load.writes + ORIGIN_WRITES}
    else:
        load, units = next_load(measured, max(size, measured.size), {}), {}
    return units | {"read_units": load.reads + reads}
