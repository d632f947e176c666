"""Facts about the values of the columns that a mapping names.

Arrow's patterns find the values that need no other check; only the others are read
one by one, exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.compute as pc

from validation import contract
from validation.bounds import find_not_listed, find_outside, spell_equally
from validation.impossible import impossible_facts
from validation.masks import all_hold, equals, mask, not_flagged, present, spelt, unique
from validation.rules import is_made_of_ids, pattern_of, type_of, whats

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd

    from validation.arrow_text import Array, Mask
    from validation.subject import ColumnRules, Subject


def column_facts(
    rows: pd.DataFrame, texts: Mapping[str, Array], subject: Subject
) -> dict[str, Mask]:
    """Compute the facts about the columns of rows, whose texts are by their names.

    Raises:
        InputError: a bound of a rule is not a value of the column's type.
    """
    facts = {
        f"{column.name}:{what}": fact
        for column in subject.columns
        for what, fact in _facts_of(column, rows, texts, subject)
    }
    if not is_made_of_ids(subject):
        facts["key:unclaimed"] = not_flagged(rows, contract.KEY_DUPLICATE_COLUMN)
    return facts


def _facts_of(
    column: ColumnRules,
    rows: pd.DataFrame,
    texts: Mapping[str, Array],
    subject: Subject,
) -> Iterator[tuple[str, Mask]]:
    """Yield the facts of a column, in the order of its reasons."""
    values = texts[column.name]
    impossible: dict[str, Mask] | None = None
    for what in whats(column, subject):
        match what:
            case "missing":
                yield what, present(values)
            case "key_missing":
                yield what, _in_no_empty_key(column, texts, subject)
            case "reference_missing":
                flag = contract.REFERENCE_MISSING + column.name
                yield what, not_flagged(rows, flag)
            case "not_a_uuid" | "not_matching":
                yield what, spelt(values, pattern_of(column, what))
            case "too_short" | "too_long":
                yield what, _fits(values, column, what)
            case "not_unique":
                yield what, unique(spell_equally(values, type_of(column)))
            case "not_one_of":
                yield what, ~find_not_listed(values, column)
            case "too_small" | "too_large":
                yield what, ~find_outside(values, column, what)
            case _:
                impossible = impossible or impossible_facts(values, column)
                yield what, impossible[what]


def _fits(values: Array, column: ColumnRules, what: str) -> Mask:
    length = pc.utf8_length(values)
    if what == "too_short":
        return mask(pc.greater_equal(length, column.min_length))
    return mask(pc.less_equal(length, column.max_length))


def _in_no_empty_key(
    column: ColumnRules, texts: Mapping[str, Array], subject: Subject
) -> Mask:
    """Return where a column is not NULL, and no key of it has only empty texts."""
    holds = present(texts[column.name])
    for key in (subject.partition_key, subject.sort_key):
        names = {name for _, name in key if name is not None}
        constant = "".join(text for text, _ in key)
        if column.name not in names or constant or "id" in names:
            continue
        empty = all_hold(len(holds))
        for name in names:
            empty &= equals(texts[name], "") & present(texts[name])
        holds &= ~empty
    return holds
