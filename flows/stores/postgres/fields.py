"""The fields of an entity: its attributes, times and keys, by the table's columns."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from flows.mapping.model import (
    CREATED,
    KEY_TYPES,
    RESERVED,
    TIMES,
    UPDATED,
    Attribute,
    Entity,
)
from flows.mapping.template import Template
from flows.models import Field, Reference, Rules
from flows.stores.postgres.columns import (
    ID_KINDS,
    NAME_TYPES,
    TIME_TYPES,
    Column,
    describe_missing,
)
from flows.stores.postgres.rules import read_rules
from flows.stores.postgres.tables import FoundTable

MOMENTS = ((CREATED, "created"), (UPDATED, "updated"))
# DynamoDB's limit on the name of an attribute, in bytes.
NAME_BYTES = 255


class FieldMaker:
    """Makes the fields of one entity, and collects what is wrong with its mapping.

    *references* has the entities with a usable id. ``faults`` are lines that begin with
    the key at fault.
    """

    def __init__(
        self,
        name: str,
        entity: Entity,
        table: FoundTable,
        references: Mapping[str, Reference],
    ) -> None:
        self.faults: list[str] = []
        self._name = name
        self._entity = entity
        self._table = table
        self._references = references

    def make(self) -> tuple[Field, ...]:
        """Return the fields: attributes, carried columns, keys, and times at the end.

        They are complete only if there are no ``faults``.
        """
        self._check_id()
        fields = _grouped(self._attributes())
        fields += self._carried()
        moments = list(self._moments())
        keys = self._keys([*fields, *moments])
        return (*fields, *keys, *moments)

    def _find(self, key: str, name: str) -> Column | None:
        """Return a column of the table; None, and a fault, if there is none."""
        column = self._table.columns.get(name)
        if column is None:
            near = describe_missing(name, self._table.columns)
            self._fault(key, f"{self._table.name} has no column {name}; {near}")
        return column

    def _fault(self, key: str, text: str) -> None:
        self.faults.append(f"{self._name}.{key}: {text}")

    def _check_id(self) -> None:
        column = self._find("id", self._entity.id)
        if column is not None and column.type not in ID_KINDS:
            text = f"column {column.name} of type {column.shown} cannot be an id"
            self._fault("id", f"{text}; name an integer, a uuid or a text of UUIDs")

    def _attributes(self) -> Iterator[Field]:
        for name, attribute in self._entity.attributes.items():
            if attribute.column is None:
                continue
            key = f"attributes.{name}"
            column = self._find(key, attribute.column)
            if column is None:
                continue
            made = (
                self._make_reference(key, column, attribute.refers_to)
                if attribute.refers_to
                else self._make_value(key, column, attribute)
            )
            if made is None:
                continue
            rules, faults = read_rules(attribute, made.type)
            for text in faults:
                self._fault(key, text)
            keep = attribute.null == "keep"
            yield replace(
                made, name=name, attributes=(name,), keep_null=keep, rules=rules
            )

    def _make_value(
        self, key: str, column: Column, attribute: Attribute
    ) -> Field | None:
        """Return the field of a value, without its name and rules."""
        wanted = attribute.type or column.usual_type
        of = f"column {column.name} of type {column.shown}"
        if attribute.is_name and column.type not in NAME_TYPES:
            self._fault(key, f"is_name needs a text, and not {of}")
            return None
        if not column.fits(wanted):
            types = ", ".join(column.fitting_types)
            remedy = f"one of {types}" if "," in types else f"use {types}"
            self._fault(key, f"type {wanted} does not fit {of}; {remedy}")
            return None
        return Field(
            "",
            column.name,
            wanted,
            pg_type=column.pg_type,
            element=column.element_of(wanted),
            zoneless=wanted == "timestamp" and column.zoneless,
        )

    def _make_reference(self, key: str, column: Column, entity: str) -> Field | None:
        """Return the field of a reference, without its name and rules."""
        reference = self._references.get(entity)
        if reference is None:
            self._fault(key, f"refers_to {entity}: no entity with a usable id")
            return None
        kind = ID_KINDS.get(column.type)
        if kind is None or (kind == "integer") != (reference.id_kind == "integer"):
            ids = "integers" if reference.id_kind == "integer" else "UUIDs"
            text = (
                f"column {column.name} of type {column.shown} does not fit the ids of"
            )
            remedy = "name another column, or remove refers_to"
            self._fault(key, f"{text} {entity}, which are {ids}; {remedy}")
            return None
        return Field("", column.name, pg_type=column.pg_type, reference=reference)

    def _carried(self) -> list[Field]:
        """Return the fields of the columns that are carried under their own names."""
        entity = self._entity
        if entity.other_columns != "carry":
            return []
        named = {entity.id, entity.created, entity.updated}
        named |= {one.column for one in entity.attributes.values()}
        carried = []
        for name, column in self._table.columns.items():
            if name in named:
                continue
            if cause := self._forbids(name):
                remedy = f"name it under {self._name}.attributes, with another name"
                self._fault("other_columns", f"column {name} {cause}; {remedy}")
            value = self._make_value(f"attributes.{name}", column, Attribute())
            if value is not None:
                carried.append(replace(value, name=name, attributes=(name,)))
        return carried

    def _forbids(self, name: str) -> str:
        """Return why an attribute cannot have the name of a column; empty if it can."""
        if name in RESERVED:
            return "has a name that the program uses"
        if name in self._entity.attributes:
            return "has the name of an attribute that is made of something else"
        if "{" in name or "}" in name:
            return "has a brace in its name"
        if len(name.encode()) > NAME_BYTES:
            return f"has a name of more than {NAME_BYTES} bytes"
        return ""

    def _moments(self) -> Iterator[Field]:
        for role, key in MOMENTS:
            name = getattr(self._entity, key)
            column = self._find(key, name) if name is not None else None
            if column is None:
                continue
            if column.type not in TIME_TYPES:
                types = "timestamp with time zone, timestamp without time zone, date"
                text = f"column {name} of type {column.shown} has no time"
                self._fault(key, f"{text}; name one whose type is one of {types}")
                continue
            yield Field(
                role,
                column.name,
                "timestamp",
                TIMES[role],
                pg_type=column.type,
                zoneless=column.zoneless,
            )

    def _keys(self, fields: list[Field]) -> list[Field]:
        """Return the fields of the columns that only keys and templates use."""
        made: dict[str, Field] = {}
        places = list(
            zip(("partition_key", "sort_key"), self._entity.keys, strict=True)
        )
        templates = templates_of(self._entity)
        places += [(f"attributes.{name}", template) for name, template in templates]
        for key, template in places:
            for name in template.names:
                if name != "id" and name not in made:
                    field = self._key_part(key, name, fields)
                    made |= {name: field} if field else {}
        return list(made.values())

    def _key_part(self, key: str, name: str, fields: list[Field]) -> Field | None:
        """Check what a template names; return a field if there is none of its value."""
        attribute = next((one for one in fields if name in one.attributes), None)
        if attribute is not None:
            if attribute.type not in KEY_TYPES:
                self._fault(key, f"{name} is a {attribute.type}; {_key_remedy()}")
            return None
        given = self._entity.attributes.get(name)
        if given is not None:
            if given.column is None:
                text = f"{name} is made of a template"
                self._fault(key, f"{text}; name the columns of that one instead")
            # Otherwise the attribute has a fault, which is in the list.
            return None
        columns = self._table.columns
        if name not in columns:
            known = ["id", *self._entity.attributes, *columns]
            near = describe_missing(name, dict.fromkeys(known), "names")
            self._fault(key, f"{{{name}}} is no attribute and no column; {near}")
            return None
        column = columns[name]
        if column.usual_type not in KEY_TYPES:
            text = f"column {name} of type {column.shown} is a {column.usual_type}"
            self._fault(key, f"{text}; {_key_remedy()}")
            return None
        first = next((one for one in fields if one.column == name), None)
        if first and first.type == column.usual_type and not first.reference:
            return None
        value = self._make_value(key, column, Attribute())
        return value and replace(value, name=f"{{{name}}}")


def templates_of(entity: Entity) -> tuple[tuple[str, Template], ...]:
    """Return the attributes that are made by a template, each with its template."""
    return tuple(
        (name, Template.parse(one.template))
        for name, one in entity.attributes.items()
        if one.template is not None
    )


def _grouped(fields: Iterable[Field]) -> list[Field]:
    """Return fields of one value together; several rules need a field for each."""
    groups: list[Field] = []
    for field in fields:
        for place, one in enumerate(groups):
            if _same_value(one, field) and (
                one.rules == field.rules or Rules() in (one.rules, field.rules)
            ):
                names = one.attributes + field.attributes
                rules = field.rules if one.rules == Rules() else one.rules
                groups[place] = replace(one, attributes=names, rules=rules)
                break
        else:
            groups.append(field)
    return groups


def _same_value(one: Field, other: Field) -> bool:
    return one == replace(
        other, name=one.name, attributes=one.attributes, rules=one.rules
    )


def _key_remedy() -> str:
    return f"keys are made of {', '.join(KEY_TYPES)}"
