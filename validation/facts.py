"""Facts about each row, in columns of booleans.

The suites judge these facts instead of the values: Arrow computes them in one pass
over a column, any value that a store can hold is accepted without a crash, and no
name enters a result of Great Expectations. A fact about a missing value holds, since
only the rule on missing values judges that row.
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha1
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from validation import contract
from validation.arrow_text import TEXT, Array, Mask, Text, no_text, read_text
from validation.report import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from uuid import UUID

    import numpy.typing as npt

_NOTHING = pa.scalar("", TEXT)
# The bits of a version 5 UUID that come from the digest.
_UUID_BITS = np.frombuffer(bytes.fromhex("ffffffffffff0fff3fffffffffffffff"), np.uint8)


def source_facts(rows: pd.DataFrame, *, now: datetime | None = None) -> pd.DataFrame:
    """Compute the facts about each row of the source, by position.

    Times after *now*, by default the moment of the call, are in the future.

    Raises:
        InputError: A column is absent, or holds anything but text or None.
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
            "id_unique": _unique(ids.array),
            "id_unclaimed": _unclaimed(rows),
            "name_present": _mask(pc.is_valid(names.array)),
            "name_visible": (visible := _visible(names)),
            "name_unicode": names.unicode,
            **_name_facts(names.array, ~visible | ~names.unicode),
            **_moments_facts(created.array, updated.array, now or datetime.now(UTC)),
        },
        copy=False,
    )


def item_facts(
    items: pd.DataFrame,
    *,
    namespace: UUID | None = None,
    key_limits: Iterable[tuple[str, int]] = (),
) -> pd.DataFrame:
    """Compute the facts about each item, by position; absent columns count as missing.

    With *namespace*, the items have integer source ids: the column `source_id` holds
    them if they are known. *key_limits* has the maximum bytes of attributes as keys
    of indexes.
    """
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
            "id_unique": _unique(values["id"]),
            "id_derived": _derived(items, values["id"], namespace),
            "name_visible": _visible(texts["enterprise_name"]),
            "name_unicode": texts["enterprise_name"].unicode & texts["name"].unicode,
            "name_twins_equal": _equal(values, "enterprise_name", "name"),
            "created_date_canonical": _canonical(values["created_date"]),
            "created_twins_equal": _equal(values, "created_date", "createdAt"),
            "updated_date_canonical": _canonical(values["updated_date"]),
            "updated_twins_equal": _equal(values, "updated_date", "updatedAt"),
            "item_fits": _bytes_of(items, values) <= contract.MAX_ITEM_BYTES,
            "index_keys_fit": _within(values, key_limits),
        },
        copy=False,
    )


