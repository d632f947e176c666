"""Numbers as exact text: what DynamoDB can hold, and how they compare."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Final, NamedTuple

# DynamoDB: 38 significant digits, from 1E-130 to 9.9E+125.
MOST_DIGITS: Final = 38
LEAST_EXPONENT, MOST_EXPONENT = -130, 125
# Nearly every number; up to 38 characters of it need no other check.
PLAIN_NUMBER: Final = "-?[0-9]+(?:[.][0-9]+)?"
_NUMBER: Final = re.compile(r"[-+]?([0-9]*)(?:\.([0-9]*))?(?:[eE]([-+]?[0-9]+))?")
# No exponent of more digits is within any range.
_LONGEST_EXPONENT: Final = 9


class NumberFacts(NamedTuple):
    """Whether a text is a number, and whether DynamoDB can hold it exactly."""

    is_number: bool = True
    is_precise: bool = True
    is_in_range: bool = True


FINE: Final = NumberFacts()


def judge_number(text: str) -> NumberFacts:
    """Judge a number's text, which may have an exponent."""
    found = _NUMBER.fullmatch(text)
    if not found or not (found[1] or found[2]):
        return NumberFacts(is_number=False)
    whole, fraction, exponent = found[1], found[2] or "", found[3] or "0"
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return FINE
    is_precise = len(digits.rstrip("0")) <= MOST_DIGITS
    if len(exponent.lstrip("+-0")) > _LONGEST_EXPONENT:
        return NumberFacts(is_precise=is_precise, is_in_range=False)
    first = len(digits) - 1 - len(fraction) + int(exponent)
    is_in_range = LEAST_EXPONENT <= first <= MOST_EXPONENT
    return NumberFacts(is_precise=is_precise, is_in_range=is_in_range)


def read_number(text: str) -> Decimal | None:
    """Return a number exactly; None if the text is not one, or is not finite."""
    if not judge_number(text).is_number:
        return None
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond Python's
        return None


def number_bytes(text: str) -> int:
    """Measure a number as DynamoDB counts it, without its name.

    A byte per two significant digits, one more, and one for the sign.
    """
    mantissa, _, _ = text.lower().partition("e")
    digits = mantissa.lstrip("+-").replace(".", "").strip("0")
    return (len(digits) + 1) // 2 + 1 + (bool(digits) and text.startswith("-"))
