"""Writing a mapping as the text of a mapping file."""

from collections.abc import Iterator
from collections.abc import Mapping as MappingOf
from typing import Any

from flows.mapping.form_faults import ATTRIBUTES
from flows.mapping.model import Attribute, Entity, Mapping
from flows.mapping.spelling import (
    spell_bound,
    spell_key,
    spell_path,
    spell_text,
    spell_value,
)


def write_mapping(mapping: Mapping, comments: MappingOf[str, str] | None = None) -> str:
    """Return a mapping as TOML, one line for each attribute.

    *comments* end the lines of their keys: ``product`` is the line ``[product]``, and
    ``product.table``, ``product.attributes`` and ``product.attributes.price`` are
    others. ``read_mapping`` of the text returns an equal mapping.
    """
    left = dict(comments or {})
    blocks = (
        _write_entity(name, entity, left) for name, entity in mapping.entities.items()
    )
    return "\n".join("\n".join(lines) + "\n" for lines in blocks)


def _write_entity(
    name: str, entity: Entity, comments: MappingOf[str, str]
) -> Iterator[str]:
    def comment(*keys: str) -> str:
        # A comment ends with its line, and has no other control characters.
        text = comments.get(spell_path(keys), "")
        said = "".join(one if one.isprintable() else " " for one in text)
        return f"  # {' '.join(said.split())}" if said.strip() else ""

    yield f"[{spell_key(name)}]{comment(name)}"
    given = entity.model_dump(exclude_defaults=True, exclude={ATTRIBUTES})
    for key, value in given.items():
        yield f"{key} = {spell_value(value)}{comment(name, key)}"
    if not entity.attributes:
        return
    yield ""
    yield f"[{spell_path((name, ATTRIBUTES))}]{comment(name, ATTRIBUTES)}"
    for key, attribute in entity.attributes.items():
        line = f"{spell_key(key)} = {_spell_attribute(attribute)}"
        yield line + comment(name, ATTRIBUTES, key)


def _spell_attribute(attribute: Attribute) -> str:
    given = attribute.model_dump(exclude_defaults=True)
    if given.keys() == {"column"}:
        return spell_text(given["column"])
    numbers = attribute.type == "number"
    pairs = (
        f"{key} = {_spell(key, one, numbers=numbers)}" for key, one in given.items()
    )
    return "{ " + ", ".join(pairs) + " }"


def _spell(key: str, value: Any, *, numbers: bool) -> str:
    if key in {"minimum", "maximum"}:
        return spell_bound(value)
    if key == "one_of" and numbers:
        return "[" + ", ".join(map(spell_bound, value)) + "]"
    return spell_value(value)
