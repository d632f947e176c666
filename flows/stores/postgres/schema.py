"""Tables of the source: which columns they have, and what cannot be migrated."""

from collections.abc import Mapping
from typing import Any

from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.errors import (
    SettingsError,
    SourceError,
)
from flows.models import IdKind, SourceTable
from flows.settings import Settings
from flows.settings.libpq import quote_name
from flows.stores.postgres.session import split_table_name, translating_errors

CANDIDATES = {
    "id": ("id", "enterprise_id"),
    "name": ("enterprise_name", "name"),
    "created": ("created_date", "created_at", "creation_date"),
    "updated": ("updated_date", "updated_at", "last_update_date"),
}
ID_KINDS: dict[str, IdKind] = {
    "int2": "integer",
    "int4": "integer",
    "int8": "integer",
    "uuid": "uuid",
    "text": "text",
    "varchar": "text",
    "bpchar": "text",
}
NAME_TYPES = frozenset({"text", "varchar", "bpchar", "citext"})
ZONELESS_TYPES = frozenset({"timestamp", "date"})
FIND_TABLE = """
SELECT c.oid, c.relkind, row_security_active(c.oid),
       EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid),
       has_schema_privilege(n.oid, 'USAGE')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s
"""
NAMESAKES = """
SELECT format('%%I.%%I', n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND lower(c.relname) = lower(%s)
ORDER BY 1 LIMIT 5
"""
# A domain may be based on another; older rows may violate a NOT NULL that is not valid.
FIND_COLUMNS = """
SELECT a.attname, base.typname, a.attnotnull AND EXISTS (
         SELECT FROM pg_index i
         WHERE i.indrelid = a.attrelid AND i.indisunique AND i.indisvalid
           AND i.indpred IS NULL AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum)
         AND NOT EXISTS (
         SELECT FROM pg_constraint n
         WHERE n.conrelid = a.attrelid AND n.contype = 'n' AND NOT n.convalidated
           AND n.conkey[1] = a.attnum),
       has_column_privilege(a.attrelid, a.attnum, 'SELECT')
FROM pg_attribute a CROSS JOIN LATERAL (
    WITH RECURSIVE types AS (
        SELECT typname, typbasetype FROM pg_type WHERE oid = a.atttypid
        UNION ALL
        SELECT t.typname, t.typbasetype
        FROM pg_type t JOIN types d ON t.oid = d.typbasetype
    )
    SELECT typname FROM types WHERE typbasetype = 0
) base
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""
# A partition's foreign key is its parent's.
FIND_REFERRERS = """
SELECT format('%%I.%%I (%%s)', n.nspname, c.relname, (
           SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.place)
           FROM unnest(f.conkey) WITH ORDINALITY AS k (attnum, place)
           JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.attnum))
FROM pg_constraint f
JOIN pg_class c ON c.oid = f.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE f.contype = 'f' AND f.confrelid = %s AND f.conparentid = 0
ORDER BY n.nspname, c.relname, f.conname
"""
FIND_TIME_ZONE = """
SELECT EXISTS (SELECT FROM pg_timezone_names WHERE name = %(zone)s),
       EXISTS (SELECT FROM pg_timezone_abbrevs
               WHERE abbrev = %(zone)s AND abbrev NOT IN ('GMT', 'UCT', 'UTC'))