def item_bytes(items: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Measure each item as DynamoDB does: names and values, in UTF-8."""
    names = contract.ITEM_ATTRIBUTES
    return _bytes_of(items, {name: _attribute(items, name).array for name in names})


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
    return read_text(items[name]) if name in items.columns else no_text(len(items))


def _unclaimed(rows: pd.DataFrame) -> Mask:
    if contract.ID_DUPLICATE_COLUMN not in rows.columns:
        return np.ones(len(rows), dtype=np.bool_)
    claimed = rows[contract.ID_DUPLICATE_COLUMN].astype("boolean")
    return ~claimed.to_numpy(dtype=np.bool_, na_value=False)


def _name_facts(names: Array, barred: Mask) -> dict[str, Mask]:
    """Compute what is unusual in names; *barred* ones fail another rule."""
    trimmed = pc.utf8_trim(names, characters=contract.BLANKS)
    control = pc.match_substring_regex(names, contract.CONTROL_CHARACTER_PATTERN)
    short = pc.less_equal(pc.utf8_length(names), contract.USUAL_NAME_CHARACTERS)
    return {
        "name_trim": _mask(pc.equal(trimmed, names)) | barred,
        "name_printable": _mask(pc.invert(control)) | barred,
        "name_short": _mask(short) | barred,
        "name_unique": _unique(names) | barred,
    }


def _moments_facts(created: Array, updated: Array, now: datetime) -> dict[str, Mask]:
    moment = pa.scalar(now.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f+00"), TEXT)
    plain = {
        "created_date": _spelt(created, contract.PLAIN_TIMESTAMP_PATTERN),
        "updated_date": _spelt(updated, contract.PLAIN_TIMESTAMP_PATTERN),
    }
    both = plain["created_date"] & plain["updated_date"]
    # Plain moments sort as text in order of time: "+" and "." are before the digits.
    ordered = _mask(pc.greater_equal(updated, created)) | ~both
    facts: dict[str, Mask] = {}
    for column, texts in (("created_date", created), ("updated_date", updated)):
        past = _mask(pc.less_equal(texts, moment)) | ~plain[column]
        facts |= _moment_facts(column, texts, plain[column])
        facts[f"{column}_past"] = past
    present = pc.or_(pc.is_valid(created), pc.is_valid(updated))
    return facts | {"timestamp_present": _mask(present), "dates_ordered": ordered}


def _moment_facts(column: str, texts: Array, plain: Mask) -> dict[str, Mask]:
    """Compute why moments are not plain; only those that are not are examined."""
    names = [f"{column}_{fact}" for fact in ("finite", "recognised", "in_range")]
    facts = {name: np.ones(len(plain), dtype=np.bool_) for name in names}
    odd = np.flatnonzero(~plain)
    if len(odd):
        few = texts.take(pa.array(odd))
        infinities = pa.array(contract.INFINITIES, type=TEXT)
        infinite = _mask(pc.is_in(few, value_set=infinities))
        recognised = infinite | _spelt(few, contract.SOURCE_TIMESTAMP_PATTERN)
        in_range = _spelt(few, contract.SOURCE_YEAR_PATTERN)
        found = (~infinite, recognised, in_range | infinite | ~recognised)
        for name, fact in zip(names, found, strict=True):
            facts[name][odd] = fact
    return facts


def _visible(text: Text) -> Mask:
    pattern = contract.VISIBLE_CHARACTER_PATTERN
    return _mask(pc.match_substring_regex(text.array, pattern))


def _canonical(values: Array) -> Mask:
    return _spelt(values, contract.ITEM_TIMESTAMP_PATTERN)


def _spelt(values: Array, pattern: str) -> Mask:
    return _mask(pc.match_substring_regex(values, rf"\A(?:{pattern})\z"))


def _is(values: Array, text: str) -> Mask:
    return _mask(pc.equal(values, pa.scalar(text, TEXT)))


def _equal(values: Mapping[str, Array], name: str, twin: str) -> Mask:
    return _mask(pc.equal(values[name], values[twin]))


def _keys(ids: Array) -> Array:
    prefix = pa.scalar(contract.KEY_PREFIX, TEXT)
    return pc.binary_join_element_wise(prefix, ids, _NOTHING)


def _unique(texts: Array) -> Mask:
    """Return which texts are unique; a missing text counts as unique."""
    if pc.count_distinct(texts, mode="only_valid").as_py() == pc.count(texts).as_py():
        return np.ones(len(texts), dtype=np.bool_)
    codes: Array = pc.dictionary_encode(texts).indices
    numbers = codes.fill_null(-1).to_numpy(zero_copy_only=False)
    counts = np.bincount(numbers + 1)
    return np.asarray((counts[numbers + 1] == 1) | (numbers < 0))


def _derived(items: pd.DataFrame, ids: Array, namespace: UUID | None) -> Mask:
    """Return which ids derive from the source ids beside them, if those are known."""
    holds = np.ones(len(items), dtype=np.bool_)
    if namespace is None:
        return holds
    sources = _attribute(items, "source_id").array
    known = np.asarray(pc.is_valid(sources).to_numpy(zero_copy_only=False))
    spelt = _spelt(ids, contract.DERIVED_UUID_PATTERN)
    judged = np.flatnonzero(known & spelt & _mask(pc.is_valid(ids)))
    holds[~spelt] = False
    if len(judged):
        positions = pa.array(judged)
        digests = _digests(sources.take(positions), namespace)
        given = "".join(ids.take(positions).to_pylist()).replace("-", "")
        octets = np.frombuffer(bytes.fromhex(given), np.uint8).reshape(-1, 16)
        holds[judged] = (((octets ^ digests) & _UUID_BITS) == 0).all(axis=1)
    # Only the rule on ids judges a value that is not an id.
    return holds | ~_spelt(ids, contract.UUID_PATTERN)


def _digests(sources: Array, namespace: UUID) -> npt.NDArray[np.uint8]:
    prefix = namespace.bytes
    names = sources.cast(pa.large_binary()).to_pylist()
    # RFC 9562, 5.5: the first 16 bytes of the SHA-1 over namespace and name.
    digests = b"".join([sha1(prefix + name).digest() for name in names])  # noqa: S324
    return np.frombuffer(digests, np.uint8).reshape(-1, 20)[:, :16]


def _bytes_of(
    items: pd.DataFrame, values: Mapping[str, Array]
) -> npt.NDArray[np.int64]:
    total = np.zeros(len(items), dtype=np.int64)
    for name, texts in values.items():
        sizes: Array = pc.binary_length(texts)
        sizes = pc.fill_null(pc.add(sizes, len(name.encode())), 0)
        total += sizes.to_numpy(zero_copy_only=False)
    if contract.FLAG_ATTRIBUTE in items.columns:
        there = items[contract.FLAG_ATTRIBUTE].notna().to_numpy()
        total += there * (len(contract.FLAG_ATTRIBUTE) + 1)
    if contract.NUMBER_ATTRIBUTE in items.columns:
        total += _number_bytes(items[contract.NUMBER_ATTRIBUTE])
    return total


def _within(values: Mapping[str, Array], limits: Iterable[tuple[str, int]]) -> Mask:
    """Return whether the values of attributes are within their limits of bytes."""
    holds = np.ones(len(values["PK"]), dtype=np.bool_)
    for name, most in limits:
        holds &= _mask(pc.less_equal(pc.binary_length(values[name]), most))
    return holds


def _number_bytes(numbers: pd.Series[Any]) -> npt.NDArray[np.int64]:
    """Measure integers: a byte per two significant digits, one more, and a sign's."""
    there = numbers.notna().to_numpy()
    texts = read_text(numbers.astype(object).map(str)).array
    digits: Array = pc.utf8_length(pc.utf8_trim(texts, characters="-0"))
    signs = pc.starts_with(texts, pattern="-").to_numpy(zero_copy_only=False)
    halves = (digits.to_numpy(zero_copy_only=False) + 1) // 2
    return np.asarray(there * (len(contract.NUMBER_ATTRIBUTE) + halves + 1 + signs))


def _mask(fact: Array, *, null: bool = True) -> Mask:
    if fact.null_count:
        fact = pc.fill_null(fact, null)
    return np.asarray(fact.to_numpy(zero_copy_only=False))
