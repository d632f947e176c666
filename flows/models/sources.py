"""The tables of the source as they were found, and what becomes of their columns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias
from uuid import UUID, uuid5

from flows.mapping.model import CREATED, UPDATED, FieldType, Severity
from flows.mapping.template import Template
from flows.models.items import (
    ENTITY_TYPE,
    KEY_PREFIX,
    PROVENANCE_ATTRIBUTES,
    SORT_KEY,
    IdKind,
    Key,
)

# DynamoDB's letter of a type; `*` stands for values of more than one type.
Letter: TypeAlias = Literal["S", "N", "BOOL", "B", "*"]
LETTERS: Mapping[FieldType, Letter] = {
    "text": "S",
    "number": "N",
    "boolean": "BOOL",
    "timestamp": "S",
    "date": "S",
    "json": "*",
    "list": "*",
    "string_set": "*",
    "number_set": "*",
    "binary": "B",
}
ENTERPRISE_KEY = Template(KEY_PREFIX + "{id}")
ENTERPRISE_SORT_KEY = Template(SORT_KEY)
# The flag of a row whose reference has no row; the reference's name follows.
REFERENCE_MISSING = "reference_missing:"
ID_DUPLICATE, KEY_DUPLICATE = "id_duplicate", "key_duplicate"


@dataclass(frozen=True)
class Rules:
    """The rules of a mapping file for the values of one column.

    A *severity* of None is critical for rules, and a warning for missing references.
    ``is_name`` adds the rules of an enterprise's name.
    """

    is_name: bool = False
    required: bool = False
    one_of: tuple[str, ...] = ()
    matches: str | None = None
    min_length: int | None = None
    max_length: int | None = None
    # PostgreSQL's text of the bounds of a number, or of a time or date.
    minimum: str | None = None
    maximum: str | None = None
    unique: bool = False
    severity: Severity | None = None


@dataclass(frozen=True)
class Reference:
    """The entity that a column refers to, and the rule by which its ids are made."""

    entity: str
    schema: str
    table: str
    id_column: str
    id_kind: IdKind
    where: str | None = None


@dataclass(frozen=True)
class Field:
    """A column of the source, and the attributes that are made from it.

    *name* is its column in frames: the first attribute, or the column in braces if only
    keys use it.
    """

    name: str
    column: str
    type: FieldType = "text"
    attributes: tuple[str, ...] = ()
    # PostgreSQL's type, of a domain its base type; of an array that of its elements.
    pg_type: str = "text"
    # What the elements of a list become: number, boolean, json, binary or text.
    element: FieldType = "text"
    # A time without time zone, in the zone of the source.
    zoneless: bool = False
    # NULL becomes NULL, instead of no attribute.
    keep_null: bool = False
    reference: Reference | None = None
    rules: Rules = Rules()

    @property
    def is_uuid_text(self) -> bool:
        """Return whether the field refers to UUIDs by a text, which may be none."""
        reference = self.reference
        if reference is None or reference.id_kind == "integer":
            return False
        return self.pg_type != "uuid"

    @property
    def letter(self) -> Letter:
        """Return DynamoDB's letter of the attributes' values."""
        if self.keep_null:
            return "*"
        return "S" if self.reference else LETTERS[self.type]


@dataclass(frozen=True)
class SourceTable:
    """A table as it was found, and how its rows become items of one entity."""

    schema: str
    table: str
    id_column: str
    id_kind: IdKind
    fields: tuple[Field, ...]
    entity: str = ENTITY_TYPE
    partition_key: Template = ENTERPRISE_KEY
    sort_key: Template = ENTERPRISE_SORT_KEY
    # Attributes that are made by a template, as GSI1PK.
    templates: tuple[tuple[str, Template], ...] = ()
    # A condition in SQL, on the table's own columns, that rows must meet.
    where: str | None = None
    timezone: str | None = None
    columns_not_migrated: tuple[str, ...] = ()
    # Tables with foreign keys to this one, each with its referring columns.
    referring_tables: tuple[str, ...] = ()
    # Tables of referring_tables that the mapping moves.
    mapped_tables: tuple[str, ...] = field(default=(), compare=False)

    @property
    def name(self) -> str:
        """Return the table's name with its schema."""
        return f"{self.schema}.{self.table}"

    @cached_property
    def by_name(self) -> dict[str, Field]:
        """Return the fields by their columns in frames."""
        return {one.name: one for one in self.fields}

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns of a frame of rows, in their order."""
        return ("source_id", *self.by_name)

    @property
    def created(self) -> Field | None:
        """Return the field of the time of creation, if there is one."""
        return self.by_name.get(CREATED)

    @property
    def updated(self) -> Field | None:
        """Return the field of the time of the last change, if there is one."""
        return self.by_name.get(UPDATED)

    @property
    def moments(self) -> tuple[Field, ...]:
        """Return the fields of both times, as far as there are any."""
        return tuple(one for one in (self.created, self.updated) if one)

    @property
    def name_field(self) -> Field | None:
        """Return the field of the entity's name, if it has one."""
        return next((one for one in self.fields if one.rules.is_name), None)

    @property
    def references(self) -> tuple[Field, ...]:
        """Return the fields that refer to an entity."""
        return tuple(one for one in self.fields if one.reference)

    @cached_property
    def item_attributes(self) -> tuple[str, ...]:
        """Return all attributes of an item, in their order, without provenance."""
        moments = self.moments
        others = [one for one in self.fields if one not in moments]
        return (
            "PK",
            "SK",
            "id",
            *(name for one in others for name in one.attributes),
            *(name for name, _ in self.templates),
            *(name for one in moments for name in one.attributes),
            "entity_type",
        )

    def attributes_with(self, *, provenance: bool) -> tuple[str, ...]:
        """Return all attributes of an item, with those of its provenance if asked."""
        return self.item_attributes + (PROVENANCE_ATTRIBUTES if provenance else ())

    @cached_property
    def letters(self) -> dict[str, Letter]:
        """Return DynamoDB's letter of each attribute, with those of provenance."""
        made = {name: one.letter for one in self.fields for name in one.attributes}
        letters: dict[str, Letter] = {
            name: made.get(name, "S") for name in self.item_attributes
        }
        return letters | {"migrated_from_pg": "BOOL", "original_pg_id": "N"}

    @property
    def optional(self) -> frozenset[str]:
        """Return the attributes that an item may lack."""
        moments = self.moments
        fields = (one for one in self.fields if one not in moments)
        names = [n for one in fields if not one.keep_null for n in one.attributes]
        return frozenset([*names, *(name for name, _ in self.templates)])

    @property
    def attributes(self) -> dict[str, tuple[str, ...]]:
        """Return the columns that are moved, each with the attributes made from it."""
        made: dict[str, list[str]] = {self.id_column: ["PK", "id"]}
        for one in self.fields:
            made.setdefault(one.column, []).extend(one.attributes)
        for attribute, template in (
            ("PK", self.partition_key),
            ("SK", self.sort_key),
            *self.templates,
        ):
            for name in template.names:
                column = self.id_column if name == "id" else self.named(name).column
                if attribute not in made[column]:
                    made[column].append(attribute)
        if "id" not in self.partition_key.names:
            made[self.id_column].remove("PK")
        return {column: tuple(names) for column, names in made.items()}

    def named(self, name: str) -> Field:
        """Return the field that a template means by a name other than ``id``.

        Raises:
            KeyError: the template was not checked against the mapping.
        """
        for one in self.fields:
            if name in one.attributes or one.name == f"{{{name}}}":
                return one
        return next(one for one in self.fields if one.column == name)

    @property
    def key_fields(self) -> tuple[Field, ...]:
        """Return the fields of which the partition key and the sort key are made."""
        names = (*self.partition_key.names, *self.sort_key.names)
        found = dict.fromkeys(self.named(name) for name in names if name != "id")
        return tuple(found)

    @property
    def has_unique_keys(self) -> bool:
        """Return whether rows with different ids always have different keys."""
        return "id" in {*self.partition_key.names, *self.sort_key.names}

    @property
    def tables_left_behind(self) -> tuple[str, ...]:
        """Return the tables that refer to this one, and that the mapping leaves."""
        return tuple(n for n in self.referring_tables if n not in self.mapped_tables)

    @property
    def has_keys_of_ids(self) -> bool:
        """Return whether an item's id alone shows its key."""
        return {*self.partition_key.names, *self.sort_key.names} <= {"id"}

    def key_of_id(self, identity: str) -> Key:
        """Return the key of an id, if ids alone show keys."""
        parts = {"id": identity}
        return (
            str(self.partition_key.fill(parts)),
            str(self.sort_key.fill(parts)),
        )

    def owns(self, item: Mapping[str, Any]) -> bool:
        """Return whether an item of the table is one of this entity."""
        return (
            item.get("entity_type") == self.entity
            and self.partition_key.may_be(item.get("PK"))
            and self.sort_key.may_be(item.get("SK"))
        )

    def namespace(self, root: UUID) -> UUID:
        """Return the namespace of the entity's ids."""
        return entity_namespace(self.entity, root)

    @property
    def derives_ids(self) -> bool:
        """Return whether ids are derived from source ids, which are not UUIDs kept."""
        return derives_ids(self.entity, self.id_kind)

    # The columns by their roles in the built-in mapping, for the HTTP service.

    @property
    def name_column(self) -> str:
        """Return the column of the name; empty if the entity has none."""
        return self.name_field.column if self.name_field else ""

    @property
    def created_column(self) -> str:
        """Return the column of the time of creation; empty if there is none."""
        return self.created.column if self.created else ""

    @property
    def updated_column(self) -> str:
        """Return the column of the time of the last change; empty if there is none."""
        return self.updated.column if self.updated else ""

    @property
    def created_zoneless(self) -> bool:
        """Return whether the time of creation has no time zone."""
        return bool(self.created and self.created.zoneless)

    @property
    def updated_zoneless(self) -> bool:
        """Return whether the time of the last change has no time zone."""
        return bool(self.updated and self.updated.zoneless)


def entity_namespace(entity: str, root: UUID) -> UUID:
    """Return the namespace of an entity's ids; that of enterprises is the root."""
    return root if entity == ENTITY_TYPE else uuid5(root, entity)


def derives_ids(entity: str, kind: IdKind) -> bool:
    """Return whether an entity's ids are derived; only enterprises keep UUIDs."""
    return kind == "integer" or entity != ENTITY_TYPE