"""


def describe_source(
    connection: Connection, settings: Settings, *, whole: bool = True
) -> SourceTable:
    """Find the source table and its columns; refuse a table that cannot be proven.

    Unless the table must be *whole*, some of its rows may be hidden.

    Raises:
        SourceError: the table is missing, inherited, filtered by row-level security,
            has no unique not-null id, or lacks a column of a usable type.
        SettingsError: two columns fit where one is needed, or a zoneless timestamp
            has no ``SOURCE_TIMEZONE``.
    """
    schema, table = split_table_name(settings.source_table)
    with connection.cursor() as cursor:
        _require_unicode(cursor)
        oid = _find_table(cursor, schema, table, whole=whole)
        cursor.execute(FIND_COLUMNS, [oid])
        found = {str(row[0]): row[1:] for row in cursor.fetchall()}
        chosen = _choose_columns(found, settings)
        zoneless = _check_types(cursor, chosen, found, (schema, table))
        if any(zoneless.values()):
            _require_time_zone(cursor, settings.source_timezone, zoneless)
        cursor.execute(FIND_REFERRERS, [oid])
        referrers = tuple(str(name) for (name,) in cursor.fetchall())
    return SourceTable(
        schema=schema,
        table=table,
        id_column=chosen["id"],
        name_column=chosen["name"],
        created_column=chosen["created"],
        updated_column=chosen["updated"],
        id_kind=ID_KINDS[found[chosen["id"]][0]],
        created_zoneless=zoneless[chosen["created"]],
        updated_zoneless=zoneless[chosen["updated"]],
        timezone=settings.source_timezone,
        columns_not_migrated=tuple(c for c in found if c not in chosen.values()),
        referring_tables=referrers,
    )


def find_columns(connection: Connection, settings: Settings) -> dict[str, str]:
    """Return the columns of the source table and their types, in its order.

    Raises:
        SourceError: the table is missing, inherited, or not a table.
        SettingsError: ``SOURCE_TABLE`` is not a table name.
    """
    schema, table = split_table_name(settings.source_table)
    with translating_errors(), connection.cursor() as cursor:
        oid = _find_table(cursor, schema, table, whole=False)
        cursor.execute(FIND_COLUMNS, [oid])
        return {str(row[0]): str(row[1]) for row in cursor.fetchall()}


def _require_unicode(cursor: Any) -> None:
    cursor.execute("SHOW server_encoding")
    encoding = cursor.fetchone()[0]
    if encoding == "SQL_ASCII":
        message = "The database's encoding is SQL_ASCII: its bytes have no meaning."
        raise SourceError(message, "Restore it into a database with encoding UTF8.")


def hides_rows(connection: Connection, source: SourceTable) -> bool:
    """Return whether row-level security hides rows of the table from this role."""
    with translating_errors(), connection.cursor() as cursor:
        cursor.execute(FIND_TABLE, [source.schema, source.table])
        _, _, filtered, *_ = cursor.fetchone() or (0, "", False)
    return bool(filtered)


def _find_table(cursor: Any, schema: str, table: str, *, whole: bool) -> int:
    name = f"{schema}.{table}"
    cursor.execute(FIND_TABLE, [schema, table])
    row = cursor.fetchone()
    if row is None:
        cursor.execute(NAMESAKES, [table])
        others = ", ".join(other for (other,) in cursor.fetchall()) or "none"
        message = f"The table {name} is not in this database."
        raise SourceError(message, f"Set SOURCE_TABLE; tables of this name: {others}.")
    oid, kind, filtered, has_children, usable = row
    if not usable:
        message = f"PostgreSQL refused: permission denied for schema {schema}."
        grant = f"GRANT USAGE ON SCHEMA {quote_name(schema)} TO {_role(cursor)};"
        raise SourceError(message, grant)
    if kind not in {"r", "p"}:
        message = f"{name} is not a table, so nothing makes its ids unique."
        raise SourceError(message, "Set SOURCE_TABLE to the table behind it.")
    if has_children and kind == "r":
        message = f"{name} has inherited tables, whose rows may repeat its ids."
        raise SourceError(message, "Move the rows into one table, or migrate each.")
    if filtered and whole:
        message = f"Row-level security hides rows of {name} from this role."
        raise SourceError(message, "Use a role with BYPASSRLS, or the table's owner.")
    return int(oid)


def _choose_columns(
    found: Mapping[str, tuple[Any, ...]], settings: Settings
) -> dict[str, str]:
    chosen = {}
    for role, candidates in CANDIDATES.items():
        variable = f"source_{role}_column"
        wanted = getattr(settings, variable)
        fitting = [c for c in ((wanted,) if wanted else candidates) if c in found]
        if len(fitting) > 1:
            message = f"Both {' and '.join(fitting)} may be the {role} column."
            raise SettingsError(message, f"Set {variable.upper()} to one of them.")
        if not fitting:
            looked = wanted or " or ".join(candidates)
            message = f"{settings.source_table} has no column {looked}."
            remedy = f"Set {variable.upper()}; the columns are: {', '.join(found)}."
            raise SourceError(message, remedy)
        chosen[role] = fitting[0]
    if len(set(chosen.values())) < len(chosen):
        message = f"One column has two roles: {chosen}."
        raise SettingsError(message, "Set each SOURCE_*_COLUMN to another column.")
    return chosen


def _role(cursor: Any) -> str:
    return quote_name(cursor.connection.info.user)


def _check_types(
    cursor: Any,
    chosen: Mapping[str, str],
    found: Mapping[str, tuple[Any, ...]],
    names: tuple[str, str],
) -> dict[str, bool]:
    table, quoted = ".".join(names), ".".join(map(quote_name, names))
    allowed = {
        "id": frozenset(ID_KINDS),
        "name": NAME_TYPES,
        "created": ZONELESS_TYPES | {"timestamptz"},
        "updated": ZONELESS_TYPES | {"timestamptz"},
    }
    for role, column in chosen.items():
        type_name, is_key, readable = found[column]
        if type_name not in allowed[role]:
            message = f"Column {column} of {table} has type {type_name}."
            types = ", ".join(sorted(allowed[role]))
            remedy = f"Choose a {role} column whose type is one of {types}."
            raise SourceError(message, remedy)
        if not readable:
            message = f"This role may not read column {column} of {table}."
            raise SourceError(message, f"GRANT SELECT ON {quoted} TO {_role(cursor)};")
        if role == "id" and not is_key:
            message = f"Column {column} of {table} is not a unique, not-null key."
            add = f"ADD PRIMARY KEY ({quote_name(column)})"
            raise SourceError(message, f"ALTER TABLE {quoted} {add};")
    return {c: found[c][0] in ZONELESS_TYPES for c in chosen.values()}


def _require_time_zone(
    cursor: Any,
    timezone: str | None,
    zoneless: Mapping[str, bool],
) -> None:
    columns = ", ".join(column for column, without in zoneless.items() if without)
    remedy = "Set SOURCE_TIMEZONE to the zone in which they were written, e.g. UTC."
    if timezone is None:
        message = f"The times in {columns} have no time zone."
        raise SettingsError(message, remedy)
    cursor.execute(FIND_TIME_ZONE, {"zone": timezone})
    known, abbreviation = cursor.fetchone()
    if not known:
        message = f"SOURCE_TIMEZONE {timezone!r} is not known to PostgreSQL."
        raise SettingsError(message, remedy)
    if abbreviation:
        # AT TIME ZONE reads CET as one offset, also in summer; SET TIME ZONE does not.
        message = (
            f"SOURCE_TIMEZONE {timezone!r} is an abbreviation without summer time."
        )
        raise SettingsError(message, "Name a place, e.g. Europe/Paris, or Etc/GMT-1.")
