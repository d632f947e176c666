"""The value that a text of the source must have in an item.

Independent of ``transform``: only the one form of values is shared.
"""

import json
import re
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
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
_INEXACT = re.compile(r"[0-9][.eE]|[0-9]{19}")
_SHORT = re.compile(r"-?(?:0|[1-9][0-9]{0,18})(?:\.[0-9]{1,19})?")


class ImpossibleValueError(ValueError):
    """A value that cannot be in an item."""


class _NumberText(str):
    """The text of a number in JSON, which is no string."""

    __slots__ = ()


_DECODER = json.JSONDecoder(parse_float=_NumberText, parse_int=_NumberText)


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
    if _SHORT.fullmatch(text):
        # At most 38 digits, so nothing else can be wrong.
        shorter = text.rstrip("0").rstrip(".") if "." in text else text
        return "0" if shorter == "-0" else shorter
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
    typed = _typed(parse_json(text))
    ((letter, content),) = typed.items()
    if letter == "N":
        return make_number(content)
    return content if letter in {"S", "BOOL"} else typed


def _read_list(field: Field, text: str) -> Attribute:
    elements = parse_json(text)
    if field.element == "number":
        _require_numbers(elements)
    if field.element == "binary":
        elements = _as_bytes(elements)
    return _typed(elements)


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
    """Parse JSON; a number that is no small integer stays a text of a separate type.

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
        return _DECODER.decode(text)
    except RecursionError:
        raise ImpossibleValueError from None


def _typed(value: Any, level: int = 0) -> dict[str, Any]:
    """Return a parsed value in DynamoDB's typed form, below *level* maps and lists."""
    kind = type(value)
    if kind is not dict and kind is not list:
        return _typed_leaf(value)
    if level == DEEPEST:
        message = f"the value is nested deeper than {DEEPEST} levels"
        raise ImpossibleValueError(message)
    below = level + 1
    # Most values are strings, which need no call.
    if kind is list:
        return {"L": [{"S": v} if type(v) is str else _typed(v, below) for v in value]}
    return {
        "M": {
            name: {"S": v} if type(v) is str else _typed(v, below)
            for name, v in value.items()
        }
    }


def _typed_leaf(value: Any) -> dict[str, Any]:
    kind = type(value)
    if kind is int:
        return {"N": str(value)}
    if kind is bool:
        return {"BOOL": value}
    if kind is _NumberText:
        return {"N": expect_number(value)}
    if value is None:
        return NULL
    return {"S" if kind is str else "B": value}


def _require_numbers(elements: Sequence[Any]) -> None:
    """Raise if an element is no number: JSON has NaN and infinities as strings."""
    for one in elements:
        if type(one) is list:
            _require_numbers(one)
        elif type(one) is str:
            message = "no item has NaN or an infinity"
            raise ImpossibleValueError(message)


def _as_bytes(elements: Sequence[Any]) -> list[Any]:
    """Return PostgreSQL's texts of bytes, with their two-letter prefix, as bytes."""
    return [
        _as_bytes(one) if isinstance(one, list) else one and bytes.fromhex(one[2:])
        for one in elements
    ]
