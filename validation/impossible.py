"""Facts about values that DynamoDB cannot hold, by the type that they become."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow.compute as pc

from validation import moments
from validation.array_text import delimiter_of, leaves, parse_array
from validation.decimal_text import (
    FINE,
    MOST_DIGITS,
    PLAIN_NUMBER,
    NumberFacts,
    judge_number,
    read_number,
)
from validation.json_text import MOST_LEVELS, ODD_JSON, DocumentFacts, judge_json
from validation.masks import examine, mask, spelt
from validation.rules import IMPOSSIBLE, type_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from validation.arrow_text import Array, Mask
    from validation.subject import ColumnRules

# Digits and dots that may be more than 38 digits, and whatever is no plain number.
_ODD_ELEMENT: Final = r"[^-{}\[\]:=,.0-9NUL]|[0-9.]{39}"
_PLAIN: Final = re.compile(rf"(?=.{{1,{MOST_DIGITS}}}\Z)(?:{PLAIN_NUMBER})\Z")
_INTEGER: Final = re.compile(rf"(?:0|-?[1-9][0-9]{{0,{MOST_DIGITS - 1}}})\Z")
_SET_FACTS: Final = 4


def impossible_facts(values: Array, column: ColumnRules) -> dict[str, Mask]:
    """Compute the facts about values that cannot be part of an item, by reason."""
    kind = type_of(column)
    if kind in {"timestamp", "date"}:
        found = moments.odd_facts(values, moments.find_plain(values, kind), kind)
        return {
            "not_finite": found["finite"],
            "malformed": found["recognised"],
            "out_of_range": found["in_range"],
        }
    facts = _judged(values, column, kind)
    names = IMPOSSIBLE[f"list of {column.element}" if kind == "list" else kind]
    return dict(zip(names, facts, strict=True))


def _judged(values: Array, column: ColumnRules, kind: str) -> tuple[Mask, ...]:
    delimiter = delimiter_of(column.pg_type)
    nothing = np.zeros(len(values), dtype=np.bool_)
    missing = mask(pc.is_null(values))
    if kind == "number":
        plain = find_plain_numbers(values)
        return examine(values, plain, judge_number, len(NumberFacts._fields))
    if kind in {"string_set", "number_set"}:
        is_number = kind == "number_set"
        judge: Callable[[str], tuple[bool, ...]]
        judge = partial(_judge_set, is_number=is_number, delimiter=delimiter)
        facts = _SET_FACTS + (len(NumberFacts._fields) if is_number else 0)
        return examine(values, nothing | missing, judge, facts)
    if kind == "list" and column.element == "number":
        odd = mask(pc.match_substring_regex(values, _ODD_ELEMENT), null=False)
        return examine(values, ~odd, _judge_numbers, len(NumberFacts._fields))
    judge = _judge_documents if kind == "list" else judge_json
    return examine(values, _find_plain_json(values), judge, len(DocumentFacts._fields))


def find_plain_numbers(values: Array) -> Mask:
    """Return which numbers have no exponent, and at most 38 characters."""
    short = pc.less_equal(pc.utf8_length(values), MOST_DIGITS)
    return mask(short) & spelt(values, PLAIN_NUMBER)


def _find_plain_json(values: Array) -> Mask:
    """Return which documents have neither deep levels nor odd numbers or texts."""
    brackets = pc.add(
        pc.count_substring(values, pattern="{"), pc.count_substring(values, pattern="[")
    )
    shallow = mask(pc.less_equal(brackets, MOST_LEVELS))
    odd = mask(pc.match_substring_regex(values, ODD_JSON), null=False)
    return shallow & ~odd


def _judge_numbers(text: str) -> NumberFacts:
    """Judge the elements of an array; the text of no array is not judged."""
    return _judge_each(one for one in _elements(text, ",") if one is not None)


def _judge_each(numbers: Iterable[str]) -> NumberFacts:
    judged = [judge_number(one) for one in numbers if not _PLAIN.match(one)]
    return (
        NumberFacts(*map(all, zip(*judged, strict=True))) if judged else NumberFacts()
    )


def _judge_documents(text: str) -> DocumentFacts:
    try:
        parsed = parse_array(text)
    except ValueError:
        return DocumentFacts()
    judged = [judge_json(one, level) for one, level in _with_levels(parsed, 1)]
    return (
        DocumentFacts(*map(all, zip(*judged, strict=True)))
        if judged
        else DocumentFacts()
    )


def _with_levels(parsed: list[Any], level: int) -> Iterable[tuple[str, int]]:
    for one in parsed:
        if isinstance(one, list):
            yield from _with_levels(one, level + 1)
        elif one is not None:
            yield one, level


def _judge_set(text: str, *, is_number: bool, delimiter: str) -> tuple[bool, ...]:
    """Judge an array that becomes a set: whether it has elements, all of them texts."""
    try:
        parsed = parse_array(text, delimiter)
    except ValueError:
        parsed = ["0"]
    elements = leaves(parsed)
    there = [one for one in elements if one is not None]
    # Plain integers have one spelling; others may be equal in two.
    is_plain = not is_number or all(map(_INTEGER.match, there))
    values = there if is_plain else [_value(one) for one in there]
    facts = (
        bool(elements),
        len(there) == len(elements),
        not any(isinstance(one, list) for one in parsed),
        len(set(values)) == len(values),
    )
    if not is_number:
        return facts
    return (*facts, *(FINE if is_plain else _judge_each(there)))


def _value(text: str) -> object:
    number = read_number(text)
    return text if number is None else number


def _elements(text: str, delimiter: str) -> list[str | None]:
    try:
        return leaves(parse_array(text, delimiter))
    except ValueError:
        return []
