"""The values that columns of texts must have in items, derived in columns.

They are those of ``expected_values``, which derives one value at a time.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from flows.mapping.model import TIMES
from flows.mapping.template import Template
from flows.models import Field
from flows.models.digests import Texts
from flows.models.sources import LETTERS
from flows.models.values import NULL, tagged
from flows.reconciliation.expected_values import (
    ISO_DATE,
    ISO_TIME,
    ImpossibleValueError,
    expect_number,
    expect_value,
    is_needed,
)
from flows.reconciliation.source_rows import TEXT

NO_TEXT = pa.scalar("", TEXT)
TAGS = {"S": "s", "N": "i", "BOOL": "b", "B": "B", "*": ""}
INTEGERS = frozenset({"int2", "int4", "int8", "smallint", "integer", "bigint"})
# Of at most 38 digits, so that they need no other check.
PLAIN_INTEGER = r"^(0|-?[1-9]\d{0,37})$"
PLAIN_DECIMAL = r"^-?(0|[1-9]\d{0,18})\.\d{1,19}$"
PATTERNS = {"timestamp": ISO_TIME, "date": ISO_DATE}
_HALF = re.compile("[\ud800-\udfff]")

DeriveIds: TypeAlias = Callable[[Sequence[str | None]], list[str | None]]
_Derived: TypeAlias = tuple[pa.Array, pa.Array, pa.Array | None]


@dataclass(frozen=True)
class Column:
    """The values of a field: as texts of digests, and as parts of keys.

    ``possible`` is a mask of the values that can be in an item, None if all can.
    """

    texts: Texts
    keys: pa.Array
    possible: pa.Array | None = None


def expect_column(field: Field, texts: pa.Array, derive_ids: DeriveIds) -> Column:
    """Derive the values of a column of texts.

    *derive_ids* returns the ids of what the column refers to, None for a text that is
    no source id.
    """
    values, keys, possible = _derive(field, texts, derive_ids)
    if texts.null_count and is_needed(field):
        possible = all_of([possible, pc.is_valid(texts)])
    if possible is not None:
        keys = pc.if_else(possible, keys, pa.scalar(None, TEXT))
    letter = "S" if field.reference else LETTERS[field.type]
    if not field.keep_null:
        return Column((TAGS[letter], values), keys, possible)
    # Values of more than one type: each text begins with the letter of its type.
    head = pa.scalar(TAGS[letter], TEXT)
    values = pc.binary_join_element_wise(head, values, NO_TEXT)
    nothing = pa.scalar(tagged(NULL), TEXT)
    return Column(("", pc.if_else(pc.is_null(texts), nothing, values)), keys, possible)


def fill_column(template: Template, keys: dict[str, pa.Array]) -> str | pa.Array:
    """Return a template's texts for columns of keys; null where one of them is."""
    if template.is_constant:
        return template.fill({})
    pieces: list[Any] = []
    for constant, name in template.pieces:
        pieces.append(pa.scalar(constant, TEXT))
        if name is not None:
            pieces.append(keys[name])
    return pc.binary_join_element_wise(*pieces, NO_TEXT)


def all_of(masks: Iterable[pa.Array | None]) -> pa.Array | None:
    """Return where all masks are true; None if there are none."""
    found = [mask for mask in masks if mask is not None]
    return reduce(pc.and_, found) if found else None


def _derive(field: Field, texts: pa.Array, derive_ids: DeriveIds) -> _Derived:
    """Return a column's values, its parts of keys, and which values are possible."""
    if field.reference:
        ids = pa.array(derive_ids(texts.to_pylist()), TEXT)
        known = ids.null_count == texts.null_count
        possible = None if known else pc.or_(pc.is_valid(ids), pc.is_null(texts))
        return ids, ids, possible
    if field.type == "number" and field.pg_type not in INTEGERS:
        numbers, possible = _spell_numbers(texts)
        return numbers, numbers, possible
    if field.type == "boolean":
        true = pc.equal(texts, "true")
        values = pc.if_else(true, pa.scalar("True", TEXT), pa.scalar("False", TEXT))
        return values, texts, None
    if field.type in PATTERNS and field.name not in TIMES:
        fits = pc.match_substring_regex(texts, PATTERNS[field.type])
        return texts, texts, _mask(pc.fill_null(fits, fill_value=True))
    if LETTERS[field.type] == "*":
        values, possible = _read_values(field, texts)
        return values, texts, possible
    return texts, texts, None


def _mask(possible: pa.Array) -> pa.Array | None:
    return None if pc.all(possible, min_count=0).as_py() else possible


def _spell_numbers(texts: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    """Return the spellings of numbers, and where there is one."""
    if _all_match(texts, PLAIN_INTEGER):
        return texts, None
    plain = pc.match_substring_regex(texts, PLAIN_DECIMAL)
    spelled = pc.replace_substring_regex(texts, r"\.?0+$", "")
    integer = pc.match_substring_regex(texts, PLAIN_INTEGER)
    spelled = pc.if_else(plain, spelled, texts)
    spelled = pc.if_else(pc.equal(spelled, "-0"), pa.scalar("0", TEXT), spelled)
    odd = pc.invert(pc.fill_null(pc.or_(plain, integer), fill_value=True))
    if not pc.any(odd, min_count=0).as_py():
        return spelled, None
    corrected = [_spell(text) for text in texts.filter(odd).to_pylist()]
    spelled = pc.replace_with_mask(spelled, odd, pa.array(corrected, TEXT))
    return spelled, _mask(pc.or_(pc.is_valid(spelled), pc.is_null(texts)))


def _all_match(texts: pa.Array, pattern: str) -> bool:
    found = pc.all(pc.match_substring_regex(texts, pattern), min_count=0)
    return bool(found.as_py())


def _spell(text: str) -> str | None:
    try:
        return expect_number(text)
    except ImpossibleValueError:
        return None


def _read_values(field: Field, texts: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    """Read values one by one; return them with their letters, and which there are."""
    column = texts.to_pylist()
    # Columns of lists and sets often have few different values.
    known = {text: _read(field, text) for text in set(column)}
    found = [known[text] for text in column]
    try:
        values = pa.array(found, TEXT)
    except (UnicodeEncodeError, pa.ArrowInvalid):
        values = pa.array([one if _fits(one) else None for one in found], TEXT)
    if values.null_count == texts.null_count:
        return values, None
    return values, pc.or_(pc.is_valid(values), pc.is_null(texts))


def _read(field: Field, text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return tagged(expect_value(field, text))
    except (ImpossibleValueError, TypeError):
        # A text with half of a surrogate pair is compared value by value.
        return None


def _fits(text: str | None) -> bool:
    """Return whether Arrow can hold a text: it has no half of a surrogate pair."""
    return text is None or not _HALF.search(text)
