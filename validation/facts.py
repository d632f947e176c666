"""What is true of each row, in columns of booleans and numbers.

The suites judge these facts instead of the values themselves: Arrow computes them
in one pass over a column, any value that a store can hold is taken without a
crash, and no name ever enters a result of Great Expectations. A fact about a value
that is missing holds, since the rule on missing values judges that row alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from validation import contract
from validation.report import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

Mask: TypeAlias = "npt.NDArray[np.bool_]"
Array: TypeAlias = Any

# 64-bit offsets: a partition of long names passes the 2 GiB of a plain Arrow string.
_TEXT = pa.large_string()
_NOTHING = pa.scalar("", _TEXT)
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Text:
    """A column as Arrow text: null where the column holds no string."""

    array: Array
    unicode: Mask
    """False where the string holds a lone surrogate."""


def source_facts(rows: pd.DataFrame) -> pd.DataFrame:
    """Find what is true of each row of the source, by position.

    Raises:
        InputError: A column is absent, or holds something else than text or None.
    """
    absent = [c for c in contract.SOURCE_COLUMNS if c not in rows.columns]
    if absent:
        message = f"the frame has no column {', '.join(absent)}; rename its columns"
        raise InputError(message)
    ids, names, created, updated = (
        _source_text(rows, column) for column in contract.SOURCE_COLUMNS
    )
    return pd.DataFrame(
        {
            "id_present": _mask(pc.not_equal(ids.array, _NOTHING), null=False),
            "id_number": _number(ids),
            "id_unclaimed": _unclaimed(rows),
            "name_present": _mask(pc.is_valid(names.array)),
            "name_visible": _visible(names),
            "name_unicode": names.unicode,
            **_moment_facts("created_date", created),
            **_moment_facts("updated_date", updated),
            "timestamp_present": _mask(
                pc.or_(pc.is_valid(created.array), pc.is_valid(updated.array))
            ),
        }
    )


def item_facts(items: pd.DataFrame) -> pd.DataFrame:
    """Find what is true of each item, by position; absent columns count as missing."""
    texts = {name: _attribute(items, name) for name in contract.ITEM_ATTRIBUTES}
    values = {name: text.array for name, text in texts.items()}
    present = {f"{name}_text": _mask(pc.is_valid(v)) for name, v in values.items()}
    return pd.DataFrame(
        {
            **present,
            "key_matches_id": _mask(pc.equal(values["PK"], _keys(values["id"]))),
            "sort_key_right": _is(values["SK"], contract.SORT_KEY),
            "entity_type_right": _is(values["entity_type"], contract.ENTITY_TYPE),
            "id_canonical": _spelt(values["id"], contract.UUID_PATTERN),
            "id_number": _number(texts["id"]),
            "name_visible": _visible(texts["enterprise_name"]),
            "name_unicode": texts["enterprise_name"].unicode & texts["name"].unicode,
            "name_twins_equal": _equal(values, "enterprise_name", "name"),
            "created_date_canonical": _canonical(values["created_date"]),
            "created_twins_equal": _equal(values, "created_date", "createdAt"),
            "updated_date_canonical": _canonical(values["updated_date"]),
            "updated_twins_equal": _equal(values, "updated_date", "updatedAt"),
            "item_bytes": _item_bytes(values),
        }
    )


def read_text(column: pd.Series[Any]) -> Text:
    """Read a column of any values as Arrow text."""
    objects = column.to_numpy(dtype=object)
    # Arrow alone would take bytes for text.
    if pd.api.types.infer_dtype(objects, skipna=True) in {"string", "empty"}:
        try:
            values = pa.array(objects, type=_TEXT, from_pandas=True)
        except UnicodeEncodeError:
            return _read_one_by_one(objects)
        return Text(values, np.ones(len(objects), dtype=np.bool_))
    return _read_one_by_one(objects)


def _read_one_by_one(objects: npt.NDArray[np.object_]) -> Text:
    texts = [value if isinstance(value, str) else None for value in objects]
    broken = [text is not None and bool(_SURROGATE.search(text)) for text in texts]
    readable = [
        _SURROGATE.sub(_stand_in, text) if text is not None and is_broken else text
        for text, is_broken in zip(texts, broken, strict=True)
    ]
    return Text(pa.array(readable, type=_TEXT), ~np.array(broken, dtype=np.bool_))


def _stand_in(surrogate: re.Match[str]) -> str:
    # As visible and as long in UTF-8 (three bytes) as the surrogate it stands for,
    # and another one for each, so that two texts stay different.
    return chr(ord(surrogate.group()) - 0xD800 + 0xE000)


def _source_text(rows: pd.DataFrame, column: str) -> Text:
    text = read_text(rows[column])
    if text.array.null_count != int(rows[column].isna().sum()):
        message = (
            f"column {column!r} must hold PostgreSQL's own text or None; "
            f"select it as {column}::text"
        )
        raise InputError(message)
    return text


def _attribute(items: pd.DataFrame, name: str) -> Text:
    if name in items.columns:
        return read_text(items[name])
    return Text(pa.nulls(len(items), _TEXT), np.ones(len(items), dtype=np.bool_))


def _unclaimed(rows: pd.DataFrame) -> Mask:
    if contract.ID_DUPLICATE_COLUMN not in rows.columns:
        return np.ones(len(rows), dtype=np.bool_)
    claimed = rows[contract.ID_DUPLICATE_COLUMN].astype("boolean")
    return ~claimed.to_numpy(dtype=np.bool_, na_value=False)


def _moment_facts(column: str, text: Text) -> dict[str, Mask]:
    infinite = _mask(
        pc.is_in(text.array, value_set=pa.array(contract.INFINITIES, type=_TEXT))
    )
    recognised = infinite | _spelt(text.array, contract.SOURCE_TIMESTAMP_PATTERN)
    in_range = _spelt(text.array, contract.SOURCE_YEAR_PATTERN)
    return {
        f"{column}_finite": ~infinite,
        f"{column}_recognised": recognised,
        f"{column}_in_range": in_range | infinite | ~recognised,
    }


def _visible(text: Text) -> Mask:
    pattern = contract.VISIBLE_CHARACTER_PATTERN
    return _mask(pc.match_substring_regex(text.array, pattern))


def _canonical(values: Array) -> Mask:
    return _spelt(values, contract.ITEM_TIMESTAMP_PATTERN)


def _spelt(values: Array, pattern: str) -> Mask:
    return _mask(pc.match_substring_regex(values, rf"\A(?:{pattern})\z"))


def _is(values: Array, text: str) -> Mask:
    return _mask(pc.equal(values, pa.scalar(text, _TEXT)))


def _equal(values: Mapping[str, Array], name: str, twin: str) -> Mask:
    return _mask(pc.equal(values[name], values[twin]))


def _keys(ids: Array) -> Array:
    prefix = pa.scalar(contract.KEY_PREFIX, _TEXT)
    return pc.binary_join_element_wise(prefix, ids, _NOTHING)


def _number(text: Text) -> npt.NDArray[np.float64]:
    """Give equal texts equal numbers, and NaN where there is no text."""
    codes: Array = pc.dictionary_encode(text.array).indices
    return np.asarray(codes.cast(pa.float64()).to_numpy(zero_copy_only=False))


def _item_bytes(values: Mapping[str, Array]) -> npt.NDArray[np.int64]:
    total = np.zeros(len(next(iter(values.values()))), dtype=np.int64)
    for name, texts in values.items():
        sizes: Array = pc.binary_length(texts)
        sizes = pc.fill_null(pc.add(sizes, len(name.encode())), 0)
        total += sizes.to_numpy(zero_copy_only=False)
    return total


def _mask(fact: Array, *, null: bool = True) -> Mask:
    return np.asarray(pc.fill_null(fact, null).to_numpy(zero_copy_only=False))
