"""The entities of a mapping, resolved against the database."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import psycopg2
from psycopg2 import sql
from psycopg2.errorcodes import UNDEFINED_TABLE
from psycopg2.errors import InsufficientPrivilege
from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.errors import SettingsError, SourceError
from flows.mapping.model import Entity
from flows.mapping.model import Mapping as EntityMapping
from flows.models import Field, Reference, SourceTable
from flows.settings import Settings
from flows.stores.postgres.columns import ID_KINDS
from flows.stores.postgres.fields import FieldMaker, templates_of
from flows.stores.postgres.session import split_table_name
from flows.stores.postgres.tables import (
    FoundTable,
    find_referrers,
    find_table,
    grant_select,
    require_key,
    require_readable,
    require_time_zone,
    require_unicode,
)

# Parentheses and CAST end differently, so a condition that closes what it did not open,
# or hides the rest of its line, is an error of syntax in one of both. Queries give the
# table another name or none, so the condition can name columns only.
CHECK_CONDITION = sql.SQL("""
SELECT 1 FROM {table} WHERE ({where})
UNION ALL
SELECT 1 FROM {table} AS another_name WHERE CAST({where}
AS boolean) LIMIT 0
""")
# Classes of errors that a condition itself causes: data, syntax and names, features.
OF_CONDITION = ("22", "42", "0A")


def describe_entities(
    connection: Connection,
    settings: Settings,
    mapping: EntityMapping,
    *,
    whole: bool = True,
) -> tuple[SourceTable, ...]:
    """Find the tables of a mapping; refuse those that cannot be proven.

    The order is that of the mapping. Unless the tables must be *whole*, some of their
    rows may be hidden.

    Raises:
        SourceError: a table is missing, inherited, or filtered by row-level security,
            has no unique not-null id, or a column may not be read.
        SettingsError: the mapping does not fit the tables, with a line for each fault,
            or a zoneless timestamp has no ``SOURCE_TIMEZONE``.
    """
    with connection.cursor() as cursor:
        require_unicode(cursor)
        found = {}
        for name, entity in mapping.entities.items():
            key = f"{name}.table"
            names = split_table_name(entity.table, key)
            found[name] = find_table(cursor, names, key, whole=whole)
        return resolve_entities(cursor, settings, mapping, found)


def resolve_entities(
    cursor: Any,
    settings: Settings,
    mapping: EntityMapping,
    found: Mapping[str, FoundTable],
) -> tuple[SourceTable, ...]:
    """Resolve the entities of a mapping against their tables, as they were found.

    Raises:
        SourceError: a column may not be read, or an id is not unique and not null.
        SettingsError: the mapping does not fit the tables, with a line for each fault,
            or a zoneless timestamp has no ``SOURCE_TIMEZONE``.
    """
    ids = _find_ids(mapping, found)
    sources: list[SourceTable] = []
    faults: list[str] = []
    for name, entity in mapping.entities.items():
        maker = FieldMaker(name, entity, found[name], ids)
        fields = maker.make()
        if name in ids:
            sources.append(_make_source(ids[name], entity, fields, settings))
        faults += [*maker.faults, *_check_condition(cursor, name, entity, found[name])]
    if faults:
        place = mapping.path or "the mapping"
        raise SettingsError("\n".join(faults), f"Correct {place}, then run again.")
    for one in sources:
        require_readable(cursor, found[one.entity], one.attributes)
        require_key(found[one.entity], one.id_column)
    require_time_zone(cursor, settings.source_timezone, _find_zoneless(sources))
    return tuple(_complete(cursor, one, found) for one in sources)


def _find_ids(
    mapping: EntityMapping, found: Mapping[str, FoundTable]
) -> dict[str, Reference]:
    """Return how to refer to each entity whose id can be one."""
    ids = {}
    for name, entity in mapping.entities.items():
        table = found[name]
        column = table.columns.get(entity.id)
        kind = ID_KINDS.get(column.type) if column else None
        if kind is not None:
            names = (table.schema, table.table, entity.id)
            ids[name] = Reference(name, *names, kind, entity.where)
    return ids


def _make_source(
    one: Reference,
    entity: Entity,
    fields: tuple[Field, ...],
    settings: Settings,
) -> SourceTable:
    partition_key, sort_key = entity.keys
    return SourceTable(
        schema=one.schema,
        table=one.table,
        id_column=one.id_column,
        id_kind=one.id_kind,
        fields=fields,
        entity=one.entity,
        partition_key=partition_key,
        sort_key=sort_key,
        templates=templates_of(entity),
        where=one.where,
        timezone=settings.source_timezone,
    )


def _complete(
    cursor: Any, source: SourceTable, found: Mapping[str, FoundTable]
) -> SourceTable:
    """Add what is not moved: the table's other columns, and tables that refer to it."""
    table, moved = found[source.entity], source.attributes
    tables = {one.oid for one in found.values()}
    referrers = find_referrers(cursor, table)
    mapped = [
        one.shown
        for one in referrers
        if one.oid in tables
        # A reference to the same table is moved only with its column.
        and (one.oid != table.oid or moved.keys() >= set(one.columns))
    ]
    return replace(
        source,
        columns_not_migrated=tuple(name for name in table.columns if name not in moved),
        referring_tables=tuple(one.shown for one in referrers),
        mapped_tables=tuple(mapped),
    )


def _find_zoneless(sources: Iterable[SourceTable]) -> list[str]:
    """Return the columns of times without a zone; of several tables, with theirs."""
    sources = list(sources)
    several = len(sources) > 1
    return [
        f"{source.name}.{one.column}" if several else one.column
        for source in sources
        for one in source.fields
        if one.zoneless
    ]


def _check_condition(
    cursor: Any, name: str, entity: Entity, table: FoundTable
) -> Iterator[str]:
    """Run the condition of an entity on no row, and yield PostgreSQL's message.

    Raises:
        SourceError: this role may not read the columns of the condition.
    """
    if entity.where is None or table.filtered:
        return
    where, names = sql.SQL(entity.where), sql.Identifier(table.schema, table.table)
    cursor.execute("SAVEPOINT condition")
    try:
        cursor.execute(CHECK_CONDITION.format(table=names, where=where))
    except InsufficientPrivilege as error:
        message = f"{name}.where: PostgreSQL refused: {error.diag.message_primary}."
        raise SourceError(message, grant_select(cursor, table)) from None
    except psycopg2.Error as error:
        if not (error.pgcode or "").startswith(OF_CONDITION):
            raise
        parts = [error.diag.message_primary, error.diag.message_hint]
        if error.pgcode == UNDEFINED_TABLE:
            parts[1] = "name columns without a table"
        yield f"{name}.where: {'; '.join(text for text in parts if text)}"
    cursor.execute("ROLLBACK TO SAVEPOINT condition")
    # A snapshot cannot be exported while it is there.
    cursor.execute("RELEASE SAVEPOINT condition")
