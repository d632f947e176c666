"""Facts about each row, in columns of booleans.

The suites judge these facts instead of the values: Arrow computes them in one pass
over a column, any value that a store can hold is accepted without a crash, and no
value enters a result of Great Expectations. A fact about a missing value holds, since
only the rule on missing values judges that row.
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha1
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from validation import contract
from validation.arrow_text import TEXT, Array, Mask, Text, read_text
from validation.attribute_facts import (
    Attributes,
    attribute_facts,
    index_keys_fit,
    item_sizes,
)
from validation.column_facts import column_facts
from validation.masks import all_hold, equals, mask, not_flagged, spelt, unique
from validation.moments import find_plain, odd_facts
from validation.report import InputError
from validation.rules import TEXT_TYPES, must_be_there, name_column, required_attributes
from validation.subject import ENTERPRISES, ColumnRules, Subject

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

_NOTHING = pa.scalar("", TEXT)
_UUID_DIGITS = 32
# The bits of a version 5 UUID that come from the digest.
_UUID_BITS = np.frombuffer(bytes.fromhex("ffffffffffff0fff3fffffffffffffff"), np.uint8)


def source_facts(
    rows: pd.DataFrame,
    *,
    now: datetime | None = None,
    subject: Subject = ENTERPRISES,
) -> pd.DataFrame:
    """Compute the facts about each row of the source, by position.

    Times after *now*, by default the moment of the call, are in the future.

    Raises:
        InputError: A column is absent, or holds anything but text or None; or a rule's
            bound is not a value of its column's type.
    """
    columns = source_columns(subject)
    if absent := [column for column in columns if column not in rows.columns]:
        message = f"the frame has no column {', '.join(absent)}; rename its columns"
        raise InputError(message)
    texts = {column: _source_text(rows, column) for column in columns}
    arrays = {column: text.array for column, text in texts.items()}
    ids = arrays["source_id"]
    facts = {
        "id_present": mask(pc.not_equal(ids, _NOTHING), null=False),
        "id_unique": unique(ids),
        "id_unclaimed": not_flagged(rows, contract.ID_DUPLICATE_COLUMN),
    }
    if name := name_column(subject):
        facts |= _name_facts(texts[name.name], name)
    facts |= _moments_facts(arrays, subject, now or datetime.now(UTC))
    facts |= column_facts(rows, arrays, subject)
    return pd.DataFrame(facts, copy=False)


def source_columns(subject: Subject) -> tuple[str, ...]:
    """Return the columns of text that a frame of a subject's rows must have."""
    moments = _moments_of(subject)
    return ("source_id", *(column.name for column in subject.columns), *moments)


def item_facts(
    items: pd.DataFrame,
    *,
    namespace: UUID | None = None,
    key_limits: Iterable[tuple[str, int]] = (),
    subject: Subject = ENTERPRISES,
) -> pd.DataFrame:
    """Compute the facts about each item, by position; absent columns count as missing.

    With *namespace*, the ids are derived from the source ids: the column `source_id`
    holds them if they are known. *key_limits* has the maximum bytes of attributes as
    keys of indexes.
    """
    attributes = Attributes(items, subject)
    values = attributes.arrays()
    key_limits = tuple(key_limits)
    facts = {
        f"{name}_text": mask(pc.is_valid(values[name]))
        for name, kind in required_attributes(subject).items()
        if kind in TEXT_TYPES
    }
    facts |= {
        "key_matches_id": _key_fits(values["PK"], values["id"], subject.partition_key),
        "sort_key_right": _key_fits(values["SK"], values["id"], subject.sort_key),
        "entity_type_right": equals(values["entity_type"], subject.entity),
        "id_canonical": spelt(values["id"], contract.UUID_PATTERN),
        "id_unique": unique(values["id"]),
        "id_derived": _derived(items, values["id"], namespace),
    }
    if name := name_column(subject):
        facts |= _item_name_facts(attributes.texts, name)
    for role in _moments_of(subject):
        twin = {"created_date": "createdAt", "updated_date": "updatedAt"}[role]
        stem = role.removesuffix("_date")
        facts[f"{role}_canonical"] = _canonical(values[role])
        facts[f"{stem}_twins_equal"] = mask(pc.equal(values[role], values[twin]))
    facts["item_fits"] = item_sizes(attributes) <= contract.MAX_ITEM_BYTES
    facts["index_keys_fit"] = index_keys_fit(attributes, key_limits)
    facts |= attribute_facts(attributes, key_limits)
    return pd.DataFrame(facts, copy=False)


def item_bytes(
    items: pd.DataFrame, subject: Subject = ENTERPRISES
) -> npt.NDArray[np.int64]:
    """Measure each item as DynamoDB does: names and values."""
    return item_sizes(Attributes(items, subject))


def _moments_of(subject: Subject) -> tuple[str, ...]:
    created = ("created_date",) if subject.created else ()
    return (*created, "updated_date") if subject.updated else created


def _source_text(rows: pd.DataFrame, column: str) -> Text:
    text = read_text(rows[column])
    if text.array.null_count != int(rows[column].isna().sum()):
        message = (
            f"column {column!r} must hold PostgreSQL's own text or None; "
            f"select it as {column}::text"
        )
        raise InputError(message)
    return text


