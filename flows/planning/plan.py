"""The plan of a migration: source and table are examined, and nothing is written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Literal

import pandas as pd
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.errors import SourceError
from flows.extract import check_text_ids, extract_enterprises, sample_ids
from flows.mapping import load_mapping
from flows.models import (
    Decision,
    Index,
    Item,
    MigrateOptions,
    PartitionSpec,
    SourceTable,
    add_counts,
    decide,
    is_usual,
    key_of,
)
from flows.planning.estimate import (
    Measured,
    Units,
    bytes_beside_name,
    comparison,
    count_rows,
    first_load,
    measure_rows,
    next_load,
    own_requests,
)
from flows.planning.report import (
    HOLDS,
    MISSING,
    NO_ENTERPRISES,
    MigrationPlan,
    Sampled,
)
from flows.prepare import make_items
from flows.settings import Settings, load_settings
from flows.settings.libpq import quote_name
from flows.stores.dynamodb.capacity_units import (
    LARGEST_ITEM,
    TABLE,
    change_units,
    item_bytes,
    read_units,
)
from flows.stores.dynamodb.faults import TableMissing
from flows.stores.dynamodb.indexes import (
    key_limits,
    longest_name,
    read_indexes,
    require_fitting,
    written_types,
)
from flows.stores.dynamodb.prices import find_prices
from flows.stores.dynamodb.schema import describe_active, require_keys
from flows.stores.dynamodb.table import EnterpriseTable, filter_of, open_table
from flows.stores.dynamodb.throughput import NEW_TABLE, Throughput, read_throughput
from flows.stores.postgres.conditions import meets
from flows.stores.postgres.session import translating_errors
from flows.stores.postgres.snapshots import describe_held
from flows.stores.postgres.watch import open_watched
from flows.timing import Progress

SAMPLE_ROWS = 2_000
# Statistics of the table and its partitions; unknown if one was never analyzed.
ESTIMATE_ROWS = sql.SQL("""
WITH RECURSIVE tree AS (
    SELECT {table}::regclass::oid AS oid
    UNION ALL SELECT i.inhrelid FROM pg_inherits i JOIN tree t ON i.inhparent = t.oid)
SELECT CASE WHEN min(c.reltuples) >= 0 THEN sum(c.reltuples)::bigint END
FROM pg_class c JOIN tree USING (oid) WHERE c.relkind = 'r'
""")
PICK_SOME = sql.SQL("""
SELECT {id}::text FROM {table} TABLESAMPLE SYSTEM ({percent}) WHERE {meets}
""")


def plan_migration(
    *,
    sample: int = SAMPLE_ROWS,
    estimate: bool = False,
    prices: Iterable[str] = (),
    progress: Progress | None = None,
) -> MigrationPlan:
    """Plan a migration of the source into the table, both as they are now.

    All rows are counted and measured, or with *estimate* extrapolated from the
    statistics and the sample. *sample* rows are validated and transformed into items,
    and the items with their keys are read, which consumes about as many read units.

    Raises:
        Refused: source or table cannot be read as requested.
    """
    progress, settings = progress or Progress(), load_settings()
    progress.begin("examining the table")
    mapping = load_mapping(settings)
    table = open_table(settings)
    known, origin = find_prices(table.region, prices)
    target = _look_at(table)
    with open_watched(settings) as (connection, _):
        sources = describe_held(connection, settings, mapping)
        types = written_types(sources, provenance=settings.item_provenance)
        require_fitting(table, target.indexes, types)
        target = _find_items(target, sources)
        parts = []
        for source in sources:
            progress.begin("validating a sample")
            sampling = _Sampling(connection, source, settings, target)
            parts.append(_plan_entity(sampling, sample, estimate=estimate))
    measured, sampled = sum_parts(parts)
    holds = target.state == HOLDS or sampled.there > 0
    size = target.throughput.size
    load = first_load(measured, size)
    if holds:
        load = next_load(measured, max(size, measured.size), sampled.written)
    partitions = ceil(measured.rows / MigrateOptions().partition_rows)
    return MigrationPlan(
        sources=sources,
        target={
            "table": table.name,
            "region": table.region,
            "endpoint": table.endpoint,
        },
        measured=measured,
        sampled=sampled,
        throughput=target.throughput,
        state=HOLDS if holds else target.state,
        load=load + own_requests(partitions),
        reconcile=comparison(measured, size, empty=not holds),
        prices=known,
        origin=origin,
        parts=tuple(part.measured for part in parts),
    )


@dataclass(frozen=True)
class _Part:
    """The figures of one entity: those of all its rows, and of its sample."""

    measured: Measured
    sampled: Sampled


def sum_parts(parts: Sequence[_Part]) -> tuple[Measured, Sampled]:
    """Return the figures of all entities together."""
    measured, sampled = parts[0].measured, parts[0].sampled
    for part in parts[1:]:
        measured, sampled = measured + part.measured, sampled + part.sampled
    return measured, sampled


def _plan_entity(sampling: "_Sampling", sample: int, *, estimate: bool) -> _Part:
    """Count, sample and measure the rows of one entity."""
    connection, source = sampling.connection, sampling.source
    check_text_ids(connection, source)
    rows = _estimate(connection, source) if estimate else None
    sampled = sampling.take(_pick(connection, source, sample, rows))
    if rows is None and is_usual(source):
        measured = measure_rows(
            connection,
            source,
            provenance=sampling.settings.item_provenance,
            indexes=sampling.target.indexes,
        )
        return _Part(measured.scaled(sampled.valid), sampled)
    # Only of the built-in items does SQL know the size.
    counted: Literal["exact", "estimated"] = "estimated" if rows else "exact"
    rows = rows or count_rows(connection, source)
    return _Part(_extrapolate(rows, sampled, source, counted), sampled)


@dataclass(frozen=True)
class _Target:
    """The table as it was found; ``table`` is None if it is missing."""

    table: EnterpriseTable | None
    throughput: Throughput
    state: str
    indexes: tuple[Index, ...] = ()


def _look_at(table: EnterpriseTable) -> _Target:
    """Describe the table.

    Raises:
        TargetError: the table has other keys, or cannot be described.
    """
    try:
        description = describe_active(table)
    except TableMissing:
        return _Target(None, NEW_TABLE, MISSING)
    require_keys(table, description)
    throughput = read_throughput(description)
    return _Target(table, throughput, NO_ENTERPRISES, read_indexes(description))


def _find_items(target: _Target, sources: Sequence[SourceTable]) -> _Target:
    """Return whether the table holds items of the entities already."""
    if target.table is None:
        return target
    # One page only: if the table has many other items, the sample decides.
    pages = (
        next(target.table.scan(["PK"], filter_of(source)), []) for source in sources
    )
    return replace(target, state=HOLDS) if any(pages) else target


def estimate_rows(connection: Connection, source: SourceTable) -> int | None:
    """Return the number of rows in PostgreSQL's statistics; None if there are none."""
    table = sql.Identifier(source.schema, source.table).as_string(connection)
    with translating_errors(), connection.cursor() as cursor:
        cursor.execute(ESTIMATE_ROWS.format(table=sql.Literal(table)))
        (rows,) = cursor.fetchone() or (None,)
    return None if rows is None else int(rows)


