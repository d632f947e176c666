"""Columns as Arrow text, whatever they hold."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa

if TYPE_CHECKING:
    import numpy.typing as npt

Mask: TypeAlias = "npt.NDArray[np.bool_]"
Array: TypeAlias = Any

# 64-bit offsets: a partition of long names passes the 2 GiB of a plain Arrow string.
TEXT: Final = pa.large_string()
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Text:
    """A column as Arrow text: null if a value is not a string."""

    array: Array
    unicode: Mask
    """False if the string holds a lone surrogate."""


def read_text(column: pd.Series[Any]) -> Text:
    """Read a column of any values as Arrow text; an Arrow column is not copied."""
    if (values := _arrow_text(column)) is not None:
        return Text(values, np.ones(len(column), dtype=np.bool_))
    objects = column.to_numpy(dtype=object)
    # Arrow would take bytes for text.
    if pd.api.types.infer_dtype(objects, skipna=True) in {"string", "empty"}:
        try:
            values = pa.array(objects, type=TEXT, from_pandas=True)
        except UnicodeEncodeError:
            return _read_one_by_one(objects)
        return Text(values, np.ones(len(objects), dtype=np.bool_))
    return _read_one_by_one(objects)


def no_text(rows: int) -> Text:
    """Return a column in which every text is missing."""
    return Text(pa.nulls(rows, TEXT), np.ones(rows, dtype=np.bool_))


def _arrow_text(column: pd.Series[Any]) -> Array | None:
    """Return the Arrow text that a column holds; None if it holds none."""
    if not isinstance(column.dtype, (pd.ArrowDtype, pd.StringDtype)):
        return None
    values = pa.array(column)
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    kind = values.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return None
    return values.cast(TEXT)


def _read_one_by_one(objects: npt.NDArray[np.object_]) -> Text:
    texts = [value if isinstance(value, str) else None for value in objects]
    broken = [text is not None and bool(_SURROGATE.search(text)) for text in texts]
    readable = [
        _SURROGATE.sub(_stand_in, text) if text is not None and is_broken else text
        for text, is_broken in zip(texts, broken, strict=True)
    ]
    return Text(pa.array(readable, type=TEXT), ~np.array(broken, dtype=np.bool_))


def _stand_in(surrogate: re.Match[str]) -> str:
    # As visible and as long in UTF-8 (three bytes) as the surrogate, and different
    # for each surrogate, so that two texts stay different.
    return chr(ord(surrogate.group()) - 0xD800 + 0xE000)
