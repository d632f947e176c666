"""The faults of entities beyond their form: names, keys, and what excludes what."""

import re
from collections.abc import Collection, Iterator, Mapping

from flows.mapping.form_faults import ATTRIBUTES, Fault
from flows.mapping.model import (
    CREATED,
    KEY_TYPES,
    RESERVED,
    TIMES,
    UPDATED,
    Attribute,
    Entity,
)
from flows.mapping.rule_faults import describe_reference_faults, describe_rule_faults
from flows.mapping.spelling import show_choices, show_value
from flows.mapping.template import Template

_KEYS = ("partition_key", "sort_key")
_NAME = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9_.-]{1,64}")
# Of an attribute that is the key of an index.
_ATTRIBUTE_BYTES = 255
_MADE = {
    name: key
    for key, role in (("created", CREATED), ("updated", UPDATED))
    for name in TIMES[role]
}
_BRACES = "write each name as {name}, and {{ or }} for a brace"


def find_faults(
    entities: Mapping[str, Entity], names: Collection[str]
) -> Iterator[Fault]:
    """Yield the faults of entities, of which references may name those of *names*."""
    for name, entity in entities.items():
        texts = (*_describe_entity(name, entity), *_describe_keys(entity))
        yield from (Fault((name,), text) for text in texts)
        for attribute, form in entity.attributes.items():
            texts = tuple(_describe_attribute(attribute, form, entity, names))
            path = (name, ATTRIBUTES, attribute)
            yield from (Fault(path, text) for text in texts)
    yield from _find_same_keys(entities)


def _describe_entity(name: str, entity: Entity) -> Iterator[str]:
    if not _NAME.fullmatch(name):
        yield (
            f"the name {show_value(name)} cannot be an entity_type; use up to 64 of"
            " A-Z, a-z, 0-9, _, . and -, with a letter or a digit"
        )
    for key in ("table", "id", "created", "updated"):
        value = getattr(entity, key)
        if value is not None:
            yield from _describe_name(key, value)
    if entity.where is not None and not entity.where.strip():
        yield f"where {show_value(entity.where)} is empty; give a condition, or omit it"
    if entity.created is not None and entity.created == entity.updated:
        given = show_value(entity.created)
        yield f"created and updated are both {given}; omit one, or name another column"


def _describe_name(key: str, name: str) -> Iterator[str]:
    """Yield what is wrong with the name of a table or of a column."""
    if not name:
        yield f'{key} "" is empty; give a name'
    elif "\0" in name:
        yield f"{key} {show_value(name)} has U+0000, which no name can have; remove it"


def _describe_keys(entity: Entity) -> Iterator[str]:
    constant = True
    for key in _KEYS:
        text = getattr(entity, key)
        yield from _describe_template(key, text, entity)
        template = _parse(text)
        constant = constant and bool(text and template and template.is_constant)
    if constant:
        given = " and ".join(
            f"{key} {show_value(getattr(entity, key))}" for key in _KEYS
        )
        yield f"{given} have no name, so that all rows have one key; add {{id}} to one"


def _parse(text: str) -> Template | None:
    """Return a template; None if its braces are faulty."""
    try:
        return Template.parse(text)
    except ValueError:
        return None


def _describe_template(key: str, text: str, entity: Entity) -> Iterator[str]:
    template = _parse(text)
    if not text:
        yield f'{key} "" is empty; give a text, e.g. "METADATA"'
    elif template is None:
        yield f"{key} {show_value(text)} has faulty braces; {_BRACES}"
    for name in dict.fromkeys(template.names if template else ()):
        found = entity.attributes.get(name)
        if found is None:
            # A column of the table, which is checked against the database.
            continue
        given = f"{key} {show_value(text)} names {show_value(name)}"
        if found.template is not None:
            yield f"{given}, which is a template itself; name what that is made of"
        elif found.type is not None and found.type not in KEY_TYPES:
            allowed = show_choices(KEY_TYPES)
            yield f"{given} of type {found.type}; name an attribute of type {allowed}"


def _describe_attribute(
    name: str, form: Attribute, entity: Entity, names: Collection[str]
) -> Iterator[str]:
    yield from _describe_attribute_name(name)
    if form.column is not None and form.template is not None:
        given = f"column {show_value(form.column)}"
        yield f"{given} and template {show_value(form.template)}; give one of them"
        return
    if form.template is not None:
        yield from _describe_template("template", form.template, entity)
        others = [key for key in Attribute.model_fields if key in form.model_fields_set]
        others.remove("template")
        for key in others:
            yield f"{key} {show_value(getattr(form, key))} beside a template; remove it"
        return
    if form.column is None:
        yield 'there is neither column nor template; add one, e.g. column = "name"'
    else:
        yield from _describe_name("column", form.column)
    yield from describe_reference_faults(form, names)
    yield from describe_rule_faults(form)


def _describe_attribute_name(name: str) -> Iterator[str]:
    size = len(name.encode())
    if not name:
        yield "the name is empty; give a name"
    elif name in _MADE:
        yield f"the program makes it of the column that {_MADE[name]} names; remove it"
    elif name in RESERVED:
        yield "the name is reserved for this program; choose another"
    elif size > _ATTRIBUTE_BYTES:
        yield f"the name has {size} bytes; shorten it to {_ATTRIBUTE_BYTES}"
    elif "{" in name or "}" in name:
        yield "the name has braces, which mark names in templates; remove them"


def _find_same_keys(entities: Mapping[str, Entity]) -> Iterator[Fault]:
    """Yield the entities whose keys are spelled as those of an entity before them.

    Other templates may give one key too, but only for some rows; a run finds these.
    """
    first: dict[tuple[str, str], str] = {}
    for name, entity in entities.items():
        keys = entity.partition_key, entity.sort_key
        other = first.setdefault(keys, name)
        if other != name:
            given = " and ".join(
                f"{key} {show_value(text)}"
                for key, text in zip(_KEYS, keys, strict=True)
            )
            yield Fault(
                (name,), f"{given} are those of {show_value(other)}; change one of them"
            )
