"""PostgreSQL to DataFrames: key ranges of one table, read under one snapshot."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from uuid import UUID

import pandas as pd
import pyarrow as pa
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812
from pyarrow import csv

from flows.errors import SourceError
from flows.models import SOURCE_COLUMNS, IdKind, PartitionSpec, SourceTable
from flows.stores.postgres.session import translating_errors
from flows.stores.postgres.snapshots import require_not_rewritten

logger = logging.getLogger(__name__)

ID_TYPES: dict[IdKind, str] = {"integer": "bigint", "uuid": "uuid", "text": "text"}

COUNT_ROWS = sql.SQL("SELECT count(*) FROM {table} WHERE {changed}")
# One pass over the key's index finds every bound exactly, whatever the gaps.
FIND_BOUNDS = sql.SQL("""
SELECT bound::text FROM (
    SELECT {id} AS bound, row_number() OVER (ORDER BY {id}) AS place FROM {table}
    WHERE {changed}
) AS numbered
WHERE place % {rows} = 0 ORDER BY place
""")
# The order is by source.id: a bare name would mean the output column, which is text.
READ_ROWS = sql.SQL("""
SELECT {id}::text, {name}, {created_text}, {updated_text} FROM {table} AS source
WHERE ({lower} IS NULL OR {id} > {lower}) AND ({upper} IS NULL OR {id} <= {upper})
  AND ({ids} IS NULL OR {id} = ANY ({ids})) AND {changed}
ORDER BY source.{id}
""")
# In CSV an empty name is quoted and NULL is not, so no value can be read as NULL.
COPY_ROWS = sql.SQL("COPY ({query}) TO STDOUT (FORMAT csv)")
COUNT_AMONG = sql.SQL("SELECT count(*) FROM {table} WHERE {among}")
SAMPLE_IDS = sql.SQL("SELECT {id}::text FROM {table} ORDER BY random() LIMIT {rows}")
LIST_IDS = sql.SQL("SELECT {id}::text FROM {table} WHERE {changed}")
# A nondeterministic collation does not support regular expressions, and treats some
# different texts as equal.
NOT_A_UUID = sql.SQL(r"""
SELECT {id}::text FROM {table}
WHERE {id}::text COLLATE "C" !~* '^(\{{[0-9a-f-]+\}}|[0-9a-f-]+)$'
   OR length(translate({id}::text, '{{}}-', '')) <> 32
LIMIT 1
""")
SAME_UUID = sql.SQL("""
SELECT translate(lower({id}::text COLLATE "C"), '{{}}-', '') AS digits FROM {table}
GROUP BY digits HAVING count(*) > 1
""")
# Both offsets around a local time, by the zone's rules a day before and a day after it.
# If they differ, a time that neither offset leads back to does not exist, and a time
# that both lead back to is ambiguous, however far the clocks were set.
COUNT_DOUBTFUL_TIMES = sql.SQL("""
SELECT count(*) FILTER (WHERE NOT (is_first OR is_second)),
       count(*) FILTER (WHERE is_first AND is_second)
FROM (SELECT (utc - before) AT TIME ZONE {zone} = utc AT TIME ZONE 'UTC' AS is_first,
             (utc - after) AT TIME ZONE {zone} = utc AT TIME ZONE 'UTC' AS is_second
      FROM (SELECT utc,
                   (utc - interval '1 day') AT TIME ZONE {zone}
                   - (utc - interval '1 day') AT TIME ZONE 'UTC' AS before,
                   (utc + interval '1 day') AT TIME ZONE {zone}
                   - (utc + interval '1 day') AT TIME ZONE 'UTC' AS after
            FROM (SELECT {column}::timestamp AT TIME ZONE 'UTC' AS utc FROM {table}
                  WHERE {column} >= DATE '0001-01-01'
                    AND {column} < DATE '10000-01-01') AS times) AS offsets
      WHERE before <> after) AS doubtful
""")
# Excludes local times that are no timestamptz in any zone; dates have a wider range.
WITHIN = sql.SQL("""
({column} < DATE '200000-01-01' AND {column} > DATE '4000-01-01 BC'
 OR NOT isfinite({column}))
""")


@dataclass(frozen=True)
class ExtractionPlan:
    """How the source will be read: its row count and the bounds of its partitions.

    ``bounds`` are the upper ids of all partitions but the last, which has none.
    """

    rows: int
    bounds: tuple[str, ...]
    duplicate_ids: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def ranges(self) -> tuple[tuple[int, str | None, str | None], ...]:
        """Return each partition's number, exclusive lower and inclusive upper id."""
        if self.rows == 0:
            return ()
        numbers = range(1, len(self.bounds) + 2)
        bounds = zip(numbers, (None, *self.bounds), (*self.bounds, None), strict=True)
        return tuple(bounds)


