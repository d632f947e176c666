"""PostgreSQL to DataFrames: key ranges of one table, read under one snapshot."""

import logging
from dataclasses import dataclass
from uuid import UUID

import pandas as pd
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.errors import SourceError
from flows.models import SOURCE_COLUMNS, IdKind, PartitionSpec, SourceTable
from flows.stores.postgres import translated_errors

logger = logging.getLogger(__name__)

FETCH_ROWS = 10_000
ID_TYPES: dict[IdKind, str] = {"integer": "bigint", "uuid": "uuid", "text": "text"}

COUNT_ROWS = sql.SQL("SELECT count(*) FROM {table}")
# One pass over the key's index finds every bound exactly, whatever the gaps.
FIND_BOUNDS = sql.SQL("""
SELECT {id}::text FROM (
    SELECT {id}, row_number() OVER (ORDER BY {id}) AS position FROM {table}
) AS numbered
WHERE position %% %(rows)s = 0 ORDER BY position
""")
# The order is by source.id: a bare name would mean the output column, which is text.
READ_ROWS = sql.SQL("""
SELECT {id}::text, {name}, {created}::text, {updated}::text FROM {table} AS source
WHERE ({lower} IS NULL OR {id} > {lower}) AND ({upper} IS NULL OR {id} <= {upper})
ORDER BY source.{id}
""")
NOT_A_UUID = sql.SQL(r"""
SELECT {id}::text FROM {table}
WHERE {id}::text !~* '^(\{{[0-9a-f-]+\}}|[0-9a-f-]+)$'
   OR length(translate({id}::text, '{{}}-', '')) <> 32
LIMIT 1
""")
SAME_UUID = sql.SQL("""
SELECT translate(lower({id}::text), '{{}}-', '') AS digits FROM {table}
GROUP BY digits HAVING count(*) > 1
""")
# A local time that never was comes back from a round trip changed; one that was twice
# is also met an hour, or half an hour, away.
COUNT_DOUBTFUL_TIMES = sql.SQL("""
SELECT count(*) FILTER (WHERE instant AT TIME ZONE {zone} <> local),
       count(*) FILTER (WHERE EXISTS (
           SELECT FROM (VALUES ('1 hour'), ('-1 hour'), ('30 min'), ('-30 min')) d(away)
           WHERE (instant + away::interval) AT TIME ZONE {zone} = local))
FROM (SELECT {column}::timestamp AS local,
             {column}::timestamp AT TIME ZONE {zone} AS instant
      FROM {table} WHERE isfinite({column})) AS times
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
    def ranges(self) -> list[tuple[str | None, str | None]]:
        """Return each partition's exclusive lower and inclusive upper id."""
        if self.rows == 0:
            return []
        return list(zip((None, *self.bounds), (*self.bounds, None), strict=True))


def plan_extraction(
    connection: Connection, source: SourceTable, partition_rows: int
) -> ExtractionPlan:
    """Count the rows and find the bounds of partitions of *partition_rows* rows.

    Raises:
        SourceError: a text id is not a UUID.
    """
    with translated_errors(), connection.cursor() as cursor:
        cursor.execute(_for_source(COUNT_ROWS, source))
        rows = int((cursor.fetchone() or [0])[0])
        cursor.execute(_for_source(FIND_BOUNDS, source), {"rows": partition_rows})
        bounds = [str(bound) for (bound,) in cursor.fetchall()]
        if bounds and rows % partition_rows == 0:
            bounds.pop()
    duplicates = _check_text_ids(connection, source)
    warnings = _doubtful_times(connection, source)
    for warning in warnings:
        logger.warning("%s", warning)
    return ExtractionPlan(rows, tuple(bounds), duplicates, warnings)


def extract_enterprises(connection: Connection, spec: PartitionSpec) -> pd.DataFrame:
    """Read one partition into a DataFrame of the columns ``SOURCE_COLUMNS``.

    Every value is PostgreSQL's own text of it, or None for NULL: ids never become
    floats, and ``infinity``, BC and years above 9999 arrive as what they are.
    Timestamps are in UTC.
    """
    query = _for_source(
        READ_ROWS,
        spec.source,
        lower=_bound(spec.lower, spec.source),
        upper=_bound(spec.upper, spec.source),
    )
    rows: list[tuple[str | None, ...]] = []
    # A named cursor streams: without it libpq would hold the whole answer as well.
    with translated_errors(), connection.cursor(f"partition_{spec.number}") as cursor:
        cursor.execute(query)
        while chunk := cursor.fetchmany(FETCH_ROWS):
            rows.extend(chunk)
    frame = pd.DataFrame(rows, columns=list(SOURCE_COLUMNS), dtype=object)
    if spec.duplicate_ids:
        ids = frame["source_id"].map(lambda text: str(UUID(text)))
        frame["id_duplicate"] = ids.isin(spec.duplicate_ids)
    return frame


def timestamp_expression(
    column: str, source: SourceTable, *, zoneless: bool
) -> sql.Composable:
    """Return the SQL of a column as timestamptz, by the source's time zone."""
    if not zoneless:
        return sql.Identifier(column)
    return sql.SQL("({}::timestamp AT TIME ZONE {})").format(
        sql.Identifier(column), sql.Literal(source.timezone)
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
        **more,
    )


def _bound(value: str | None, source: SourceTable) -> sql.Composed:
    kind = sql.SQL(ID_TYPES[source.id_kind])
    return sql.SQL("{}::{}").format(sql.Literal(value), kind)


def _check_text_ids(connection: Connection, source: SourceTable) -> tuple[str, ...]:
    if source.id_kind != "text":
        return ()
    with translated_errors(), connection.cursor() as cursor:
        cursor.execute(_for_source(NOT_A_UUID, source))
        if wrong := cursor.fetchone():
            message = f"{source.name} has the id {wrong[0]!r}, which is not a UUID."
            raise SourceError(
                message, "Text ids must be UUIDs; set SOURCE_ID_COLUMN to another."
            )
        cursor.execute(_for_source(SAME_UUID, source))
        return tuple(str(UUID(digits)) for (digits,) in cursor.fetchall())


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
        with translated_errors(), connection.cursor() as cursor:
            cursor.execute(query)
            never, twice = cursor.fetchone() or (0, 0)
        if never or twice:
            warnings.append(
                f"{column}: {never} local times never were and {twice} were twice in"
                f" {source.timezone}; PostgreSQL's AT TIME ZONE decided."
            )
    return tuple(warnings)
