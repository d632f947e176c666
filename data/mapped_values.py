"""The odd and the bad values of the second sample, by column.

An odd value must arrive in an item, as it is; a bad one cannot be part of an item.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

# Each column has an odd value in every 25th row, at a place of that column.
ODD_EVERY, ODD_NAME_AT = 25, 2


class Column(NamedTuple):
    """The share of rows without a value, and the odd values of a column."""

    missing: float
    place: int
    odd: tuple[str | None, ...]


def nest(levels: int) -> str:
    """Return JSON of maps in maps, *levels* deep."""
    return '{"a":' * levels + "1" + "}" * levels


def write_array(elements: Iterable[str | None]) -> str:
    """Write texts as PostgreSQL's array; None is NULL."""
    return "{" + ",".join(map(_write_element, elements)) + "}"


def _write_element(text: str | None) -> str:
    if text is None:
        return "NULL"
    if re.fullmatch("[a-z0-9.-]+", text) and text != "null":
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


# 38 digits are exact in DynamoDB, and 39 are not. Numbers from 1E+38 on are left out:
# moto's server fails when it reads one, which DynamoDB does not.
MOST_DIGITS = "12345678901234567890123456789012345678"
LARGEST = "9" * 38
SMALLEST = "0." + "0" * 129 + "1"

SEATS = Column(0.05, 3, ("0", "2147483647", None))
SETTINGS = Column(
    0.2,
    7,
    (
        *("{}", "[]", "null", "false", "0", '""', '"a text"', "[[], [[1], {}], null]"),
        *("-0.0", "1.50", "1.0", "1e-130", "1E+2", "9007199254740993", MOST_DIGITS),
        *(LARGEST, nest(32), '{"twice": 1, "twice": 2}', '{"N": "1.5"}'),
        *('{"NULL": true, "M": {"S": "x"}}', '{"PK": "ENT#1", "SK": "METADATA"}'),
        *('{"caf\u00e9": 1, "cafe\u0301": 2}', '{"\U0001f680": "\U00020bb7 \u200f"}'),
        *('{"a b.c#d": "\\"quoted\\" \\n"}', '["a", 1, 1.0, null, {"b": []}]'),
    ),
)
TAGS = Column(
    0.3,
    13,
    (
        write_array(["two words", "a,b", "{c}"]),
        write_array(["NULL", "null"]),
        write_array(['a "quote"', "back\\slash", "line\nend"]),
        write_array(["\u00e9", "e\u0301"]),
        write_array(["vip", "VIP", "vip "]),
        write_array(["\U0001f680", "\u5bb6\u65cf"]),
    ),
)
# An address that is none is only a warning.
OWNERS = Column(
    0.03,
    19,
    (
        *("no address", "o'brien+news@example.com", "\u7528\u6237@example.org"),
        *("ADA@EXAMPLE.COM", ""),
    ),
)
PRICES = Column(
    0.02,
    4,
    (
        *("0", "0.00", "1.50", "100", "1e2", "9007199254740993", SMALLEST, LARGEST),
        *(f"{MOST_DIGITS}.0", f"0.{MOST_DIGITS}"),
    ),
)
STOCKS = Column(
    0.05,
    8,
    (
        *("0", "-1", "9223372036854775807", "-9223372036854775808", "2147483648"),
        "9007199254740993",
    ),
)
DIMENSIONS = Column(
    0.45,
    14,
    (
        *("{}", "{NULL}", "{1.50,NULL,2.0}", "{{1,2},{3,4}}", "{{{0}}}", "[0:1]={7,8}"),
        *("{1,1,1}", "{-0.0,1e-130}", f"{{{MOST_DIGITS},{LARGEST}}}"),
    ),
)
RELEASES = Column(
    0.3,
    21,
    (
        *("0001-01-01", "9999-12-31", "1969-12-31", "1970-01-01", "2024-02-29"),
        "1582-10-10",
    ),
)

# Each makes a row that cannot be an item, each for another reason.
BAD_ENTERPRISES: tuple[dict[str, Any], ...] = (
    {"name": "   "},
    {"plan": "legacy"},
    {"plan": None},
    {"seats": "-5"},
    {"settings": nest(33)},
    {"settings": f'{{"limit": {MOST_DIGITS}90}}'},
    {"settings": '{"limit": 1e126}'},
    {"tags": "{}"},
    {"tags": "{vip,new,vip}"},
    {"tags": "{vip,NULL}"},
    {"tags": "{{vip,new},{ngo,b2b}}"},
    {"created": "infinity"},
)
BAD_PRODUCTS: tuple[dict[str, Any], ...] = (
    {"price": "NaN"},
    {"price": f"{MOST_DIGITS}.99"},
    {"price": "1e126"},
    {"price": "-1"},
    {"enterprise_id": None},
    {"name": ""},
    {"dimensions": "{10,NaN,30}"},
    {"dimensions": f"{{{MOST_DIGITS}9}}"},
    {"dimensions": "{1e-131}"},
    {"released": "infinity"},
    {"released": "0044-03-15 BC"},
    {"created": None, "updated": None},
    {"updated": "12000-01-01 00:00:00+00"},
)
