"""The built-in mapping: enterprises with a name and two times."""

from typing import Any

from flows.mapping.model import CREATED, TIMES, UPDATED
from flows.models.items import IdKind
from flows.models.sources import Field, Rules, SourceTable


def enterprise_table(  # noqa: PLR0913 - the roles of the built-in mapping
    *,
    schema: str = "public",
    table: str = "enterprises",
    id_column: str = "id",
    id_kind: IdKind = "integer",
    name_column: str = "enterprise_name",
    created_column: str = CREATED,
    updated_column: str = UPDATED,
    created_zoneless: bool = False,
    updated_zoneless: bool = False,
    **more: Any,
) -> SourceTable:
    """Return a table of enterprises that are moved by the built-in mapping."""
    name = Field(
        "enterprise_name",
        name_column,
        attributes=("enterprise_name", "name"),
        rules=Rules(is_name=True, required=True),
    )
    times = [
        (CREATED, created_column, created_zoneless),
        (UPDATED, updated_column, updated_zoneless),
    ]
    moments = (
        Field(
            role,
            column,
            "timestamp",
            TIMES[role],
            pg_type="timestamp" if zoneless else "timestamptz",
            zoneless=zoneless,
        )
        for role, column, zoneless in times
    )
    return SourceTable(schema, table, id_column, id_kind, (name, *moments), **more)


ENTERPRISE_TABLE = enterprise_table()


# What the built-in mapping takes from settings and database.
FOUND = (
    "schema",
    "table",
    "id_column",
    "id_kind",
    "name_column",
    "created_column",
    "updated_column",
    "created_zoneless",
    "updated_zoneless",
    "timezone",
    "columns_not_migrated",
    "referring_tables",
)


def is_usual(source: SourceTable) -> bool:
    """Return whether the built-in mapping would make the same items of a source."""
    if not (source.name_field and source.created and source.updated):
        return False
    return source == enterprise_table(**{name: getattr(source, name) for name in FOUND})
