"""The roles of columns: which of a table's columns is its id, its name, its times."""

from collections.abc import Iterable, Iterator, Sequence

from flows.errors import SettingsError, SourceError
from flows.mapping.catalogue import CatalogueTable, Roles, TableName
from flows.settings import Settings
from flows.stores.postgres.columns import NAME_TYPES, ZONELESS_TYPES
from flows.stores.postgres.schema import CANDIDATES

TYPES = {
    "name": NAME_TYPES,
    "created": ZONELESS_TYPES | {"timestamptz"},
    "updated": ZONELESS_TYPES | {"timestamptz"},
}


def find_roles(
    tables: Sequence[CatalogueTable], settings: Settings
) -> dict[TableName, Roles]:
    """Return the columns of each table that fit each role, the preferred one first.

    The roles are id, created and updated, and of the first table also name. The
    settings decide for the first table, and the usual names where they are not set.

    Raises:
        SourceError: a column that a setting names is missing or has no usable type, or
            the first table has no usable id.
        SettingsError: one column has two roles.
    """
    root, *others = tables
    roles: dict[TableName, Roles] = {root.name: _root_roles(root, settings)}
    for table in others:
        fitting = {r: tuple(_fitting(table, r, CANDIDATES[r])) for r in TYPES}
        roles[table.name] = fitting | {"id": table.keys}
    return roles


def _root_roles(root: CatalogueTable, settings: Settings) -> Roles:
    roles: dict[str, tuple[str, ...]] = {}
    for role, candidates in CANDIDATES.items():
        wanted = getattr(settings, f"source_{role}_column")
        fitting = tuple(_fitting(root, role, [wanted] if wanted else candidates))
        if wanted and not fitting:
            raise _make_unfit_error(root, role, wanted)
        roles[role] = fitting
    # A mapping file can name a key that has no usual name.
    roles["id"] = roles["id"] or root.keys
    if not roles["id"]:
        message = f"{'.'.join(root.name)} has no unique, not-null column of a type for"
        message += " ids: integer, uuid or text."
        raise SourceError(message, "Add a primary key, or set SOURCE_TABLE.")
    chosen = [names[0] for names in roles.values() if names]
    if len(set(chosen)) < len(chosen):
        message = f"One column has two roles: {', '.join(chosen)}."
        raise SettingsError(message, "Set each SOURCE_*_COLUMN to another column.")
    return roles


def _fitting(
    table: CatalogueTable, role: str, candidates: Iterable[str]
) -> Iterator[str]:
    """Yield the candidates that exist and have a type for the role."""
    for name in candidates:
        column = table.by_name.get(name)
        if role == "id":
            fits = name in table.keys
        else:
            fits = bool(
                column and not column.is_array and column.base_type in TYPES[role]
            )
        if fits:
            yield name


def _make_unfit_error(root: CatalogueTable, role: str, wanted: str) -> SourceError:
    needed = "a unique, not-null integer, uuid or text" if role == "id" else ""
    needed = needed or f"of type {', '.join(sorted(TYPES[role]))}"
    message = f"{'.'.join(root.name)} has no column {wanted} that is {needed}."
    remedy = f"Set SOURCE_{role.upper()}_COLUMN; the columns are: "
    return SourceError(message, f"{remedy}{', '.join(root.by_name)}.")
