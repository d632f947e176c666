"""The source: its tables by the settings or a mapping, and what cannot be migrated."""

from collections.abc import Mapping

from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.errors import (
    SettingsError,
    SourceError,
)
from flows.mapping.model import ENTERPRISE, enterprise_entity
from flows.mapping.model import Mapping as EntityMapping
from flows.models import SourceTable
from flows.settings import Settings
from flows.stores.postgres.columns import ID_KINDS, NAME_TYPES, TIME_TYPES
from flows.stores.postgres.entities import describe_entities, resolve_entities
from flows.stores.postgres.session import split_table_name, translating_errors
from flows.stores.postgres.tables import (
    FIND_TABLE,
    FoundTable,
    find_table,
    require_unicode,
)

CANDIDATES = {
    "id": ("id", "enterprise_id"),
    "name": ("enterprise_name", "name"),
    "created": ("created_date", "created_at", "creation_date"),
    "updated": ("updated_date", "updated_at", "last_update_date"),
}
ALLOWED_TYPES = {
    "id": frozenset(ID_KINDS),
    "name": NAME_TYPES,
    "created": TIME_TYPES,
    "updated": TIME_TYPES,
}
# The setting that names the table of the built-in mapping.
KEY = "SOURCE_TABLE"


def describe_sources(
    connection: Connection,
    settings: Settings,
    mapping: EntityMapping | None,
    *,
    whole: bool = True,
) -> tuple[SourceTable, ...]:
    """Find the tables of a mapping, or the source table of the built-in one for None.

    Unless the tables must be *whole*, some of their rows may be hidden.

    Raises:
        SourceError: a table cannot be proven, see ``describe_entities``.
        SettingsError: the mapping or the settings do not fit the tables.
    """
    if mapping is None:
        return (describe_source(connection, settings, whole=whole),)
    return describe_entities(connection, settings, mapping, whole=whole)


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
    names = split_table_name(settings.source_table, KEY)
    with connection.cursor() as cursor:
        require_unicode(cursor)
        found = find_table(cursor, names, KEY, whole=whole)
        mapping = make_builtin(found, settings)
        (source,) = resolve_entities(cursor, settings, mapping, {ENTERPRISE: found})
    return source


def make_builtin(table: FoundTable, settings: Settings) -> EntityMapping:
    """Return the built-in mapping, with the columns that the settings choose.

    Raises:
        SourceError: the table lacks a column of a usable type.
        SettingsError: two columns fit where one is needed.
    """
    chosen = _choose_columns(table, settings)
    _check_types(table, chosen)
    entity = enterprise_entity(
        table=settings.source_table,
        id_column=chosen["id"],
        name=chosen["name"],
        created=chosen["created"],
        updated=chosen["updated"],
    )
    return EntityMapping(entities={ENTERPRISE: entity})


def tables_of(
    settings: Settings, mapping: EntityMapping | None
) -> dict[str, tuple[str, str]]:
    """Return schema and table of each entity; of the built-in mapping for None.

    Raises:
        SettingsError: a table name cannot be read.
    """
    if mapping is None:
        return {ENTERPRISE: split_table_name(settings.source_table, KEY)}
    return {
        name: split_table_name(entity.table, f"{name}.table")
        for name, entity in mapping.entities.items()
    }


def find_columns(connection: Connection, settings: Settings) -> dict[str, str]:
    """Return the columns of the source table and their types, in its order.

    Raises:
        SourceError: the table is missing, inherited, or not a table.
        SettingsError: ``SOURCE_TABLE`` is not a table name.
    """
    names = split_table_name(settings.source_table, KEY)
    with translating_errors(), connection.cursor() as cursor:
        found = find_table(cursor, names, KEY, whole=False)
    return {name: column.type for name, column in found.columns.items()}


def hides_rows(connection: Connection, source: SourceTable) -> bool:
    """Return whether row-level security hides rows of the table from this role."""
    with translating_errors(), connection.cursor() as cursor:
        cursor.execute(FIND_TABLE, [source.schema, source.table])
        _, _, filtered, *_ = cursor.fetchone() or (0, "", False)
    return bool(filtered)


def _choose_columns(table: FoundTable, settings: Settings) -> dict[str, str]:
    found, chosen = table.columns, {}
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


def _check_types(table: FoundTable, chosen: Mapping[str, str]) -> None:
    for role, column in chosen.items():
        type_name, allowed = table.columns[column].type, ALLOWED_TYPES[role]
        if type_name not in allowed:
            message = f"Column {column} of {table.name} has type {type_name}."
            types = ", ".join(sorted(allowed))
            remedy = f"Choose a {role} column whose type is one of {types}."
            raise SourceError(message, remedy)