def plan_extraction(
    connection: Connection,
    source: SourceTable,
    partition_rows: int,
    *,
    since: str | None = None,
) -> ExtractionPlan:
    """Count the rows and find the bounds of partitions of *partition_rows* rows.

    With *since*, only the rows that are stamped since then count.

    Raises:
        SourceError: a text id is not a UUID.
    """
    with translating_errors(), connection.cursor() as cursor:
        changed = changed_since(source, since)
        cursor.execute(_for_source(COUNT_ROWS, source, changed=changed))
        rows = int((cursor.fetchone() or [0])[0])
        size = sql.Literal(partition_rows)
        cursor.execute(_for_source(FIND_BOUNDS, source, rows=size, changed=changed))
        bounds = [str(bound) for (bound,) in cursor.fetchall()]
        if bounds and rows % partition_rows == 0:
            bounds.pop()
    duplicates = check_text_ids(connection, source)
    warnings = _doubtful_times(connection, source)
    for warning in warnings:
        logger.warning("%s", warning)
    return ExtractionPlan(rows, tuple(bounds), duplicates, warnings)


def extract_enterprises(connection: Connection, spec: PartitionSpec) -> pd.DataFrame:
    """Read one partition into a DataFrame of the columns ``SOURCE_COLUMNS``.

    Every value is PostgreSQL's text of it, or None for NULL: ids never become floats,
    and ``infinity``, BC and years above 9999 arrive unchanged. Timestamps are in UTC.

    Raises:
        SnapshotLost: the table was rewritten after the session's snapshot.
    """
    query = _for_source(
        READ_ROWS,
        spec.source,
        lower=_bound(spec.lower, spec.source),
        upper=_bound(spec.upper, spec.source),
        ids=_bound(
            None if spec.ids is None else list(spec.ids), spec.source, array="[]"
        ),
        changed=changed_since(spec.source, spec.since),
    )
    # COPY streams, and takes a third of the CPU time of a cursor.
    sink = BytesIO()
    with translating_errors(), connection.cursor() as cursor:
        cursor.copy_expert(COPY_ROWS.format(query=query), sink)
    # Checked after the read, which holds the table from its beginning.
    require_not_rewritten(connection, spec.source)
    frame = _read_csv(sink)
    if spec.duplicate_ids:
        ids = frame["source_id"].map(lambda text: str(UUID(text)))
        frame["id_duplicate"] = ids.isin(spec.duplicate_ids)
    return frame


def count_among(connection: Connection, source: SourceTable, ids: Sequence[str]) -> int:
    """Count the rows that have one of these ids."""
    query = _for_source(COUNT_AMONG, source, among=is_among(source, ids))
    with translating_errors(), connection.cursor() as cursor:
        cursor.execute(query)
        return int((cursor.fetchone() or [0])[0])


def list_ids(
    connection: Connection, source: SourceTable, since: str | None = None
) -> set[str]:
    """Return the ids of the rows stamped *since*, or of all, as PostgreSQL's text."""
    query = _for_source(LIST_IDS, source, changed=changed_since(source, since))
    with translating_errors(), connection.cursor("ids") as cursor:
        cursor.execute(query)
        return {source_id for (source_id,) in cursor}


def check_text_ids(connection: Connection, source: SourceTable) -> tuple[str, ...]:
    """Return the UUIDs that several text ids share; other ids are always unique.

    Raises:
        SourceError: a text id is not a UUID.
    """
    if source.id_kind != "text":
        return ()
    with translating_errors(), connection.cursor() as cursor:
        cursor.execute(_for_source(NOT_A_UUID, source))
        if wrong := cursor.fetchone():
            message = f"{source.name} has the id {wrong[0]!r}, which is not a UUID."
            raise SourceError(
                message, "Set SOURCE_ID_COLUMN to another; text ids must be UUIDs."
            )
        cursor.execute(_for_source(SAME_UUID, source))
        return tuple(str(UUID(digits)) for (digits,) in cursor.fetchall())


def timestamp_expression(
    column: str, source: SourceTable, *, zoneless: bool
) -> sql.Composable:
    """Return the SQL of a column as timestamptz, in the source's time zone.

    Values that no timestamptz can hold are NULL.
    """
    if not zoneless:
        return sql.Identifier(column)
    name = sql.Identifier(column)
    return sql.SQL("CASE WHEN {} THEN {}::timestamp AT TIME ZONE {} END").format(
        WITHIN.format(column=name), name, sql.Literal(source.timezone)
    )


