"""Comparison of two mappings: their digests, and what differs between them."""

import json
import re
from collections.abc import Iterator
from collections.abc import Mapping as MappingOf
from hashlib import sha256
from typing import Any

from flows.mapping.form_faults import ATTRIBUTES
from flows.mapping.model import Attribute, Entity, Form, Mapping
from flows.mapping.spelling import spell_key, spell_path, spell_value

_PLAIN = re.compile(r"[\w.-]+")


def digest_of(mapping: Mapping) -> str:
    """Return the SHA-256 of a mapping's entities, in hexadecimal digits.

    The order of entities and attributes changes no item, so it is left out, and so is
    the path of the file.
    """
    plain = mapping.model_dump(mode="json", exclude_defaults=True, exclude={"path"})
    text = json.dumps(plain, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()


def changes_between(old: MappingOf[str, Any], new: MappingOf[str, Any]) -> list[str]:
    """Return what differs between two mappings, a phrase for each difference.

    Both are given as ``model_dump(mode="json", exclude_defaults=True)``. The phrases
    are empty exactly if both have one digest.
    """
    return list(_compare(old.get("entities", {}), new.get("entities", {})))


def _compare(old: MappingOf[str, Any], new: MappingOf[str, Any]) -> Iterator[str]:
    for name in {**old, **new}:
        if name not in old:
            yield f"entity {spell_key(name)} is new"
        elif name not in new:
            yield f"entity {spell_key(name)} is gone"
        else:
            yield from _compare_entity(name, old[name], new[name])


def _compare_entity(
    name: str, old: MappingOf[str, Any], new: MappingOf[str, Any]
) -> Iterator[str]:
    yield from _compare_keys(Entity, spell_key(name), old, new)
    before, after = old.get(ATTRIBUTES, {}), new.get(ATTRIBUTES, {})
    for attribute in {**before, **after}:
        path = spell_path((name, ATTRIBUTES, attribute))
        if attribute not in before:
            yield f"{path} is new"
        elif attribute not in after:
            yield f"{path} is gone"
        else:
            yield from _compare_keys(
                Attribute, path, before[attribute], after[attribute]
            )


def _compare_keys(
    form: type[Form], path: str, old: MappingOf[str, Any], new: MappingOf[str, Any]
) -> Iterator[str]:
    for key in {**form.model_fields, **old, **new}:
        field = form.model_fields.get(key)
        default = field.get_default(call_default_factory=False) if field else None
        before, after = old.get(key, default), new.get(key, default)
        if key != ATTRIBUTES and before != after:
            yield f"{path}: {key} {_show(after)}, was {_show(before)}"


def _show(value: Any) -> str:
    if value is None or value == ():
        return "not given"
    plain = isinstance(value, str) and _PLAIN.fullmatch(value)
    return value if plain else spell_value(value)
