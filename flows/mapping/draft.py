"""The draft of one entity of a suggested mapping, with comments for who decides."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from flows.mapping.catalogue import (
    CatalogueColumn,
    CatalogueTable,
    ForeignKey,
    Roles,
)
from flows.mapping.model import Attribute, Entity, enterprise_entity
from flows.mapping.moved_tables import MovedTables
from flows.mapping.naming import name_attribute, spell_table

# Of the built-in mapping.
ROOT_PARTITION_KEY, CONSTANT_SORT_KEY = "ENT#{id}", "METADATA"
# The digits that a number of DynamoDB has.
_DIGITS = 38
_PRECISION = re.compile(r"numeric\((\d+)[,)]")
_FLOATS = frozenset({"float4", "float8"})
TIME_ROLES = ("created", "updated")
ZONELESS = "has no time zone: set SOURCE_TIMEZONE"
UNREADABLE = "this role may not read the column: grant SELECT, or remove the line"


@dataclass(frozen=True)
class Draft:
    """A table that becomes an entity, among the others that do."""

    table: CatalogueTable
    roles: Roles
    moved: MovedTables

    @property
    def is_root(self) -> bool:
        """Return whether this is the entity of the enterprises."""
        return self.table.name == self.moved.root

    @cached_property
    def entity(self) -> Entity:
        """Return the entity."""
        partition_key, sort_key = self._keys
        attributes = {name: one for name, one, _ in self._attributes}
        return Entity(
            table=spell_table(self.table.name),
            id=self.roles["id"][0],
            partition_key=partition_key,
            sort_key=sort_key,
            created=self._chosen("created"),
            updated=self._chosen("updated"),
            attributes=self._name_attributes | attributes,
        )

    @cached_property
    def comments(self) -> dict[tuple[str, ...], list[str]]:
        """Return what must be decided, by the key of the line in the entity."""
        lines: dict[tuple[str, ...], Iterator[str]] = {
            (): self._describe_table(),
            ("id",): self._describe_id(),
            ("partition_key",): self._describe_partition(),
            ("created",): self._describe_time("created"),
            ("updated",): self._describe_time("updated"),
        }
        for name, attribute, column in self._attributes:
            lines["attributes", name] = self._describe_column(name, attribute, column)
        found = {path: list(texts) for path, texts in lines.items()}
        return {path: texts for path, texts in found.items() if texts}

    def _chosen(self, role: str) -> str | None:
        return next(iter(self.roles.get(role, ())), None)

    @cached_property
    def _name_attributes(self) -> dict[str, Attribute]:
        """Return the attributes of an enterprise's name, as the built-in mapping."""
        name = self._chosen("name")
        if not self.is_root or name is None:
            return {}
        built_in = enterprise_entity(
            table="", id_column="", name=name, created="", updated=""
        )
        return built_in.attributes

    @cached_property
    def _attributes(self) -> list[tuple[str, Attribute, CatalogueColumn]]:
        """Return the attributes of all columns that no key and no time has."""
        roles = ("name", "created", "updated") if self.is_root else TIME_ROLES
        chosen = {self._chosen(role) for role in roles}
        made: list[tuple[str, Attribute, CatalogueColumn]] = []
        for column in self.table.columns:
            reference = self._reference(column)
            # An id that is a reference too, as of a table with a row for each
            # enterprise, is needed by the partition key.
            is_id = column.name == self._chosen("id") and reference is None
            if column.name in chosen or is_id:
                continue
            others = [one for one in self.table.by_name if one != column.name]
            taken = {*self._name_attributes, *(name for name, *_ in made), *others}
            attribute = Attribute(
                column=column.name,
                refers_to=reference,
                required=column.not_null,
                one_of=() if reference else column.one_of,
            )
            made.append((name_attribute(column.name, taken), attribute, column))
        return made

    def _reference(self, column: CatalogueColumn) -> str | None:
        """Return the entity that a column refers to."""
        found = (
            self.moved.referred(self.table, key)
            for key in self.table.references
            if key.columns == (column.name,)
        )
        return next((entity for entity in found if entity), None)

    @cached_property
    def _parents(self) -> list[ForeignKey]:
        return self.moved.parents(self.table)

    @cached_property
    def _keys(self) -> tuple[str, str]:
        """Return the partition key and the sort key."""
        if self.is_root:
            return ROOT_PARTITION_KEY, CONSTANT_SORT_KEY
        prefix = self.moved.prefixes[self.table.name]
        if not self._parents:
            return f"{prefix}#{{id}}", CONSTANT_SORT_KEY
        parent, *_ = self._parents
        of_parent = self.moved.prefixes[parent.table]
        return f"{of_parent}#{{{self._name_of(parent)}}}", f"{prefix}#{{id}}"

    def _name_of(self, key: ForeignKey) -> str:
        """Return the attribute of a foreign key's column."""
        (column,) = key.columns
        return next(name for name, one, _ in self._attributes if one.column == column)

    def _describe_table(self) -> Iterator[str]:
        table = self.table
        if table.rows is not None and not self.is_root:
            yield f"about {table.rows:,} rows; remove the entity to leave them behind"
        if table.filtered:
            yield "row-level security hides rows: use a role with BYPASSRLS"
        if not table.usable:
            yield f"this role may not use the schema {_shown(table.schema)}: grant it"
        for key in table.composite:
            columns = ", ".join(map(_shown, key.columns))
            target = _shown(spell_table(key.table))
            yield f"({columns}) refers to {target} by several columns: not a reference"
        if self.is_root and not self._name_attributes:
            yield "no column has a usual name: add the attribute enterprise_name"
        if self._chosen("updated") is None:
            yield "no column for `updated`: --since cannot be used"

    def _describe_id(self) -> Iterator[str]:
        chosen, *others = self.roles["id"]
        column = self.table.by_name[chosen]
        if column.id_kind == "text":
            or_else = f", or choose {_choices(others)}" if others else ""
            yield f"each text must be a UUID{or_else}"
        if not column.readable:
            yield UNREADABLE

    def _describe_partition(self) -> Iterator[str]:
        if self.is_root:
            return
        if not self._parents:
            yield "no reference to the id of another entity: a partition for each row"
            return
        parent, *others = self._parents
        entity = self.moved.entities[parent.table]
        if parent.table != self.moved.root:
            yield (
                f"no column refers to enterprise: a partition for each {entity};"
                " ENT#{…} needs a column with the enterprise's id"
            )
        if same := [key for key in others if key.table == parent.table]:
            names = _choices(self._name_of(key) for key in same)
            yield f"or {names}, which refers to {entity} too"
        if not self.table.by_name[parent.columns[0]].not_null:
            yield f"rows without {_shown(parent.columns[0])} cannot be items"

    def _describe_time(self, role: str) -> Iterator[str]:
        chosen, *others = self.roles.get(role) or ("",)
        if not chosen:
            return
        column = self.table.by_name[chosen]
        if others:
            yield f"or {_choices(others)}"
        if column.base_type in {"timestamp", "date"}:
            yield ZONELESS
        if not column.readable:
            yield UNREADABLE

    def _describe_column(
        self, name: str, attribute: Attribute, column: CatalogueColumn
    ) -> Iterator[str]:
        if name != column.name:
            yield f"the name {_shown(column.name)} is reserved, taken or has braces"
        if not column.readable:
            yield UNREADABLE
        for key in self.table.references:
            if key.columns == (column.name,) and attribute.refers_to is None:
                target = _shown(f"{spell_table(key.table)} ({key.target[0]})")
                yield f"refers to {target}, which is not the id of an entity"
        if column.is_array:
            return
        if column.base_type == "timestamp":
            yield ZONELESS
        if column.base_type in _FLOATS:
            yield 'a text; with type = "number", NaN and infinities cannot be items'
        if _may_exceed(column.type):
            yield f"numbers of more than {_DIGITS} digits cannot be items"


def _may_exceed(type_: str) -> bool:
    """Return whether a type is declared with more digits than DynamoDB's numbers."""
    precision = _PRECISION.match(type_)
    return precision is not None and int(precision[1]) > _DIGITS


def _choices(names: Iterable[str]) -> str:
    return " or ".join(map(_shown, names))


def _shown(name: str) -> str:
    """Return a name for a comment, which has no control characters."""
    return name if name.isprintable() else repr(name)
