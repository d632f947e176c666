"""Facts about columns of Arrow text, as masks: true where a fact holds, or no value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from validation.arrow_text import TEXT, Array, Mask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd


def mask(fact: Array, *, null: bool = True) -> Mask:
    """Return Arrow's booleans as a mask; a missing one counts as *null*."""
    if fact.null_count:
        fact = pc.fill_null(fact, null)
    return np.asarray(fact.to_numpy(zero_copy_only=False))


def all_hold(rows: int) -> Mask:
    """Return a mask of a fact that holds for each row."""
    return np.ones(rows, dtype=np.bool_)


def spelt(values: Array, pattern: str) -> Mask:
    """Return which texts match a pattern as a whole."""
    return mask(pc.match_substring_regex(values, rf"\A(?:{pattern})\z"))


def equals(values: Array, text: str) -> Mask:
    """Return which texts are this one."""
    return mask(pc.equal(values, pa.scalar(text, TEXT)))


def is_one_of(values: Array, texts: Sequence[str]) -> Mask:
    """Return which texts are among some; a missing one is not."""
    return mask(pc.is_in(values, value_set=pa.array(texts, type=TEXT)))


def present(values: Array) -> Mask:
    """Return which values are there."""
    return mask(pc.is_valid(values))


def examine(
    values: Array, plain: Mask, judge: Callable[[str], tuple[bool, ...]], facts: int
) -> tuple[Mask, ...]:
    """Judge the texts that are not plain one by one; return a mask for each fact."""
    found = np.ones((facts, len(values)), dtype=np.bool_)
    odd = np.flatnonzero(~plain)
    if len(odd):
        judged = [judge(text) for text in values.take(pa.array(odd)).to_pylist()]
        found[:, odd] = np.array(judged, dtype=np.bool_).T
    return tuple(found)


def unique(texts: Array) -> Mask:
    """Return which texts are unique; a missing text counts as unique."""
    if pc.count_distinct(texts, mode="only_valid").as_py() == pc.count(texts).as_py():
        return all_hold(len(texts))
    codes: Array = pc.dictionary_encode(texts).indices
    numbers = codes.fill_null(-1).to_numpy(zero_copy_only=False)
    counts = np.bincount(numbers + 1)
    return np.asarray((counts[numbers + 1] == 1) | (numbers < 0))


def not_flagged(rows: pd.DataFrame, flag: str) -> Mask:
    """Return which rows do not have a flag, which is a column of booleans if any."""
    if flag not in rows.columns:
        return all_hold(len(rows))
    flagged = rows[flag].astype("boolean")
    return ~flagged.to_numpy(dtype=np.bool_, na_value=False)
