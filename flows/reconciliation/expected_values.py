"""The value that a text of the source must have in an item.

Independent of ``transform``: only the one form of values is shared.
"""

import json
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any

import orjson

from flows.mapping.model import TIMES
from flows.models import Attribute, Field, FieldType
from flows.models.values import NULL, make_number, spell_number

# DynamoDB's limits: significant digits, exponents of the first digit, levels.
MOST_DIGITS = 38
EXPONENTS = range(-130, 126)
DEEPEST = 32
ISO_TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"
ISO_DATE = r"^\d{4}-\d\d-\d\d$"
# JSON that may have numbers that are no 64-bit integers.
_INEXACT = re.compile(r"\d[.eE]|\d{19}")


class ImpossibleValueError(ValueError):
    """A value that cannot be in an item."""


def expect_value(field: Field, text: str | None) -> Attribute | None:
    """Return the value of a field's text in its one form; None if it is absent.

    The field is no reference.

    Raises:
        ImpossibleValueError: no item can have the value.
    """
    if text is None:
        if is_needed(field):
            message = f"{field.name} is required"
            raise ImpossibleValueError(message)
        return NULL if field.keep_null else None
    return READERS[field.type](field, text)


def is_needed(field: Field) -> bool:
    """Return whether a row without a value in the field cannot be an item."""
    required = field.rules.required and field.rules.severity != "warning"
    return required or field.name in TIMES


def expect_number(text: str) -> str:
    """Return the one spelling of a number in PostgreSQL's text or JSON.

    Raises:
        ImpossibleValueError: DynamoDB has no such number.
    """
    number = Decimal(text)
    if not number.is_finite():
        message = "no item has NaN or an infinity"
        raise ImpossibleValueError(message)
    digits = "".join(map(str, number.as_tuple().digits)).strip("0")
    if len(digits) > MOST_DIGITS or (digits and number.adjusted() not in EXPONENTS):
        message = "the number is too precise or out of range"
        raise ImpossibleValueError(message)
    return spell_number(text)


def _read_number(_: Field, text: str) -> Attribute:
    return make_number(expect_number(text))


def _read_boolean(_: Field, text: str) -> Attribute:
    return text == "true"


def _read_matching(_: Field, text: str, *, pattern: str) -> Attribute:
    if re.fullmatch(pattern, text, re.ASCII) is None:
        message = "the time is outside the years 1 to 9999"
        raise ImpossibleValueError(message)
    return text


def _read_binary(_: Field, text: str) -> Attribute:
    return {"B": b64decode(text)}


def _read_json(_: Field, text: str) -> Attribute:
    value = parse_json(text)
    if isinstance(value, (str, bool)):
        return value
    typed = _typed(value, 0, _json_leaf)
    return make_number(typed["N"]) if "N" in typed else typed


def _read_list(field: Field, text: str) -> Attribute:
    leaves = {"binary": _bytes_leaf, "text": _text_leaf, "number": _number_leaf}
    return _typed(parse_json(text), 0, leaves.get(field.element, _json_leaf))


def _read_set(field: Field, text: str) -> Attribute:
    elements = parse_json(text)
    if not elements or not all(isinstance(one, str) for one in elements):
        message = "the set is empty, or has NULL or an array"
        raise ImpossibleValueError(message)
    if field.type == "number_set":
        elements = [expect_number(one) for one in elements]
    if len(set(elements)) < len(elements):
        message = "an element of the set occurs twice"
        raise ImpossibleValueError(message)
    return {"NS" if field.type == "number_set" else "SS": sorted(elements)}


READERS: Mapping[FieldType, Callable[[Field, str], Attribute]] = {
    "text": lambda _, text: text,
    "number": _read_number,
    "boolean": _read_boolean,
    "timestamp": partial(_read_matching, pattern=ISO_TIME),
    "date": partial(_read_matching, pattern=ISO_DATE),
    "json": _read_json,
    "list": _read_list,
    "string_set": _read_set,
    "number_set": _read_set,
    "binary": _read_binary,
}


def parse_json(text: str) -> Any:
    """Parse JSON; numbers that are no small integers become decimals, never floats.

    Of two equal keys the last one counts.

    Raises:
        ImpossibleValueError: the value is nested so deep that it cannot be parsed.
    """
    if not _INEXACT.search(text):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            # Half of a surrogate pair, or nested too deep.
            pass
    try:
        return json.loads(text, parse_float=Decimal, parse_int=Decimal)
    except RecursionError:
        raise ImpossibleValueError from None


def _typed(value: Any, level: int, leaf: Callable[[Any], Any]) -> dict[str, Any]:
    """Return a parsed value in DynamoDB's typed form, below *level* maps and lists."""
    if value is None:
        return NULL
    if not isinstance(value, (dict, list)):
        typed: dict[str, Any] = leaf(value)
        return typed
    if level == DEEPEST:
        message = f"the value is nested deeper than {DEEPEST} levels"
        raise ImpossibleValueError(message)
    if isinstance(value, list):
        return {"L": [_typed(one, level + 1, leaf) for one in value]}
    return {"M": {name: _typed(one, level + 1, leaf) for name, one in value.items()}}


def _json_leaf(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"S": value}
    return {"BOOL": value} if isinstance(value, bool) else _number_leaf(value)


def _number_leaf(value: Any) -> dict[str, Any]:
    return {"N": str(value) if type(value) is int else expect_number(str(value))}


def _text_leaf(value: Any) -> dict[str, Any]:
    return {"S": value}


def _bytes_leaf(value: str) -> dict[str, Any]:
    # PostgreSQL's hexadecimal text begins with \x.
    return {"B": bytes.fromhex(value[2:])}
