"""The changes of the source since the last run: its columns, and its rows' profile.

A mapped column that changed would silently move other values than before, so the run
stops before its first write. All other changes are reported.
"""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.errors import SchemaChanged
from flows.extract import timestamp_expression
from flows.models import SourceTable
from flows.settings import Settings
from flows.state.runs import State
from flows.stores.postgres.session import split_table_name, translating_errors
from validation.contract import (
    SQL_VISIBLE_CHARACTER_PATTERN,
    USUAL_ROW_CHANGE,
    Reason,
)

# A share of NULLs that rises or falls by more than this is reported.
USUAL_NULL_CHANGE = 0.05
ROLES = ("id", "name", "created", "updated")

READ_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod)
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""
# Names are compared byte by byte, regardless of the column's collation.
READ_PROFILE = sql.SQL("""
SELECT count(*),
       count(*) FILTER (WHERE {name} IS NULL),
       count(*) FILTER (WHERE {name}::text COLLATE "C" !~ {visible}),
       count(*) FILTER (WHERE {created} IS NULL),
       count(*) FILTER (WHERE {updated} IS NULL),
       min(length({name}::text)), max(length({name}::text)),
       round(avg(length({name}::text)), 1)::float8,
       min({created_at})::text, max({created_at})::text,
       min({updated_at})::text, max({updated_at})::text,
       (SELECT coalesce(sum(copies), 0) FROM (
           SELECT count(*) AS copies FROM {table} WHERE {name} IS NOT NULL
           GROUP BY {name}::text COLLATE "C"
           HAVING count(*) > 1 AND {name}::text COLLATE "C" ~ {visible}) AS twins)
FROM {table}
""")
MEASURES = (
    "rows",
    "name_null",
    "name_blank",
    "created_null",
    "updated_null",
    "name_shortest",
    "name_longest",
    "name_average",
    "created_first",
    "created_last",
    "updated_first",
    "updated_last",
    "name_duplicate",
)
NULLS = ("name_null", "created_null", "updated_null")


def source_key(settings: Settings) -> str:
    """Return the digest that identifies the runs of one source table."""
    arguments = settings.source_arguments()
    parts = [str(arguments.get(key)) for key in ("host", "port", "dbname", "service")]
    table = split_table_name(settings.source_table)
    return sha256("\0".join([*parts, *table]).encode()).hexdigest()


def require_same_types(
    connection: Connection, settings: Settings, state: State
) -> None:
    """Refuse a source in which a column that the last run moved has changed.

    Raises:
        SchemaChanged: a column is gone, or has another type.
    """
    last = state.source.last_columns(source_key(settings))
    if last is None:
        return
    run_id, known = last
    now = read_columns(connection, settings)
    mapped: Mapping[str, str] = known["mapped"]
    old = {column: known["types"][column] for column in mapped.values()}
    changed = [
        f"{column} was {kind} and is {now.get(column, 'gone')}"
        for column, kind in old.items()
        if now and now.get(column) != kind
    ]
    if changed:
        raise _make_changed_error(run_id, settings, changed)


def require_same_mapping(source: SourceTable, settings: Settings, state: State) -> None:
    """Refuse a source in which a role has another column than in the last run.

    Raises:
        SchemaChanged: a column has the role of another one.
    """
    last = state.source.last_columns(source_key(settings))
    if last is None:
        return
    run_id, known = last
    old: Mapping[str, str] = known["mapped"]
    changed = [
        f"the {role} column was {old[role]} and is {column}"
        for role, column in mapped_columns(source).items()
        if old[role] != column
    ]
    if changed:
        raise _make_changed_error(run_id, settings, changed)


def read_columns(connection: Connection, settings: Settings) -> dict[str, str]:
    """Return the table's columns and their types, in order; none if it is gone."""
    with translating_errors(), connection.cursor() as cursor:
        cursor.execute(READ_COLUMNS, split_table_name(settings.source_table))
        return {str(name): str(kind) for name, kind in cursor.fetchall()}


def mapped_columns(source: SourceTable) -> dict[str, str]:
    """Return the column of each role."""
    return {role: str(getattr(source, f"{role}_column")) for role in ROLES}


def other_columns_changed(
    now: Mapping[str, str], last: tuple[str, Mapping[str, Any]] | None
) -> tuple[str, ...]:
    """Return a sentence for each unmapped column that was added or dropped."""
    if last is None:
        return ()
    run_id, known = last
    types, mapped = known["types"], set(known["mapped"].values())
    come = [name for name in now if name not in types]
    gone = [name for name in types if name not in now and name not in mapped]
    return (
        *(f"Column {c} ({now[c]}) was added since run {run_id}." for c in come),
        *(f"Column {c} ({types[c]}) was dropped since run {run_id}." for c in gone),
    )


def read_profile(connection: Connection, source: SourceTable) -> dict[str, Any]:
    """Measure the rows: counts, NULLs, lengths and ranges, under the run's snapshot."""
    columns = {role: sql.Identifier(c) for role, c in mapped_columns(source).items()}
    created = timestamp_expression(
        source.created_column, source, zoneless=source.created_zoneless
    )
    updated = timestamp_expression(
        source.updated_column, source, zoneless=source.updated_zoneless
    )
    query = READ_PROFILE.format(
        table=sql.Identifier(source.schema, source.table),
        name=columns["name"],
        created=columns["created"],
        updated=columns["updated"],
        visible=sql.Literal(_visible_pattern(connection)),
        created_at=created,
        updated_at=updated,
    )
    with translating_errors(), connection.cursor() as cursor:
        cursor.execute(query)
        row: Sequence[Any] = cursor.fetchone() or [None] * len(MEASURES)
    profile = dict(zip(MEASURES, row, strict=True))
    return profile | {"name_duplicate": int(profile["name_duplicate"])}


def _visible_pattern(connection: Connection) -> str:
    """Return the pattern of a name that is not blank; approximate outside of UTF-8."""
    encoding = connection.get_parameter_status("server_encoding")
    return SQL_VISIBLE_CHARACTER_PATTERN if encoding == "UTF8" else "[^[:space:]]"


def unusual_rows(rows: int, last: Mapping[str, Any] | None) -> Iterator[str]:
    """Return a warning if there are far more or fewer rows than in the last run."""
    if last is not None and abs(rows - last["rows"]) > last["rows"] * USUAL_ROW_CHANGE:
        reason = Reason.ROW_COUNT_UNUSUAL.value
        yield f"{reason}: {rows:,} rows, and {last['rows']:,} in the last run."


def unusual_values(
    now: Mapping[str, Any], last: Mapping[str, Any] | None
) -> Iterator[str]:
    """Return a sentence for each measure that differs from the last run."""
    if last is None or not (now["rows"] and last["rows"]):
        return
    for name in NULLS:
        share, before = now[name] / now["rows"], last[name] / last["rows"]
        if abs(share - before) > USUAL_NULL_CHANGE:
            column = name.removesuffix("_null")
            yield f"{share:.1%} of {column} are NULL, and {before:.1%} in the last run."
    if (now["name_longest"] or 0) > 2 * (last["name_longest"] or 0):
        was = last["name_longest"] or 0
        yield f"The longest name has {now['name_longest']:,} characters, not {was:,}."


def _make_changed_error(
    run_id: str, settings: Settings, changed: Sequence[str]
) -> SchemaChanged:
    message = (
        f"{settings.source_table} is not as run {run_id} read it: {'; '.join(changed)}."
    )
    remedy = "Restore the column, name another, or accept the change (--accept-schema)."
    return SchemaChanged(message, remedy)
