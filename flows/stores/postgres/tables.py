"""Tables as the catalogue has them; a table that cannot be proven is refused."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flows.errors import SettingsError, SourceError
from flows.settings.libpq import quote_name
from flows.stores.postgres.columns import Column, read_columns

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
# A partition's foreign key is its parent's.
FIND_REFERRERS = """
SELECT c.oid, k.columns, format('%%I.%%I (%%s)', n.nspname, c.relname, k.quoted)
FROM pg_constraint f
JOIN pg_class c ON c.oid = f.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT array_agg(a.attname::text ORDER BY u.place) AS columns,
           string_agg(quote_ident(a.attname), ', ' ORDER BY u.place) AS quoted
    FROM unnest(f.conkey) WITH ORDINALITY AS u (attnum, place)
    JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = u.attnum) k
WHERE f.contype = 'f' AND f.confrelid = %s AND f.conparentid = 0
ORDER BY n.nspname, c.relname, f.conname
"""
FIND_TIME_ZONE = """
SELECT EXISTS (SELECT FROM pg_timezone_names WHERE name = %(zone)s),
       EXISTS (SELECT FROM pg_timezone_abbrevs
               WHERE abbrev = %(zone)s AND abbrev NOT IN ('GMT', 'UCT', 'UTC'))
"""


@dataclass(frozen=True)
class FoundTable:
    """A table with its columns; *filtered* is whether row security hides rows."""

    schema: str
    table: str
    oid: int
    filtered: bool
    columns: Mapping[str, Column]

    @property
    def name(self) -> str:
        """Return the table's name with its schema."""
        return f"{self.schema}.{self.table}"

    @property
    def quoted(self) -> str:
        """Return the table's name as SQL needs it."""
        return f"{quote_name(self.schema)}.{quote_name(self.table)}"


@dataclass(frozen=True)
class Referrer:
    """A foreign key to a table: its table, its columns, and both for display."""

    oid: int
    columns: tuple[str, ...]
    shown: str


def require_unicode(cursor: Any) -> None:
    """Refuse a database whose bytes have no characters.

    Raises:
        SourceError: its encoding is SQL_ASCII.
    """
    cursor.execute("SHOW server_encoding")
    encoding = cursor.fetchone()[0]
    if encoding == "SQL_ASCII":
        message = "The database's encoding is SQL_ASCII: its bytes have no meaning."
        raise SourceError(message, "Restore it into a database with encoding UTF8.")


def find_table(
    cursor: Any, names: tuple[str, str], key: str, *, whole: bool = True
) -> FoundTable:
    """Find a table and its columns; *key* is the setting that names it.

    Unless the table must be *whole*, some of its rows may be hidden.

    Raises:
        SourceError: the table is missing, not a table, inherited, or filtered by
            row-level security, or its schema may not be used.
    """
    schema, table = names
    name = f"{schema}.{table}"
    cursor.execute(FIND_TABLE, names)
    row = cursor.fetchone()
    if row is None:
        cursor.execute(NAMESAKES, [table])
        others = ", ".join(other for (other,) in cursor.fetchall()) or "none"
        message = f"The table {name} is not in this database."
        raise SourceError(message, f"Set {key}; tables of this name: {others}.")
    oid, kind, filtered, has_children, usable = row
    if not usable:
        message = f"PostgreSQL refused: permission denied for schema {schema}."
        grant = f"GRANT USAGE ON SCHEMA {quote_name(schema)} TO {role_of(cursor)};"
        raise SourceError(message, grant)
    if kind not in {"r", "p"}:
        message = f"{name} is not a table, so nothing makes its ids unique."
        raise SourceError(message, f"Set {key} to the table behind it.")
    if has_children and kind == "r":
        message = f"{name} has inherited tables, whose rows may repeat its ids."
        raise SourceError(message, "Move the rows into one table, or migrate each.")
    if filtered and whole:
        message = f"Row-level security hides rows of {name} from this role."
        raise SourceError(message, "Use a role with BYPASSRLS, or the table's owner.")
    return FoundTable(schema, table, int(oid), filtered, read_columns(cursor, oid))


def find_referrers(cursor: Any, table: FoundTable) -> list[Referrer]:
    """Return the foreign keys to a table, by their tables' names."""
    cursor.execute(FIND_REFERRERS, [table.oid])
    return [
        Referrer(int(oid), tuple(columns), str(shown))
        for oid, columns, shown in cursor.fetchall()
    ]


def require_readable(cursor: Any, table: FoundTable, columns: Iterable[str]) -> None:
    """Refuse columns that this role may not read.

    Raises:
        SourceError: a column may not be read; the remedy is the GRANT.
    """
    for name in columns:
        if not table.columns[name].readable:
            message = f"This role may not read column {name} of {table.name}."
            raise SourceError(message, grant_select(cursor, table))


def grant_select(cursor: Any, table: FoundTable) -> str:
    """Return the statement that lets this role read a table."""
    return f"GRANT SELECT ON {table.quoted} TO {role_of(cursor)};"


def require_key(table: FoundTable, column: str) -> None:
    """Refuse an id that may be NULL or occur twice.

    Raises:
        SourceError: the column is not a unique, not-null key.
    """
    if not table.columns[column].is_key:
        message = f"Column {column} of {table.name} is not a unique, not-null key."
        add = f"ADD PRIMARY KEY ({quote_name(column)})"
        raise SourceError(message, f"ALTER TABLE {table.quoted} {add};")


def role_of(cursor: Any) -> str:
    """Return the name of this role, quoted."""
    return quote_name(cursor.connection.info.user)


def require_time_zone(
    cursor: Any, timezone: str | None, zoneless: Iterable[str]
) -> None:
    """Refuse times without a zone unless the setting names one with one meaning.

    *zoneless* are the columns of such times.

    Raises:
        SettingsError: ``SOURCE_TIMEZONE`` is missing, unknown, or an abbreviation.
    """
    columns = ", ".join(dict.fromkeys(zoneless))
    if not columns:
        return
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
