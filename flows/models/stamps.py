"""The time of an item's last change, in any format that an application writes.

Loading and planning keep an item that was changed after its row. Keeping an item by
mistake costs a look at a report; overwriting one by mistake loses an edit. So every
readable format counts, and of two readings the later one counts.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from flows.models.items import Attribute

STAMPS = ("updatedAt", "updated_date")

_CANONICAL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
# A time beyond the year 9999, which is later than any row's stamp.
_BEYOND = re.compile(r"[+]?0*[1-9][0-9]{4,}-[0-9]{2}-[0-9]{2}(?!.*BC)")
_LATEST = datetime.max.replace(tzinfo=UTC)
# Excludes the digits of an offset: without a year pandas uses the current day.
_YEAR = re.compile(r"(?<![+\d])(?<!:\d\d-)\d{4}")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+]?\d\d?)?")
# Days and seconds without separators, which are not numbers: 20240229, 20240229013000.
_DIGITS = re.compile(r"[12]\d{7}|[12]\d{13}")
# The zone's name that JavaScript and Java write after an offset, and the prefix of an
# offset in RFC 1123.
_REMARKS = re.compile(
    r"(?:(?<=[Zz])|(?<=[+-]\d{4})|(?<=[+-]\d\d:\d\d))\s*[(\[].*$"
    r"|(?:GMT|UTC)(?=[+-]\d)"
)
# A zone without an offset, and an offset from a zone, whose sign pandas inverts.
_UNSURE = re.compile(r"[(\[]|\d\s*[A-Za-z]+[+-]\d")
_DAY_OR_MONTH_FIRST = re.compile(r"\d{1,2}[./-]\d{1,2}[./-]\d{4}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A number below it is in seconds, up to the year 5138; a number below a thousand times
# it is in milliseconds, and so on.
_MOST_SECONDS = Decimal(10) ** 11
# A number before this time, in 2001, may be days, or ticks since another epoch.
_FIRST_CERTAIN = _EPOCH + timedelta(seconds=10**9)


def is_newer(item: Mapping[str, Attribute], stamp: str) -> bool:
    """Return whether an item was changed after *stamp*, by either of its stamps.

    Stamps are compared as instants: ISO 8601, RFC 1123, the formats of JavaScript and
    Java, days and months in any order, and numbers of seconds to nanoseconds since
    1970. An unreadable stamp is not newer.
    """
    return any(_is_later(item[name], stamp) for name in STAMPS if name in item)


def has_readable_stamps(item: Mapping[str, Attribute]) -> bool:
    """Return whether an item has stamps and all of them are readable.

    A number that would be before September 2001 may not be a time: it is unreadable.
    """
    stamps = [item[name] for name in STAMPS if name in item]
    return bool(stamps) and all(map(_is_certain, stamps))


def _is_later(value: Any, stamp: str) -> bool:
    if isinstance(value, str) and _CANONICAL.fullmatch(value):
        return value > stamp
    instant = _read_instant(value)
    return instant is not None and instant > datetime.fromisoformat(stamp)


def _is_certain(value: Any) -> bool:
    instant = _read_instant(value)
    if instant is None:
        return False
    return instant >= _FIRST_CERTAIN or not _is_number(_as_text(value))


def _read_instant(value: Any) -> datetime | None:
    """Read an attribute's value as an instant; None if it is not one."""
    text = _as_text(value)
    if _is_number(text):
        return _read_epoch(Decimal(text))
    return _LATEST if _BEYOND.match(text) else _read_text(text)


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        # A number that is not an integer keeps DynamoDB's form.
        value = value.get("N")
    if value is None or isinstance(value, bool):
        return ""
    return _REMARKS.sub("", str(value)).strip()


def _is_number(text: str) -> bool:
    return bool(_NUMBER.fullmatch(text) and not _DIGITS.fullmatch(text))


def _read_epoch(number: Decimal) -> datetime | None:
    for scale in (0, 3, 6, 9):
        seconds = number.scaleb(-scale)
        if abs(seconds) < _MOST_SECONDS:
            try:
                return _EPOCH + timedelta(microseconds=int(seconds * 1_000_000))
            except OverflowError:
                return None
    return None


def _read_text(text: str) -> datetime | None:
    if not _YEAR.search(text) or _UNSURE.search(text):
        return None
    import pandas as pd

    orders = (False, True) if _DAY_OR_MONTH_FIRST.match(text) else (False,)
    found = (
        pd.to_datetime(
            text, utc=True, errors="coerce", format="mixed", dayfirst=day_first
        )
        for day_first in orders
    )
    return max((instant for instant in found if pd.notna(instant)), default=None)
