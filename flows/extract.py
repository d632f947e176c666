"""PostgreSQL to DataFrames: key ranges of one table, read under one snapshot."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from io import BytesIO
from uuid import UUID

import pandas as pd
import pyarrow as pa
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812
from pyarrow import csv

from flows.errors import SourceError
from flows.models import (
    ID_DUPLICATE,
    KEY_DUPLICATE,
    REFERENCE_MISSING,
    Key,
    PartitionSpec,
    SourceTable,
)
from flows.stores.postgres.conditions import (
    changed_since,
    field_text,
    has_key_among,
    id_literal,
    is_among,
    key_texts,
    meets,
    reference_missing,
)
from flows.stores.postgres.session import translating_errors
from flows.stores.postgres.snapshots import require_not_rewritten

logger = logging.getLogger(__name__)

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
SELECT {columns} FROM {table} AS source
WHERE ({lower} IS NULL OR {id} > {lower}) AND ({upper} IS NULL OR {id} <= {upper})
  AND ({ids} IS NULL OR {id} = ANY ({ids})) AND {changed}
ORDER BY source.{id}
""")
# In CSV an empty name is quoted and NULL is not, so no value can be read as NULL.
COPY_ROWS = sql.SQL("COPY ({query}) TO STDOUT (FORMAT csv)")
COUNT_AMONG = sql.SQL("SELECT count(*) FROM {table} WHERE {among}")
LIST_AMONG = sql.SQL("SELECT {id}::text FROM {table} WHERE {among}")
SAMPLE_IDS = sql.SQL("""
SELECT {id}::text FROM {table} WHERE {meets} ORDER BY random() LIMIT {rows}
""")
LIST_IDS = sql.SQL("SELECT {id}::text FROM {table} WHERE {changed}")
# A nondeterministic collation does not support regular expressions, and treats some
# different texts as equal.
NOT_A_UUID = sql.SQL(r"""
SELECT {id}::text FROM {table}
WHERE ({id}::text COLLATE "C" !~* '^(\{{[0-9a-f-]+\}}|[0-9a-f-]+)$'
   OR length(translate({id}::text, '{{}}-', '')) <> 32) AND {meets}
LIMIT 1
""")
SAME_UUID = sql.SQL("""
SELECT translate(lower({id}::text COLLATE "C"), '{{}}-', '') AS digits FROM {table}
WHERE {meets} GROUP BY digits HAVING count(*) > 1
""")
SAME_KEY = sql.SQL("""
SELECT {partition_key} AS one, {sort_key} AS other FROM {table} WHERE {meets}
GROUP BY one, other HAVING count({partition_key} || {sort_key}) > 1
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
                    AND {column} < DATE '10000-01-01' AND {meets}) AS times) AS offsets
      WHERE before <> after) AS doubtful
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
    duplicate_keys: frozenset[Key] = frozenset()

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
    keys = find_duplicate_keys(connection, source)
    return ExtractionPlan(rows, tuple(bounds), duplicates, warnings, keys)


def extract_enterprises(connection: Connection, spec: PartitionSpec) -> pd.DataFrame:
    """Read one partition into a DataFrame of the columns of its source.

    Every value is PostgreSQL's text of it, or None for NULL: ids never become floats,
    and ``infinity``, BC and years above 9999 arrive unchanged. Timestamps are in UTC.
    Columns of booleans flag rows that share an id or a key with others, and rows whose
    references have no row.

    Raises:
        SnapshotLost: the table was rewritten after the session's snapshot.
    """
    source = spec.source
    flags = _flags(spec)
    source_id = sql.SQL("{}::text").format(sql.Identifier(source.id_column))
    columns = [source_id, *(field_text(one, source) for one in source.fields)]
    query = _for_source(
        READ_ROWS,
        source,
        columns=sql.SQL(", ").join([*columns, *flags.values()]),
        lower=id_literal(spec.lower, source),
        upper=id_literal(spec.upper, source),
        ids=id_literal(None if spec.ids is None else list(spec.ids), source, "[]"),
        changed=changed_since(source, spec.since),
    )
    # COPY streams, and takes a third of the CPU time of a cursor.
    sink = BytesIO()
    with translating_errors(), connection.cursor() as cursor:
        cursor.copy_expert(COPY_ROWS.format(query=query), sink)
    # Checked after the read, which holds the table from its beginning.
    require_not_rewritten(connection, source)
    frame = _read_csv(sink, [*source.columns, *flags])
    for name in flags:
        frame[name] = frame[name] == "t"
    if spec.duplicate_ids:
        ids = frame["source_id"].map(lambda text: str(UUID(text)))
        frame[ID_DUPLICATE] = ids.isin(spec.duplicate_ids)
    return frame


def _flags(spec: PartitionSpec) -> dict[str, sql.Composable]:
    """Return the conditions that rows are flagged for, by the columns of the flags."""
    flags = {
        REFERENCE_MISSING + one.name: reference_missing(one)
        for one in spec.source.references
    }
    if spec.duplicate_keys:
        shared = has_key_among(spec.source, spec.duplicate_keys)
        flags[KEY_DUPLICATE] = sql.SQL("coalesce({}, false)").format(shared)
    return flags


def count_among(connection: Connection, source: SourceTable, ids: Sequence[str]) -> int:
    """Count the rows that have one of these ids."""
    query = _for_source(COUNT_AMONG, source, among=is_among(source, ids))
    with translating_errors(), connection.cursor() as cursor:
        cursor.execute(query)
        return int((cursor.fetchone() or [0])[0])


def find_existing(
    connection: Connection, source: SourceTable, ids: Collection[str]
) -> set[str]:
    """Return which of these ids rows have, as PostgreSQL's text."""
    if not ids:
        return set()
    return _list_among(connection, source, is_among(source, sorted(ids)))


def find_rows_with_keys(
    connection: Connection, source: SourceTable, keys: Collection[Key]
) -> set[str]:
    """Return the ids of the rows that have one of these ``key_texts``."""
    if not keys:
        return set()
    return _list_among(connection, source, has_key_among(source, keys))


def _list_among(
    connection: Connection, source: SourceTable, among: sql.Composable
) -> set[str]:
    with translating_errors(), connection.cursor() as cursor:
        cursor.execute(_for_source(LIST_AMONG, source, among=among))
        return {str(source_id) for (source_id,) in cursor.fetchall()}


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
        cursor.execute(_for_source(NOT_A_UUID, source, meets=meets(source)))
        if wrong := cursor.fetchone():
            message = f"{source.name} has the id {wrong[0]!r}, which is not a UUID."
            raise SourceError(
                message, "Set SOURCE_ID_COLUMN to another; text ids must be UUIDs."
            )
        cursor.execute(_for_source(SAME_UUID, source, meets=meets(source)))
        return tuple(str(UUID(digits)) for (digits,) in cursor.fetchall())


def find_duplicate_keys(connection: Connection, source: SourceTable) -> frozenset[Key]:
    """Return the ``key_texts`` that several rows share; keys with an id are unique."""
    if source.has_unique_keys:
        return frozenset()
    partition_key, sort_key = key_texts(source)
    query = _for_source(
        SAME_KEY,
        source,
        partition_key=partition_key,
        sort_key=sort_key,
        meets=meets(source),
    )
    with translating_errors(), connection.cursor() as cursor:
        cursor.execute(query)
        return frozenset((str(one), str(other)) for one, other in cursor.fetchall())


def _for_source(
    template: sql.SQL, source: SourceTable, **more: sql.Composable
) -> sql.Composed:
    return template.format(
        table=sql.Identifier(source.schema, source.table),
        id=sql.Identifier(source.id_column),
        **more,
    )


def _read_csv(content: BytesIO, names: Sequence[str]) -> pd.DataFrame:
    size = content.tell()
    texts = pa.schema([(column, pa.large_string()) for column in names])
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
    warnings = []
    zoneless = (one.column for one in source.fields if one.zoneless)
    for column in dict.fromkeys(zoneless):
        query = _for_source(
            COUNT_DOUBTFUL_TIMES,
            source,
            column=sql.Identifier(column),
            zone=sql.Literal(source.timezone),
            meets=meets(source),
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
    query = _for_source(SAMPLE_IDS, source, rows=sql.Literal(rows), meets=meets(source))
    with translating_errors(), connection.cursor() as cursor:
        cursor.execute(query)
        return tuple(str(source_id) for (source_id,) in cursor.fetchall())
