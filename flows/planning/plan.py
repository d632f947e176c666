"""The plan of a migration: source and table are examined, and nothing is written."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.errors import SourceError
from flows.extract import check_text_ids, extract_enterprises, sample_ids
from flows.models import (
    Decision,
    Index,
    Item,
    MigrateOptions,
    PartitionSpec,
    SourceTable,
    add_counts,
    decide,
)
from flows.planning.estimate import (
    Measured,
    Units,
    bytes_beside_name,
    comparison,
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
from flows.stores.dynamodb.table import EnterpriseTable, open_table
from flows.stores.dynamodb.throughput import NEW_TABLE, Throughput, read_throughput
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
PICK_SOME = sql.SQL("SELECT {id}::text FROM {table} TABLESAMPLE SYSTEM ({percent})")


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
    table = open_table(settings)
    known, origin = find_prices(table.region, prices)
    target = _look_at(table, written_types(provenance=settings.item_provenance))
    with open_watched(settings) as (connection, _):
        source = describe_held(connection, settings)
        check_text_ids(connection, source)
        rows = _estimate(connection, source) if estimate else None
        ids = _pick(connection, source, sample, rows)
        progress.begin("validating a sample")
        sampled = _sample(connection, source, settings, ids, target)
        progress.begin("measuring all rows")
        if rows is None:
            provenance = settings.item_provenance
            measured = measure_rows(
                connection, source, provenance=provenance, indexes=target.indexes
            )
            measured = measured.scaled(sampled.valid)
        else:
            measured = _extrapolate(rows, sampled, source)
    holds = target.state == HOLDS or sampled.there > 0
    size = target.throughput.size
    load = first_load(measured, size)
    if holds:
        load = next_load(measured, max(size, measured.size), sampled.written)
    partitions = ceil(measured.rows / MigrateOptions().partition_rows)
    return MigrationPlan(
        source=source,
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
    )


@dataclass(frozen=True)
class _Target:
    """The table as it was found; ``table`` is None if it is missing."""

    table: EnterpriseTable | None
    throughput: Throughput
    state: str
    indexes: tuple[Index, ...] = ()


def _look_at(table: EnterpriseTable, types: Mapping[str, str]) -> _Target:
    """Describe the table that will hold attributes of these types.

    Raises:
        TargetError: the table has other keys, has an index of other types, or cannot be
            described.
    """
    try:
        description = describe_active(table)
    except TableMissing:
        return _Target(None, NEW_TABLE, MISSING)
    require_keys(table, description)
    indexes = read_indexes(description)
    require_fitting(table, indexes, types)
    # One page only: if the table has many other items, the sample decides.
    first = next(table.scan(["PK"]), [])
    state = HOLDS if first else NO_ENTERPRISES
    return _Target(table, read_throughput(description), state, indexes)


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
        percent=sql.Literal(min(100.0, 100.0 * sample / max(rows, 1))),
    )
    with translating_errors(), connection.cursor() as cursor:
        cursor.execute(query)
        return tuple(str(source_id) for (source_id,) in cursor.fetchall())


def _sample(
    connection: Connection,
    source: SourceTable,
    settings: Settings,
    ids: Sequence[str],
    target: _Target,
) -> Sampled:
    """Transform some rows into items, and compare them with those of the *target*."""
    spec = PartitionSpec("plan", 1, source, ids=tuple(ids))
    rows = extract_enterprises(connection, spec)
    made = make_items(rows, source, settings, key_limits(target.indexes))
    records: list[Any] = made.items.drop(columns="source_id").to_dict("records")
    sizes = [item_bytes(item) for item in records]
    provenance = settings.item_provenance
    beside = bytes_beside_name(source.id_kind, provenance=provenance, rows=len(rows))
    names = [name for name in rows["enterprise_name"].tolist() if name is not None]
    limit = longest_name(target.indexes) or LARGEST_ITEM
    most = min(limit, (LARGEST_ITEM - beside) // 2)
    fitting = sum(len(name.encode()) <= most for name in names)
    puts = add_counts(*(change_units(None, i, target.indexes) for i in records))
    keys = [item["PK"] for item in records]
    there = target.table.read(keys) if target.table else {}
    changed = add_counts(
        *(_cost(i, there.get(i["PK"]), target.indexes) for i in records)
    )
    return Sampled(
        rows=len(rows),
        items=tuple(sizes),
        valid=len(sizes) / fitting if fitting else 0.0,
        written={place: n / puts[TABLE] for place, n in changed.items()},
        there=len(there),
        units=Units(puts, float(sum(map(read_units, sizes)))),
    )


def _analyze(source: SourceTable) -> str:
    name = f"{quote_name(source.schema)}.{quote_name(source.table)}"
    return f"ANALYZE {name}; or plan without --estimate."


def _extrapolate(rows: int, sampled: Sampled, source: SourceTable) -> Measured:
    """Extrapolate the sample to all rows.

    Raises:
        SourceError: the sample is empty, although the statistics count rows.
    """
    if rows and not sampled.rows:
        message = f"The statistics of {source.name} count rows that are not there."
        raise SourceError(message, _analyze(source))
    count, size = float(len(sampled.items)), float(sum(sampled.items))
    found = Measured(rows, count, size, sampled.units, "estimated")
    return found.scaled(rows / (sampled.rows or 1))


def _cost(item: Item, there: Item | None, indexes: Sequence[Index]) -> dict[str, int]:
    """Return the units that loading an item would write, by place."""
    decision = decide(item, there, dict)
    if decision is Decision.CREATE:
        return change_units(None, item, indexes)
    if decision is Decision.UPDATE and there is not None:
        return change_units(there, there | item, indexes)
    return {}
