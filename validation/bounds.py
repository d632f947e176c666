"""Values against the bounds and lists of a mapping: exactly, by the column's type."""

from __future__ import annotations

from decimal import Decimal
from math import ceil, floor
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from validation import moments
from validation.arrow_text import TEXT, Array, Mask
from validation.decimal_text import read_number
from validation.masks import all_hold, is_one_of, mask, present, spelt
from validation.report import InputError
from validation.rules import type_of

if TYPE_CHECKING:
    from validation.subject import ColumnRules

_TIMES: Final = ("timestamp", "date")
# Integers that fit in 64 bits, spelt in one way.
_INTEGER: Final = "0|-?[1-9][0-9]{0,17}"
_BEYOND_INTEGERS: Final = 10**18
_MOST_PLACES: Final = 150_000


def read_bound(column: ColumnRules, text: str, rule: str) -> Decimal | str:
    """Return a bound or a value of a rule: a number, or a text that compares in order.

    Raises:
        InputError: the text is not a value of the column's type.
    """
    kind = type_of(column)
    found: Decimal | str | None = text
    try:
        if kind == "number":
            found = read_number(text)
        elif kind in _TIMES:
            found = moments.spell_moment(text, kind)
    except ValueError:
        found = None
    if found is None:
        message = f"{rule} of {column.name} must be a {kind}, not {text!r}: correct it"
        raise InputError(message)
    return found


def find_outside(values: Array, column: ColumnRules, what: str) -> Mask:
    """Return which values are below a minimum, or above a maximum.

    Values that are no number or no plain time are not: they break other rules.

    Raises:
        InputError: the bound is not a value of the column's type.
    """
    is_least = what == "too_small"
    given = column.minimum if is_least else column.maximum
    bound = read_bound(column, given or "", "minimum" if is_least else "maximum")
    if isinstance(bound, Decimal):
        return _numbers_outside(values, bound, is_least=is_least)
    compare = pc.less if is_least else pc.greater
    outside = mask(compare(values, pa.scalar(bound, TEXT)), null=False)
    kind = type_of(column)
    return outside & moments.find_plain(values, kind) if kind in _TIMES else outside


def find_not_listed(values: Array, column: ColumnRules) -> Mask:
    """Return which values are not among those of the mapping.

    Raises:
        InputError: one of these is not a value of the column's type.
    """
    kind = type_of(column)
    listed = [read_bound(column, text, "one_of") for text in column.one_of]
    if kind in _TIMES:
        return present(values) & ~is_one_of(values, [str(one) for one in listed])
    missed = present(values) & ~is_one_of(values, column.one_of)
    if kind != "number":
        return missed
    numbers = frozenset(listed)
    for position in np.flatnonzero(missed):
        number = read_number(values[int(position)].as_py())
        missed[position] = number is None or number not in numbers
    return missed


def spell_equally(values: Array, kind: str) -> Array:
    """Return texts that are equal where values are: numbers have several spellings."""
    if kind != "number":
        return values
    odd = np.flatnonzero(~spelt(values, _INTEGER))
    if not len(odd):
        return values
    texts = values.to_pylist()
    for position in odd:
        number = read_number(texts[position])
        # PostgreSQL has no numbers beyond this one, whose text would be as long.
        if number is not None and abs(number.adjusted()) < _MOST_PLACES:
            texts[position] = _spell(number)
    return pa.array(texts, type=TEXT)


def _spell(number: Decimal) -> str:
    text = format(number, "f")
    bare = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if bare == "-0" else bare


def _numbers_outside(values: Array, bound: Decimal, *, is_least: bool) -> Mask:
    outside = ~all_hold(len(values))
    is_integer = spelt(values, _INTEGER)
    if is_integer.all():
        return _integers_outside(values, bound, is_least=is_least)
    texts = values.to_pylist()
    for position, text in enumerate(texts):
        if text is not None and (number := read_number(text)) is not None:
            outside[position] = number < bound if is_least else number > bound
    return outside


def _integers_outside(values: Array, bound: Decimal, *, is_least: bool) -> Mask:
    numbers = pc.fill_null(pc.cast(values, pa.int64()), 0)
    integers = numbers.to_numpy(zero_copy_only=False)
    if abs(bound) >= _BEYOND_INTEGERS:
        limit = _BEYOND_INTEGERS if bound > 0 else -_BEYOND_INTEGERS
    else:
        limit = ceil(bound) if is_least else floor(bound)
    outside = integers < limit if is_least else integers > limit
    return np.asarray(outside & present(values))
