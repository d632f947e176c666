"""PostgreSQL's text of values, as the values of attributes and as parts of keys.

Reconciliation derives both from SQL by independent code.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa

from flows.mapping.model import FieldType
from flows.models.items import format_timestamps
from flows.models.sources import Field
from flows.models.values import NULL, make_number, spell_number

# Numbers that orjson would round: a fraction, an exponent, or many digits.
_INEXACT = re.compile(r"[0-9][.eE]|[0-9]{16}")
# The bounds of an array whose first subscript is not 1.
_BOUNDS = re.compile(r"[^{]*=")


def convert(texts: Sequence[str | None], one: Field) -> list[Any]:
    """Convert a column of PostgreSQL's texts to the values of a field's attributes.

    NULL becomes None, or NULL if the field keeps it. References are not converted.

    Raises:
        ValueError: a text cannot be a value, which validation quarantines.
    """
    nothing = NULL if one.keep_null else None
    if one.type in {"text", "date"}:
        if one.keep_null:
            return [nothing if text is None else text for text in texts]
        return list(texts)
    if one.type == "timestamp":
        column = format_timestamps(pa.array(texts, pa.string())).to_pylist()
        return [nothing if text is None else text for text in column]
    read = _reader(one.type, one)
    return [nothing if text is None else read(text) for text in texts]


def key_texts(texts: Sequence[str | None], one: Field) -> list[str | None]:
    """Convert a column of PostgreSQL's texts to parts of keys; NULL becomes None."""
    if one.type == "timestamp":
        return list(format_timestamps(pa.array(texts, pa.string())).to_pylist())
    if one.type == "number":
        return [None if text is None else spell_number(text) for text in texts]
    if one.type == "boolean":
        return [None if text is None else str(text == "t").lower() for text in texts]
    return list(texts)


def _reader(kind: FieldType, one: Field) -> Callable[[str], Any]:
    separator = ";" if one.pg_type == "box" else ","
    element = _reader(one.element, one) if kind == "list" else None

    def read_list(text: str) -> Any:
        return {
            "L": [_in_list(value, element) for value in read_array(text, separator)]
        }

    def read_set(text: str) -> Any:
        return {"SS": sorted(_without_null(read_array(text, separator)))}

    def read_numbers(text: str) -> Any:
        elements = _without_null(read_array(text, separator))
        return {"NS": sorted(map(spell_number, elements))}

    readers: dict[FieldType, Callable[[str], Any]] = {
        "number": make_number,
        "boolean": lambda text: text == "t",
        "json": read_json,
        "binary": lambda text: {"B": bytes.fromhex(text.removeprefix("\\x"))},
        "list": read_list,
        "string_set": read_set,
        "number_set": read_numbers,
    }
    return readers.get(kind, str)


def _in_list(value: Any, read: Callable[[str], Any] | None) -> dict[str, Any]:
    if isinstance(value, list):
        return {"L": [_in_list(one, read) for one in value]}
    return _typed(None if value is None or read is None else read(value))


def _typed(value: Any) -> dict[str, Any]:
    """Return a value in DynamoDB's typed form, as it is inside of lists and maps."""
    if value is None:
        return NULL
    if isinstance(value, dict):
        return value
    if isinstance(value, str):
        return {"S": value}
    return {"BOOL": value} if isinstance(value, bool) else {"N": str(value)}


def _without_null(elements: Sequence[Any]) -> list[str]:
    if any(not isinstance(one, str) for one in elements):
        message = "a set cannot have NULL or an array as element"
        raise ValueError(message)
    return list(elements)


def read_json(text: str) -> Any:
    """Return a JSON text as a value, with exact numbers; of duplicate keys the last."""
    if not _INEXACT.search(text):
        try:
            return _plain(_json_value(orjson.loads(text)))
        except orjson.JSONDecodeError:
            # Half of a surrogate pair, which the type json can hold.
            pass
    return _plain(_json_value(json.loads(text, parse_float=Decimal, parse_int=Decimal)))


def _json_value(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {"M": {name: _json_value(one) for name, one in value.items()}}
    if isinstance(value, list):
        return {"L": [_json_value(one) for one in value]}
    if isinstance(value, (Decimal, float)):
        return {"N": spell_number(str(value))}
    return _typed(value)


def _plain(typed: dict[str, Any]) -> Any:
    ((letter, content),) = typed.items()
    if letter == "N":
        return make_number(content)
    return content if letter in {"S", "BOOL"} else typed


def read_array(text: str, separator: str = ",") -> list[Any]:
    """Return PostgreSQL's text of an array as nested lists of texts and None."""
    if not text.startswith("{"):
        text = _BOUNDS.sub("", text, count=1)
    if "{" not in text[1:] and '"' not in text and "\\" not in text:
        # Plain elements in one dimension, as nearly all arrays have.
        inside = text[1:-1]
        parts = inside.split(separator) if inside else []
        return [None if part == "NULL" else part for part in parts]
    return _read_dimension(iter(text[1:]), separator)


def _read_dimension(characters: Iterator[str], separator: str) -> list[Any]:
    """Read the elements of an array up to its closing brace."""
    elements: list[Any] = []
    part: list[str] = []
    quoted = begun = False
    for character in characters:
        if character == '"':
            part.extend(_read_quoted(characters))
            quoted = begun = True
        elif character == "{":
            elements.append(_read_dimension(characters, separator))
            begun, part = False, []
        elif character in {separator, "}"}:
            if begun:
                text = "".join(part)
                elements.append(None if text == "NULL" and not quoted else text)
            part, quoted, begun = [], False, False
            if character == "}":
                break
        else:
            part.append(next(characters) if character == "\\" else character)
            begun = True
    return elements


def _read_quoted(characters: Iterator[str]) -> Iterator[str]:
    for character in characters:
        if character == '"':
            return
        yield next(characters) if character == "\\" else character