def timestamp_text(
    column: str, source: SourceTable, *, zoneless: bool
) -> sql.Composable:
    """Return the SQL of a column's text in UTC; times beyond timestamptz are kept."""
    moment = timestamp_expression(column, source, zoneless=zoneless)
    if not zoneless:
        return sql.SQL("{}::text").format(moment)
    text = sql.SQL("{}::text").format(sql.Identifier(column))
    return sql.SQL("coalesce(({})::text, {})").format(moment, text)


def changed_since(source: SourceTable, since: str | None) -> sql.Composable:
    """Return the SQL condition that a row is stamped since a time, or has no stamp."""
    if since is None:
        return sql.SQL("true")
    created = timestamp_expression(
        source.created_column, source, zoneless=source.created_zoneless
    )
    updated = timestamp_expression(
        source.updated_column, source, zoneless=source.updated_zoneless
    )
    return sql.SQL("coalesce(greatest(({}), ({})) >= {}::timestamptz, true)").format(
        created, updated, sql.Literal(since)
    )


def is_among(source: SourceTable, ids: Sequence[str]) -> sql.Composable:
    """Return the SQL condition that a row has one of these ids."""
    return sql.SQL("{} = ANY ({})").format(
        sql.Identifier(source.id_column), _bound(list(ids), source, array="[]")
    )


def _for_source(
    template: sql.SQL, source: SourceTable, **more: sql.Composable
) -> sql.Composed:
    return template.format(
        table=sql.Identifier(source.schema, source.table),
        id=sql.Identifier(source.id_column),
        name=sql.Identifier(source.name_column),
        created=timestamp_expression(
            source.created_column, source, zoneless=source.created_zoneless
        ),
        updated=timestamp_expression(
            source.updated_column, source, zoneless=source.updated_zoneless
        ),
        created_text=timestamp_text(
            source.created_column, source, zoneless=source.created_zoneless
        ),
        updated_text=timestamp_text(
            source.updated_column, source, zoneless=source.updated_zoneless
        ),
        **more,
    )


def _bound(
    value: str | list[str] | None, source: SourceTable, array: str = ""
) -> sql.Composed:
    kind = sql.SQL(ID_TYPES[source.id_kind] + array)
    return sql.SQL("{}::{}").format(sql.Literal(value), kind)


def _read_csv(content: BytesIO) -> pd.DataFrame:
    size = content.tell()
    texts = pa.schema([(column, pa.large_string()) for column in SOURCE_COLUMNS])
    table = texts.empty_table()
    if size:
        table = csv.read_csv(
            pa.BufferReader(content.getbuffer()),
            # One block, since no row may exceed a block.
            csv.ReadOptions(
                use_threads=False, block_size=size, column_names=texts.names
            ),
            csv.ParseOptions(newlines_in_values=True),
            csv.ConvertOptions(
                column_types=texts,
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    columns = {name: table[name].to_numpy() for name in texts.names}
    return pd.DataFrame(columns, dtype=object)


def _doubtful_times(connection: Connection, source: SourceTable) -> tuple[str, ...]:
    zoneless = {
        source.created_column: source.created_zoneless,
        source.updated_column: source.updated_zoneless,
    }
    warnings = []
    for column in (name for name, without in zoneless.items() if without):
        query = _for_source(
            COUNT_DOUBTFUL_TIMES,
            source,
            column=sql.Identifier(column),
            zone=sql.Literal(source.timezone),
        )
        with translating_errors(), connection.cursor() as cursor:
            cursor.execute(query)
            never, twice = cursor.fetchone() or (0, 0)
        if never or twice:
            warnings.append(
                f"{column}: {never} local times do not exist and {twice} are ambiguous"
                f" in {source.timezone}; PostgreSQL's AT TIME ZONE resolved them."
            )
    return tuple(warnings)


def sample_ids(
    connection: Connection, source: SourceTable, rows: int
) -> tuple[str, ...]:
    """Return the ids of *rows* random rows."""
    query = SAMPLE_IDS.format(
        id=sql.Identifier(source.id_column),
        table=sql.Identifier(source.schema, source.table),
        rows=sql.Literal(rows),
    )
    with translating_errors(), connection.cursor() as cursor:
        cursor.execute(query)
        return tuple(str(source_id) for (source_id,) in cursor.fetchall())
