"""The values of items in their one form: their types, and their sizes in DynamoDB.

A string, an integer and a boolean are plain, and a missing attribute is None. Each
other value is in DynamoDB's typed form, such as ``{"N": "1.5"}`` or ``{"M": {...}}``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from validation.decimal_text import number_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from validation.arrow_text import Mask

# The letters of DynamoDB's types that a column's type may become.
LETTERS: Final = {
    "text": frozenset({"S"}),
    "number": frozenset({"N"}),
    "boolean": frozenset({"BOOL"}),
    "timestamp": frozenset({"S"}),
    "date": frozenset({"S"}),
    "json": frozenset({"S", "N", "BOOL", "NULL", "L", "M"}),
    "list": frozenset({"L"}),
    "string_set": frozenset({"SS"}),
    "number_set": frozenset({"NS"}),
    "binary": frozenset({"B"}),
}
_PLAIN_LETTERS: Final[dict[type, str]] = {str: "S", bool: "BOOL", int: "N"}
# A list or a map, and each of its elements, take more than what is in them.
_CONTAINER_BYTES, _ELEMENT_BYTES = 3, 1


def read_values(column: pd.Series[Any]) -> list[Any]:
    """Return the values of a column, with None for any that is missing."""
    objects = column.to_numpy(dtype=object)
    missing = column.isna().to_numpy()
    if missing.any():
        objects = objects.copy()
        objects[missing] = None
    values: list[Any] = objects.tolist()
    return values


def letter_of(value: object) -> str:
    """Return the letter of a value's type; empty if it is not in its one form."""
    if letter := _PLAIN_LETTERS.get(type(value)):
        return letter
    if isinstance(value, dict) and len(value) == 1:
        (typed,) = value
        return str(typed)
    return "S" if isinstance(value, str) else ""


def find_typed(values: Sequence[Any], kind: str, *, keep_null: bool = False) -> Mask:
    """Return which values have the type of a column; a missing one does."""
    letters = LETTERS[kind] | ({"NULL"} if keep_null else frozenset())
    plain: set[type] = {type(None)}
    plain |= {int} if "N" in letters else set()
    plain |= {bool} if "BOOL" in letters else set()
    if set(map(type, values)) <= plain:
        return np.ones(len(values), dtype=np.bool_)
    typed = [value is None or letter_of(value) in letters for value in values]
    return np.array(typed, dtype=np.bool_)


def find_equal(values: Sequence[Any], twins: Sequence[Any]) -> Mask:
    """Return which values are equal to those beside them, and of the same type."""
    equal = [
        one is twin or (type(one) is type(twin) and one == twin)
        for one, twin in zip(values, twins, strict=True)
    ]
    return np.array(equal, dtype=np.bool_)


def sizes_of(values: Sequence[Any]) -> npt.NDArray[np.int64]:
    """Measure values as DynamoDB does, without their names; a missing one is 0."""
    sizes = (0 if value is None else size_of(value) for value in values)
    return np.fromiter(sizes, dtype=np.int64, count=len(values))


def size_of(value: Any) -> int:
    """Measure a value in its one form as DynamoDB does, without its name."""
    letter = letter_of(value)
    content = value[letter] if isinstance(value, dict) and letter else value
    return _size(letter, content)


def _size(letter: str, content: Any) -> int:
    measure = _MEASURES.get(letter)
    # A boolean, NULL, or a value that breaks another rule.
    return measure(content) if measure else 1


def _element_size(typed: dict[str, Any]) -> int:
    ((letter, content),) = typed.items()
    return _ELEMENT_BYTES + _size(letter, content)


def _utf8(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _map_size(content: dict[str, Any]) -> int:
    sizes = (_utf8(name) + _element_size(one) for name, one in content.items())
    return _CONTAINER_BYTES + sum(sizes)


_MEASURES: Final[dict[str, Callable[[Any], int]]] = {
    "S": _utf8,
    "N": lambda number: number_bytes(str(number)),
    "B": len,
    "SS": lambda texts: sum(map(_utf8, texts)),
    "NS": lambda numbers: sum(map(number_bytes, numbers)),
    "BS": lambda parts: sum(map(len, parts)),
    "L": lambda elements: _CONTAINER_BYTES + sum(map(_element_size, elements)),
    "M": _map_size,
}
