"""The facts of a database's catalogue from which a mapping is suggested."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

# Schema and name of a table.
TableName: TypeAlias = tuple[str, str]
KeyKind: TypeAlias = Literal["integer", "uuid", "text"]
# The columns that fit each role (id, name, created, updated), the preferred one first.
Roles: TypeAlias = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class CatalogueColumn:
    """A column of a table.

    *type* is PostgreSQL's spelling of the declared type; *base_type* is the name of
    its type without domains, and of an array that of its elements.
    """

    name: str
    type: str = "text"
    base_type: str = "text"
    is_array: bool = False
    not_null: bool = False
    # The labels of its enumerated type.
    labels: tuple[str, ...] = ()
    # The only values that the checks of the column and of its domains allow.
    listed: tuple[str, ...] = ()
    # The kind of id that its values can be; None if they cannot be ids.
    id_kind: KeyKind | None = None
    readable: bool = True

    @property
    def one_of(self) -> tuple[str, ...]:
        """Return the values that the column may have; empty if they are not listed."""
        return () if self.is_array else self.listed or self.labels


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key: its columns, and the table and columns that they refer to."""

    columns: tuple[str, ...]
    table: TableName
    target: tuple[str, ...]


@dataclass(frozen=True)
class CatalogueTable:
    """A table: its columns, its keys, and what it refers to."""

    schema: str
    table: str
    columns: tuple[CatalogueColumn, ...]
    # Single columns that are unique, not null and of a type for ids, the primary key
    # first.
    keys: tuple[str, ...] = ()
    # The foreign keys on single columns, in the order of their columns.
    references: tuple[ForeignKey, ...] = ()
    # The foreign keys on several columns.
    composite: tuple[ForeignKey, ...] = ()
    # Tables that refer to it only by several columns, and are not among the others.
    composite_referrers: tuple[TableName, ...] = ()
    # The estimate of PostgreSQL's statistics; None without them.
    rows: int | None = None
    # Whether the role may use the schema; each column says whether it may be read.
    usable: bool = True
    # Whether row-level security filters the rows that this role reads.
    filtered: bool = False
    # Whether other tables inherit from it; a partitioned table has none of these.
    inherited: bool = False

    @property
    def name(self) -> TableName:
        """Return the schema and the name of the table."""
        return self.schema, self.table

    @cached_property
    def by_name(self) -> dict[str, CatalogueColumn]:
        """Return the columns by their names."""
        return {column.name: column for column in self.columns}
