"""Facts about the attributes of items that a mapping names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow.compute as pc

from validation import contract
from validation.arrow_text import Array, Mask, Text, no_text, read_text
from validation.item_values import (
    find_equal,
    find_typed,
    letter_of,
    read_values,
    size_of,
    sizes_of,
)
from validation.masks import all_hold, mask
from validation.rules import (
    TEXT_TYPES,
    is_made_of_ids,
    item_rules,
    may_be_empty,
    must_be_there,
    name_column,
    optional_attributes,
    required_attributes,
    type_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt
    import pandas as pd

    from validation.subject import Subject

_EMPTY: Final = ("", {"B": b""})


@dataclass(frozen=True)
class Attributes:
    """The attributes of items: those of text in Arrow's form, the others as values."""

    items: pd.DataFrame
    subject: Subject

    @cached_property
    def kinds(self) -> dict[str, str]:
        """Return the type of each attribute, as that of a column."""
        kinds = {
            name: type_of(column)
            for name, column in optional_attributes(self.subject).items()
        }
        return required_attributes(self.subject) | kinds

    @cached_property
    def texts(self) -> dict[str, Text]:
        """Return the attributes that must be text; null if they are anything else."""
        return {
            name: self._text(name)
            for name, kind in self.kinds.items()
            if kind in TEXT_TYPES
        }

    @cached_property
    def others(self) -> dict[str, list[Any]]:
        """Return the other attributes, in their one form."""
        kinds = self.kinds.items()
        return {
            name: self.objects(name) for name, kind in kinds if kind not in TEXT_TYPES
        }

    def arrays(self) -> dict[str, Array]:
        """Return the attributes that must be text, as Arrow arrays."""
        return {name: text.array for name, text in self.texts.items()}

    def objects(self, name: str) -> list[Any]:
        """Return the values of an attribute, None if it is missing."""
        if name not in self.items.columns:
            return [None] * len(self.items)
        return read_values(self.items[name])

    def _text(self, name: str) -> Text:
        there = name in self.items.columns
        return read_text(self.items[name]) if there else no_text(len(self.items))

    @cached_property
    def odd_texts(self) -> dict[str, dict[int, Any]]:
        """Return, of optional attributes that must be text, the values that are not.

        They are by the positions of the items; missing ones are left out.
        """
        optional = optional_attributes(self.subject).keys() & self.texts.keys()
        return {name: self._odd_text(name) for name in optional}

    def _odd_text(self, name: str) -> dict[int, Any]:
        array = self.texts[name].array
        if not array.null_count or name not in self.items.columns:
            return {}
        nulls = np.asarray(pc.is_null(array).to_numpy(zero_copy_only=False))
        odd = np.flatnonzero(nulls & ~self.items[name].isna().to_numpy())
        values = self.items[name].to_numpy(dtype=object)[odd]
        return dict(zip(odd.tolist(), values, strict=True))


def attribute_facts(
    attributes: Attributes, key_limits: Iterable[tuple[str, int]]
) -> dict[str, Mask]:
    """Compute the facts about items that only some subjects have, in their order."""
    subject = attributes.subject
    rules = item_rules(subject)
    if not rules:
        return {}
    found = _typed_facts(attributes)
    for column in subject.columns:
        if len(column.attributes) > 1 and column != name_column(subject):
            required = must_be_there(column)
            found[f"{column.name}:twins"] = _twins_equal(
                attributes, column.attributes, required=required
            )
    if not is_made_of_ids(subject):
        found |= _key_facts(attributes.texts)
    if may_be_empty(subject):
        found["index_keys:filled"] = _index_keys_filled(attributes, key_limits)
    return {rule.fact: found[rule.fact] for rule in rules}


def _typed_facts(attributes: Attributes) -> dict[str, Mask]:
    """Return whether each attribute has its type, or is missing if it may be."""
    found = {}
    for name, kind in required_attributes(attributes.subject).items():
        if kind not in TEXT_TYPES:
            values = attributes.others[name]
            there = np.array([value is not None for value in values], dtype=np.bool_)
            found[f"{name}:typed"] = there & find_typed(values, kind)
    for name, column in optional_attributes(attributes.subject).items():
        kind = type_of(column)
        if kind in TEXT_TYPES:
            typed = attributes.texts[name].unicode.copy()
            for position, value in attributes.odd_texts[name].items():
                typed[position] = column.keep_null and letter_of(value) == "NULL"
        else:
            values = attributes.others[name]
            typed = find_typed(values, kind, keep_null=column.keep_null)
        found[f"{name}:typed"] = typed
    return found


