"""The units that loading and comparing will take, from what the source holds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.compare import SEGMENTS
from flows.models import SourceTable
from flows.stores.indexes import Index, longest_name
from flows.stores.postgres import translated_errors
from flows.units import (
    LARGEST_ITEM,
    PAGE_BYTES,
    READ_BYTES,
    TRANSACTION,
    WRITE_BYTES,
    bytes_beside_name,
    scan_units,
)

# A name is in an item twice; all else is of a fixed length. What has no name, or is too
# large, is never written.
MEASURE_ROWS = sql.SQL("""
SELECT count(*), count(*) FILTER (WHERE fits),
       coalesce(sum(size) FILTER (WHERE fits), 0),
       coalesce(sum(ceil(size / {write})) FILTER (WHERE fits), 0),
       coalesce(sum(ceil(size / {read})) FILTER (WHERE fits), 0)
FROM (SELECT size, size <= {largest} AND name <= {longest} AS fits
      FROM (SELECT name, {beside} + 2.0 * name AS size
            FROM (SELECT octet_length({name}) AS name FROM {table}) AS names) AS sizes
     ) AS items
""")
COUNT_ROWS = sql.SQL("SELECT count(*) FROM {table}")
# What requests of the run's own cost: origin, lease and marker, read and written once.
OWN_READS, ORIGIN_WRITES, RELEASE_WRITES = 6, 1, 1
MARKER_READS = 2
LEASE_WRITES = 2 * TRANSACTION


@dataclass(frozen=True)
class Units:
    """Write and read units."""

    writes: float = 0.0
    reads: float = 0.0

    def __add__(self, other: Self) -> "Units":
        return Units(self.writes + other.writes, self.reads + other.reads)


@dataclass(frozen=True)
class Measured:
    """The items that the rows would become: their number, bytes, and units each once.

    ``rows`` are all rows; the rest is of those that can be items.
    """

    rows: int
    items: float
    size: float
    units: Units
    counted: Literal["exact", "estimated"] = "exact"

    def scaled(self, share: float) -> "Measured":
        """Return a share of the items; the rows stay."""
        units = Units(self.units.writes * share, self.units.reads * share)
        items, size = self.items * share, self.size * share
        return replace(self, items=items, size=size, units=units)


def measure_rows(
    connection: Connection,
    source: SourceTable,
    *,
    provenance: bool,
    rows: int | None = None,
    indexes: Sequence[Index] = (),
) -> Measured:
    """Measure all rows of the source; unless they are known, they are counted first.

    A name that is too long for one of the *indexes* makes no item.
    """
    name = sql.SQL("{}").format(sql.Identifier(source.name_column))
    if connection.get_parameter_status("server_encoding") != "UTF8":
        name = sql.SQL("convert_to({}::text, 'UTF8')").format(name)
    table = sql.Identifier(source.schema, source.table)
    with translated_errors(), connection.cursor() as cursor:
        if rows is None:
            cursor.execute(COUNT_ROWS.format(table=table))
            (rows,) = cursor.fetchone() or (0,)
        beside = bytes_beside_name(source.id_kind, provenance=provenance, rows=rows)
        query = MEASURE_ROWS.format(
            table=table,
            name=name,
            beside=sql.Literal(beside),
            write=sql.Literal(WRITE_BYTES),
            read=sql.Literal(READ_BYTES),
            largest=sql.Literal(LARGEST_ITEM),
            longest=sql.Literal(longest_name(indexes) or LARGEST_ITEM),
        )
        cursor.execute(query)
        found = [float(value) for value in cursor.fetchone() or [0] * 5]
    _, items, size, writes, reads = found
    return Measured(int(found[0]), items, size, Units(writes, reads))


def first_load(measured: Measured, size: float) -> Units:
    """Return what filling a table without enterprises takes: a batch, each item once.

    *size* is that of other items in it, among which an enterprise is looked for.
    """
    return Units(measured.units.writes, scan_units(size, 1))


def next_load(measured: Measured, size: float, written: float = 1.0) -> Units:
    """Return what loading into a table of *size* that holds enterprises takes.

    Each item is read, a share of the units *written*.
    """
    page = scan_units(min(size, PAGE_BYTES), 1)
    return Units(measured.units.writes * written, measured.units.reads + page)


def own_requests(partitions: int) -> Units:
    """Return what a run takes for itself: lease, origin and marker, without heartbeats.

    Each partition extends the lease once.
    """
    lease = LEASE_WRITES + RELEASE_WRITES + partitions
    return Units(lease + ORIGIN_WRITES, OWN_READS)


def comparison(measured: Measured, size: float, *, empty: bool) -> Units:
    """Return what comparing takes: the whole table is scanned, other items included.

    *size* is that of the table now, *empty* if no enterprise is in it yet.
    """
    whole = size + measured.size if empty else max(size, measured.size)
    return Units(0.0, scan_units(whole, SEGMENTS) + MARKER_READS)


def planned_units(
    measured: Measured | None, size: float, *, fresh: bool
) -> dict[str, float]:
    """Return what a run's own requests will take, but for those of its lease.

    Nothing, where nothing was measured, since only some rows are moved. What a run will
    write into a table that holds enterprises, nobody knows before.
    """
    if measured is None:
        return {}
    reads = comparison(measured, size, empty=fresh).reads + OWN_READS
    if fresh:
        load = first_load(measured, size)
        units = {"write_units": load.writes + ORIGIN_WRITES}
    else:
        load, units = next_load(measured, max(size, measured.size)), {}
    return units | {"read_units": load.reads + reads}