def _name_facts(text: Text, column: ColumnRules) -> dict[str, Mask]:
    """Compute the facts about names: invisible ones are not judged further."""
    names = text.array
    present = {"name_present": mask(pc.is_valid(names))} if column.required else {}
    visible = _visible(text)
    barred = ~visible | ~text.unicode
    trimmed = pc.utf8_trim(names, characters=contract.BLANKS)
    control = pc.match_substring_regex(names, contract.CONTROL_CHARACTER_PATTERN)
    short = pc.less_equal(pc.utf8_length(names), contract.USUAL_NAME_CHARACTERS)
    return present | {
        "name_visible": visible,
        "name_unicode": text.unicode,
        "name_trim": mask(pc.equal(trimmed, names)) | barred,
        "name_printable": mask(pc.invert(control)) | barred,
        "name_short": mask(short) | barred,
        "name_unique": unique(names) | barred,
    }


def _moments_facts(
    texts: Mapping[str, Array], subject: Subject, now: datetime
) -> dict[str, Mask]:
    moment = pa.scalar(now.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f+00"), TEXT)
    roles = _moments_of(subject)
    plain = {role: find_plain(texts[role]) for role in roles}
    facts: dict[str, Mask] = {}
    for role in roles:
        past = mask(pc.less_equal(texts[role], moment)) | ~plain[role]
        found = odd_facts(texts[role], plain[role])
        facts |= {f"{role}_{fact}": holds for fact, holds in found.items()}
        facts[f"{role}_past"] = past
    if roles:
        there = [mask(pc.is_valid(texts[role])) for role in roles]
        facts["timestamp_present"] = np.logical_or.reduce(there)
    if subject.created and subject.updated:
        created, updated = (texts[role] for role in roles)
        both = plain["created_date"] & plain["updated_date"]
        facts["dates_ordered"] = mask(pc.greater_equal(updated, created)) | ~both
    return facts


def _item_name_facts(texts: Mapping[str, Text], column: ColumnRules) -> dict[str, Mask]:
    named = [texts[name] for name in column.attributes]
    first, *others = named
    facts = {
        "name_visible": _visible(first),
        "name_unicode": np.logical_and.reduce([text.unicode for text in named]),
    }
    if others:
        equal = [mask(pc.equal(first.array, other.array)) for other in others]
        facts["name_twins_equal"] = np.logical_and.reduce(equal)
        if not must_be_there(column):  # else a missing twin breaks another rule
            there = [mask(pc.is_valid(text.array)) for text in named]
            facts["name_twins_equal"] &= np.logical_and.reduce(
                there
            ) | ~np.logical_or.reduce(there)
    return facts


def _key_fits(
    keys: Array, ids: Array, template: tuple[tuple[str, str | None], ...]
) -> Mask:
    """Return which keys may come from a template.

    A key of constants and the id must be exactly that; of another one the constant at
    its beginning is known, and that it has the id in it.
    """
    names = {name for _, name in template if name is not None}
    if not names:
        return equals(keys, "".join(text for text, _ in template))
    if names == {"id"}:
        parts: list[Array] = []
        for text, name in template:
            parts += [pa.scalar(text, TEXT)] if text else []
            parts += [ids] if name else []
        made = pc.binary_join_element_wise(*parts, _NOTHING)
        return mask(pc.equal(keys, made))
    fits = mask(pc.starts_with(keys, pattern=template[0][0]))
    if "id" in names:
        pairs = zip(keys.to_pylist(), ids.to_pylist(), strict=True)
        contained = [None in pair or pair[1] in pair[0] for pair in pairs]
        fits &= np.array(contained, dtype=np.bool_)
    return fits


def _visible(text: Text) -> Mask:
    pattern = contract.VISIBLE_CHARACTER_PATTERN
    return mask(pc.match_substring_regex(text.array, pattern))


def _canonical(values: Array) -> Mask:
    return spelt(values, contract.ITEM_TIMESTAMP_PATTERN)


def _derived(items: pd.DataFrame, ids: Array, namespace: UUID | None) -> Mask:
    """Return which ids derive from the source ids beside them, if those are known."""
    holds = all_hold(len(items))
    if namespace is None:
        return holds
    sources = _source_ids(items)
    known = np.asarray(pc.is_valid(sources).to_numpy(zero_copy_only=False))
    derived = spelt(ids, contract.DERIVED_UUID_PATTERN)
    judged = np.flatnonzero(known & derived & mask(pc.is_valid(ids)))
    holds[~derived] = False
    if len(judged):
        positions = pa.array(judged)
        digests = _digests(sources.take(positions), namespace)
        given = "".join(ids.take(positions).to_pylist()).replace("-", "")
        octets = np.frombuffer(bytes.fromhex(given), np.uint8).reshape(-1, 16)
        holds[judged] = (((octets ^ digests) & _UUID_BITS) == 0).all(axis=1)
    # Only the rule on ids judges a value that is not an id.
    return holds | ~spelt(ids, contract.UUID_PATTERN)


def _digests(sources: Array, namespace: UUID) -> npt.NDArray[np.uint8]:
    prefix = namespace.bytes
    # No integer is as long as a UUID, which has several spellings.
    if pc.max(pc.binary_length(sources)).as_py() >= _UUID_DIGITS:
        sources = pa.array(map(_spell_id, sources.to_pylist()), TEXT)
    names = sources.cast(pa.large_binary()).to_pylist()
    # RFC 9562, 5.5: the first 16 bytes of the SHA-1 over namespace and name.
    digests = b"".join([sha1(prefix + name).digest() for name in names])  # noqa: S324
    return np.frombuffer(digests, np.uint8).reshape(-1, 20)[:, :16]


def _spell_id(text: str) -> str:
    """Return a UUID in canonical lower case, and any other text as it is."""
    try:
        return str(UUID(text))
    except ValueError:
        return text


def _source_ids(items: pd.DataFrame) -> Array:
    if "source_id" not in items.columns:
        return pa.nulls(len(items), TEXT)
    return read_text(items["source_id"]).array