def _estimate(connection: Connection, source: SourceTable) -> int:
    """Return the number of rows in the statistics.

    Raises:
        SourceError: there are no statistics of the table.
    """
    rows = estimate_rows(connection, source)
    if rows is None:
        message = f"There are no statistics of {source.name}."
        raise SourceError(message, _analyze(source))
    return rows


def _pick(
    connection: Connection, source: SourceTable, sample: int, rows: int | None
) -> tuple[str, ...]:
    """Pick random rows; if their number is estimated, do not read all rows for it."""
    if rows is None:
        return sample_ids(connection, source, sample)
    query = PICK_SOME.format(
        id=sql.Identifier(source.id_column),
        table=sql.Identifier(source.schema, source.table),
        meets=meets(source),
        percent=sql.Literal(min(100.0, 100.0 * sample / max(rows, 1))),
    )
    with translating_errors(), connection.cursor() as cursor:
        cursor.execute(query)
        return tuple(str(source_id) for (source_id,) in cursor.fetchall())


@dataclass(frozen=True)
class _Sampling:
    """The sampling of an entity: some rows become items, and are compared."""

    connection: Connection
    source: SourceTable
    settings: Settings
    target: _Target

    def take(self, ids: Sequence[str]) -> Sampled:
        """Transform some rows into items, and compare them with those of the table."""
        source, indexes = self.source, self.target.indexes
        spec = PartitionSpec("plan", 1, source, ids=tuple(ids))
        rows = extract_enterprises(self.connection, spec)
        made = make_items(rows, source, self.settings, key_limits(indexes))
        records: list[Any] = made.items.drop(columns="source_id").to_dict("records")
        sizes = [item_bytes(item) for item in records]
        puts = add_counts(*(change_units(None, i, indexes) for i in records))
        keys = [key_of(item) for item in records]
        there = self.target.table.read(keys) if self.target.table else {}
        changed = add_counts(
            *(_cost(i, there.get(key_of(i)), indexes) for i in records)
        )
        fitting = self._count_fitting(rows)
        return Sampled(
            rows=len(rows),
            items=tuple(sizes),
            valid=len(sizes) / fitting if fitting else 0.0,
            written={place: n / puts[TABLE] for place, n in changed.items()},
            there=len(there),
            units=Units(puts, float(sum(map(read_units, sizes)))),
        )

    def _count_fitting(self, rows: pd.DataFrame) -> int:
        """Count the rows that are not too large, as the measuring in SQL does."""
        name, indexes = self.source.name_field, self.target.indexes
        if name is None or not is_usual(self.source):
            return len(rows)
        beside = bytes_beside_name(
            self.source.id_kind,
            provenance=self.settings.item_provenance,
            rows=len(rows),
        )
        names = [text for text in rows[name.name].tolist() if text is not None]
        limit = longest_name(indexes) or LARGEST_ITEM
        most = min(limit, (LARGEST_ITEM - beside) // 2)
        return sum(len(text.encode()) <= most for text in names)


def _analyze(source: SourceTable) -> str:
    name = f"{quote_name(source.schema)}.{quote_name(source.table)}"
    return f"ANALYZE {name}; or plan without --estimate."


def _extrapolate(
    rows: int,
    sampled: Sampled,
    source: SourceTable,
    counted: Literal["exact", "estimated"],
) -> Measured:
    """Extrapolate the sample to all rows.

    Raises:
        SourceError: the sample is empty, although the statistics count rows.
    """
    if rows and not sampled.rows:
        message = f"The statistics of {source.name} count rows that are not there."
        raise SourceError(message, _analyze(source))
    count, size = float(len(sampled.items)), float(sum(sampled.items))
    found = Measured(rows, count, size, sampled.units, counted)
    return found.scaled(rows / (sampled.rows or 1))


def _cost(item: Item, there: Item | None, indexes: Sequence[Index]) -> dict[str, int]:
    """Return the units that loading an item would write, by place."""
    decision = decide(item, there, dict)
    if decision is Decision.CREATE:
        return change_units(None, item, indexes)
    if decision is Decision.UPDATE and there is not None:
        return change_units(there, there | item, indexes)
    return {}