def _twins_equal(
    attributes: Attributes, names: tuple[str, ...], *, required: bool
) -> Mask:
    first, *twins = map(attributes.objects, names)
    holds = all_hold(len(first))
    for twin in twins:
        equal = find_equal(first, twin)
        if required:  # only the rule on missing attributes judges that one is
            pairs = zip(first, twin, strict=True)
            equal |= np.array([None in pair for pair in pairs], dtype=np.bool_)
        holds &= equal
    return holds


def _key_facts(texts: Mapping[str, Text]) -> dict[str, Mask]:
    found = {}
    for name, most in (
        ("PK", contract.MAX_PARTITION_KEY_BYTES),
        ("SK", contract.MAX_SORT_KEY_BYTES),
    ):
        length = pc.binary_length(texts[name].array)
        found[f"{name}:filled"] = mask(pc.greater(length, 0))
        found[f"{name}:fits"] = mask(pc.less_equal(length, most))
    return found


def _index_keys_filled(
    attributes: Attributes, limits: Iterable[tuple[str, int]]
) -> Mask:
    holds = all_hold(len(attributes.items))
    for name, _ in limits:
        if name in attributes.texts:
            length = pc.binary_length(attributes.texts[name].array)
            holds &= mask(pc.greater(length, 0))
        elif name in attributes.others:
            empty = [value in _EMPTY for value in attributes.others[name]]
            holds &= ~np.array(empty, dtype=np.bool_)
    return holds


def index_keys_fit(attributes: Attributes, limits: Iterable[tuple[str, int]]) -> Mask:
    """Return whether the values of attributes are within their limits of bytes.

    Numbers always are.
    """
    holds = all_hold(len(attributes.items))
    for name, most in limits:
        if name in attributes.texts:
            length = pc.binary_length(attributes.texts[name].array)
            holds &= mask(pc.less_equal(length, most))
        elif attributes.kinds.get(name) == "binary":
            holds &= sizes_of(attributes.others[name]) <= most
    return holds


def item_sizes(attributes: Attributes) -> npt.NDArray[np.int64]:
    """Measure each item as DynamoDB does: names and values, whatever their types."""
    total = np.zeros(len(attributes.items), dtype=np.int64)
    for name, text in attributes.texts.items():
        sizes: Array = pc.binary_length(text.array)
        sizes = pc.fill_null(pc.add(sizes, len(name.encode())), 0)
        total += sizes.to_numpy(zero_copy_only=False)
    for name, odd in attributes.odd_texts.items():
        for position, value in odd.items():
            total[position] += len(name.encode()) + size_of(value)
    for name, values in attributes.others.items():
        there = np.array([value is not None for value in values], dtype=np.bool_)
        total += sizes_of(values) + there * len(name.encode())
    return total + _provenance_bytes(attributes.items)


def _provenance_bytes(items: pd.DataFrame) -> npt.NDArray[np.int64]:
    total = np.zeros(len(items), dtype=np.int64)
    if contract.FLAG_ATTRIBUTE in items.columns:
        there = items[contract.FLAG_ATTRIBUTE].notna().to_numpy()
        total += there * (len(contract.FLAG_ATTRIBUTE) + 1)
    if contract.NUMBER_ATTRIBUTE in items.columns:
        total += _number_bytes(items[contract.NUMBER_ATTRIBUTE])
    return total


def _number_bytes(numbers: pd.Series[Any]) -> npt.NDArray[np.int64]:
    """Measure integers: a byte per two significant digits, one more, and a sign's."""
    there = numbers.notna().to_numpy()
    texts = read_text(numbers.astype(object).map(str)).array
    digits: Array = pc.utf8_length(pc.utf8_trim(texts, characters="-0"))
    signs = pc.starts_with(texts, pattern="-").to_numpy(zero_copy_only=False)
    halves = (digits.to_numpy(zero_copy_only=False) + 1) // 2
    return np.asarray(there * (len(contract.NUMBER_ATTRIBUTE) + halves + 1 + signs))
