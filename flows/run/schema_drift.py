"""The changes of the source since the last run: its columns, and its row count.

A mapped column that changed would silently move other values than before, so the run
stops before its first write. All other changes are reported.
"""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, TypeAlias

from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.errors import SchemaChanged
from flows.mapping.model import CREATED, ENTERPRISE, UPDATED
from flows.models import SourceTable
from flows.settings import Settings
from flows.state.runs import State
from flows.stores.postgres.session import translating_errors
from validation.contract import USUAL_ROW_CHANGE, Reason

# Schema and name of a table.
TableName: TypeAlias = tuple[str, str]

READ_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod)
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""


def source_key(settings: Settings, table: TableName, entity: str = ENTERPRISE) -> str:
    """Return the digest that identifies the runs of one entity's source table."""
    arguments = settings.source_arguments()
    parts = [str(arguments.get(key)) for key in ("host", "port", "dbname", "service")]
    parts += [*table] if entity == ENTERPRISE else [*table, entity]
    return sha256("\0".join(parts).encode()).hexdigest()


def key_of_source(settings: Settings, source: SourceTable) -> str:
    """Return the digest that identifies the runs of a source."""
    return source_key(settings, (source.schema, source.table), source.entity)


def require_same_types(
    connection: Connection,
    settings: Settings,
    state: State,
    table: TableName,
    entity: str,
) -> None:
    """Refuse a table in which a column that the last run moved has changed.

    Raises:
        SchemaChanged: a column is gone, or has another type.
    """
    last = state.source.last_columns(source_key(settings, table, entity))
    if last is None:
        return
    run_id, known = last
    now = read_columns(connection, table)
    mapped: Mapping[str, str] = known["mapped"]
    old = {column: known["types"][column] for column in mapped.values()}
    changed = [
        f"{column} was {kind} and is {now.get(column, 'gone')}"
        for column, kind in old.items()
        if now and now.get(column) != kind
    ]
    if changed:
        raise _make_changed_error(run_id, table, changed)


def require_same_mapping(source: SourceTable, settings: Settings, state: State) -> None:
    """Refuse a source in which a role has another column than in the last run.

    Raises:
        SchemaChanged: a column has the role of another one.
    """
    last = state.source.last_columns(key_of_source(settings, source))
    if last is None:
        return
    run_id, known = last
    old: Mapping[str, str] = known["mapped"]
    changed = [
        f"the {role} column was {old[role]} and is {column}"
        for role, column in mapped_columns(source).items()
        if old.get(role, column) != column
    ]
    if changed:
        raise _make_changed_error(run_id, (source.schema, source.table), changed)


def read_columns(connection: Connection, table: TableName) -> dict[str, str]:
    """Return the table's columns and their types, in order; none if it is gone."""
    with translating_errors(), connection.cursor() as cursor:
        cursor.execute(READ_COLUMNS, table)
        return {str(name): str(kind) for name, kind in cursor.fetchall()}


def mapped_columns(source: SourceTable) -> dict[str, str]:
    """Return the column of each role: id, name, times, and other attributes."""
    roles = {CREATED: "created", UPDATED: "updated"}
    named = source.name_field
    fields = {
        "name" if one is named else roles.get(one.name, one.name): one.column
        for one in source.fields
    }
    return {"id": source.id_column, **fields}


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


def unusual_rows(rows: int, last: Mapping[str, Any] | None) -> Iterator[str]:
    """Return a warning if there are far more or fewer rows than in the last run."""
    if last is not None and abs(rows - last["rows"]) > last["rows"] * USUAL_ROW_CHANGE:
        reason = Reason.ROW_COUNT_UNUSUAL.value
        yield f"{reason}: {rows:,} rows, and {last['rows']:,} in the last run."


def _make_changed_error(
    run_id: str, table: TableName, changed: Sequence[str]
) -> SchemaChanged:
    name = ".".join(table)
    message = f"{name} is not as run {run_id} read it: {'; '.join(changed)}."
    remedy = "Restore the column, name another, or accept the change (--accept-schema)."
    return SchemaChanged(message, remedy)
