"""The faults of a mapping file's form: unknown keys, and values of a wrong type."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from flows.mapping.model import Attribute, Entity, Form
from flows.mapping.spelling import show_choices, show_value, spell_key, spell_path

ATTRIBUTES = "attributes"
# What a key that each entity needs looks like.
EXAMPLES = {
    "table": 'table = "public.products"',
    "id": 'id = "id"',
    "partition_key": 'partition_key = "PROD#{id}"',
    "sort_key": 'sort_key = "METADATA"',
}
# What is wrong with a value, by pydantic's type of the error.
_WRONG = {
    "string_type": "is not a text; write it in quotes",
    "bool_type": "is not a boolean; write true or false, without quotes",
    "int_type": "is not a whole number; write it without quotes, e.g. 10",
    "greater_than_equal": "is negative; give 0 or more",
    "tuple_type": 'is not a list; write one, e.g. ["free", "pro"]',
}
# How much of two words must be equal, of 0 to 1.
_NEAR = 0.7
_NOT_VALID = "is not valid; correct it"


@dataclass(frozen=True)
class Fault:
    """A fault of a mapping file: the keys that lead to it, and what is wrong there."""

    path: tuple[str, ...]
    text: str

    def describe(self, file: str) -> str:
        """Return the fault as one line, with its file and its key."""
        return ": ".join(
            part for part in (file, spell_path(self.path), self.text) if part
        )


def read_entity(name: str, table: object) -> tuple[Entity | None, list[Fault]]:
    """Return an entity of a file, and the faults of its form.

    Harmless values stand in for faulty ones, so that everything else of the entity can
    be checked too; None if it is no table.
    """
    try:
        return Entity.model_validate(table), []
    except ValidationError as error:
        errors = error.errors(include_url=False)
    faults = [_describe(name, one) for one in errors]
    if not isinstance(table, dict):
        return None, faults
    return Entity.model_validate(_without_faults(name, table, errors)), faults


def nearest(word: object, choices: Collection[str]) -> str:
    """Return a question for the choice that is spelled nearly so; empty if none is."""
    lower = {choice.lower(): choice for choice in choices}
    found = get_close_matches(str(word).lower(), lower, n=1, cutoff=_NEAR)
    return f"; did you mean {show_value(lower[found[0]])}?" if found else ""


def unknown(word: object, choices: Collection[str]) -> str:
    """Return that a word is unknown, what it may be, and what is spelled nearly so."""
    listed = f"one of {show_choices(choices)}{nearest(word, choices)}"
    return f"{show_value(word)} is unknown; {listed}"


def _describe(entity: str, error: ErrorDetails) -> Fault:
    keys = [str(part) for part in error["loc"]]
    of_attribute = keys[:1] == [ATTRIBUTES] and len(keys) > 1
    path = (entity, *keys[:2]) if of_attribute else (entity,)
    rest = keys[len(path) - 1 :]
    if not rest:
        return Fault(path, _describe_no_table(path, error["input"]))
    form = Attribute if of_attribute else Entity
    return Fault(path, _describe_value(form, rest, error))


def _describe_no_table(path: tuple[str, ...], value: object) -> str:
    if len(path) > 1:
        given = f"{show_value(value)} is neither a column nor a table"
        name = spell_key(path[-1])
        return f'{given}; write {name} = "column" or {name} = {{ column = "column" }}'
    # Its value is not shown: the file may be another one, with secrets.
    return (
        f"it is not a table; begin each entity with its name, as [{spell_path(path)}]"
    )


def _describe_value(form: type[Form], keys: list[str], error: ErrorDetails) -> str:
    key, value = keys[0], error["input"]
    match error["type"]:
        case "missing":
            text = f"{key} is missing; add it, e.g. {EXAMPLES[key]}"
        case "extra_forbidden":
            text = f"key {unknown(key, form.model_fields)}"
        case "literal_error":
            choices = choices_of(form.model_fields[key].annotation)
            text = f"{key} {unknown(value, choices)}"
        case "dict_type":
            text = f"{key} {show_value(value)} is not a table; write one"
        case kind if len(keys) > 1 and kind in _WRONG:
            text = f"{key} has {show_value(value)}, which {_WRONG[kind]}"
        case kind:
            text = f"{key} {show_value(value)} {_WRONG.get(kind, _NOT_VALID)}"
    return text


def choices_of(annotation: Any) -> list[str]:
    """Return the texts that an annotation allows, also an optional one."""
    return [
        choice
        for part in get_args(annotation)
        if part is not type(None)
        for choice in ([part] if isinstance(part, str) else choices_of(part))
    ]


def _without_faults(
    entity: str, table: dict[str, Any], errors: Sequence[ErrorDetails]
) -> dict[str, Any]:
    whole = deepcopy(table)
    for error in errors:
        _replace(entity, whole, [str(part) for part in error["loc"]])
    return whole


def _replace(entity: str, whole: dict[str, Any], keys: Sequence[str]) -> None:
    """Put a stand-in at the place of a fault, or remove the key that has it."""
    if keys[0] != ATTRIBUTES or len(keys) == 1:
        _put(whole, keys[0], {"table": "stand-in", "id": "id", **_keys_of(entity)})
        return
    attributes, (_, name, *rest) = whole[ATTRIBUTES], keys
    if rest:
        _put(attributes[name], rest[0], {"column": "stand-in", "template": "{id}"})
    else:
        attributes[name] = "stand-in"


def _keys_of(entity: str) -> Mapping[str, str]:
    """Return templates that no other entity has."""
    constant = entity.replace("{", "{{").replace("}", "}}")
    return dict.fromkeys(("partition_key", "sort_key"), f"\0{constant}{{id}}")


def _put(table: dict[str, Any], key: str, stand_ins: Mapping[str, str]) -> None:
    table.pop(key, None)
    if key in stand_ins:
        table[key] = stand_ins[key]


def in_order(faults: Sequence[Fault], data: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield faults in the order of the entities and attributes of their file."""
    paths: list[tuple[str, ...]] = []
    for name, entity in data.items():
        paths.append((name,))
        attributes = entity.get(ATTRIBUTES) if isinstance(entity, dict) else None
        if isinstance(attributes, dict):
            paths += [(name, ATTRIBUTES, one) for one in attributes]
    places = {path: place for place, path in enumerate(paths)}
    yield from sorted(faults, key=lambda fault: places.get(fault.path, -1))
