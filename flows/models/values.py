"""The values of attributes: one form per value, by which they are compared.

A string, an integer and a boolean are plain. Each other value is in DynamoDB's typed
form: ``{"N": "1.5"}``, ``{"M": {...}}``, ``{"B": b"..."}``, ``{"NULL": True}``. A
missing attribute is None. Numbers are spelled without exponent and trailing zeros, sets
are sorted, so that two equal values have one form.
"""

import json
from base64 import b64encode
from decimal import Decimal
from typing import Any

import orjson

NULL: dict[str, Any] = {"NULL": True}
# The letters whose content has one spelling.
PLAIN = frozenset({"S", "BOOL", "NULL", "B"})


def spell_number(text: str) -> str:
    """Return the one spelling of a number: no exponent, no trailing zeros, no -0."""
    if text.isdecimal() and (text == "0" or text[0] != "0"):
        return text
    plain = format(Decimal(text), "f")
    if "." in plain:
        plain = plain.rstrip("0").rstrip(".")
    return "0" if plain in {"-0", ""} else plain


def make_number(text: str) -> int | dict[str, Any]:
    """Return a number in its one form: an integer is plain."""
    spelled = spell_number(text)
    return {"N": spelled} if "." in spelled else int(spelled)


def canonical(letter: str, content: Any) -> Any:
    """Return the one form of a value in DynamoDB's typed form.

    Bytes must be decoded already.
    """
    if letter in {"S", "BOOL"}:
        return content
    return make_number(content) if letter == "N" else {letter: _inside(letter, content)}


def _inside(letter: str, content: Any) -> Any:
    if letter == "M":
        return {name: _nested(one) for name, one in content.items()}
    if letter == "L":
        return [_nested(one) for one in content]
    if letter == "N":
        return spell_number(content)
    if letter == "NS":
        return sorted(map(spell_number, content))
    return sorted(content) if letter in {"SS", "BS"} else content


def _nested(typed: dict[str, Any]) -> dict[str, Any]:
    ((letter, content),) = typed.items()
    return typed if letter in PLAIN else {letter: _inside(letter, content)}


def tagged(value: Any) -> str:
    """Return a value's text with its type's letter first, equal for equal values."""
    if isinstance(value, str):
        return f"s{value}"
    if value is None or isinstance(value, (bool, int)):
        # The first letter of NoneType, bool and int.
        return f"{type(value).__name__[0]}{value}"
    ((letter, content),) = value.items()
    if letter == "N":
        return f"i{content}"
    if letter == "B":
        return f"B{b64encode(content).decode()}"
    return "j" + dump(value)


def dump(value: Any) -> str:
    """Return a typed value as JSON, with the keys of maps in one order."""
    options = orjson.OPT_SORT_KEYS
    try:
        return orjson.dumps(value, default=_as_text, option=options).decode()
    except orjson.JSONEncodeError:
        # A text of another program may have half of a surrogate pair.
        separators = (",", ":")
        return json.dumps(
            value, sort_keys=True, separators=separators, default=_as_text
        )


def _as_text(value: Any) -> str:
    return b64encode(value).decode("ascii")
