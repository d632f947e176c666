"""The item of an enterprise: its keys, attributes, id, times and equality.

The rules are defined only here. Functions that need pandas, numpy or pyarrow import
them locally, so that the HTTP service starts without them.
"""

from collections.abc import (
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from hashlib import blake2b, sha1
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from uuid import UUID

from flows.models.values import tagged

if TYPE_CHECKING:
    import pyarrow as pa

ENTITY_TYPE = "enterprise"
KEY_PREFIX = "ENT#"
SORT_KEY = "METADATA"
TABLE_KEYS = frozenset({"PK", "SK"})
ITEM_ATTRIBUTES = (
    "PK",
    "SK",
    "id",
    "enterprise_name",
    "name",
    "created_date",
    "createdAt",
    "updated_date",
    "updatedAt",
    "entity_type",
)
PROVENANCE_ATTRIBUTES = ("migrated_from_pg", "original_pg_id")
# PostgreSQL's text of a timestamptz: DateStyle ISO, TimeZone UTC, years 1 to 9999.
SOURCE_TIMESTAMP = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?\+00$"
# A value in its one form, see ``models.values``.
Attribute: TypeAlias = Any
Item: TypeAlias = dict[str, Attribute]
# The partition key and the sort key of an item.
Key: TypeAlias = tuple[str, str]
IdKind: TypeAlias = Literal["integer", "uuid", "text"]


def derive_ids(
    source_ids: Sequence[str], kind: IdKind, namespace: UUID, *, derived: bool = False
) -> list[str]:
    """Derive the target ids of source ids, given as PostgreSQL's text.

    An integer becomes ``uuid5(namespace, text)``; a UUID is kept, in canonical lower
    case, unless *derived*. The result is deterministic, so that every run finds the
    items of earlier runs.

    Raises:
        ValueError: a source id of kind ``uuid`` or ``text`` is not a UUID.
    """
    if kind != "integer":
        source_ids = [str(UUID(text)) for text in source_ids]
        if not derived:
            return source_ids
    import numpy as np

    # RFC 9562, 5.5: SHA-1 over namespace and name, then version and variant bits.
    prefix = namespace.bytes
    digests = b"".join(sha1(prefix + s.encode()).digest()[:16] for s in source_ids)  # noqa: S324
    octets = np.frombuffer(digests, np.uint8).reshape(-1, 16).copy()
    octets[:, 6] = octets[:, 6] & 0x0F | 0x50
    octets[:, 8] = octets[:, 8] & 0x3F | 0x80
    digits = octets.tobytes().hex()
    hexes = (digits[i : i + 32] for i in range(0, len(digits), 32))
    return [f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}" for h in hexes]


def format_timestamps(texts: "pa.Array") -> "pa.Array":
    """Format PostgreSQL's UTC timestamps as ``YYYY-MM-DDTHH:MM:SS.mmmZ``.

    Digits beyond milliseconds are cut off, never rounded, so that no timestamp moves
    into the next second or year. NULL stays NULL.

    Raises:
        ValueError: a text is not a UTC timestamp of the years 1 to 9999.
    """
    import pyarrow.compute as pc

    fits = pc.match_substring_regex(texts, SOURCE_TIMESTAMP)
    if pc.all(fits, min_count=0).as_py() is False:
        position = pc.index(fits, value=False).as_py()
        message = f"not a timestamp of the years 1 to 9999: {texts[position]}"
        raise ValueError(message)
    bare = pc.utf8_slice_codeunits(texts, 0, -3)
    fraction = pc.utf8_rpad(pc.utf8_slice_codeunits(bare, 20, 23), 3, padding="0")
    day = pc.utf8_slice_codeunits(bare, 0, 10)
    time = pc.utf8_slice_codeunits(bare, 11, 19)
    return pc.binary_join_element_wise(day, "T", time, ".", fraction, "Z", "")


def key_of(item: Mapping[str, Attribute]) -> Key:
    """Return the key of an item."""
    return item["PK"], item["SK"]


def is_enterprise(item: Mapping[str, Attribute]) -> bool:
    """Return whether an item of the table is an enterprise."""
    return (
        str(item.get("PK", "")).startswith(KEY_PREFIX)
        and item.get("SK") == SORT_KEY
        and item.get("entity_type") == ENTITY_TYPE
    )


def same_value(one: Attribute | None, other: Attribute | None) -> bool:
    """Return whether two values are equal in DynamoDB, where True is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return tagged(one) == tagged(other)
    return type(one) is type(other) and one == other


def digest(values: Iterable[Attribute | None]) -> bytes:
    """Return the 128-bit digest by which an item's own attributes are compared."""
    texts = list(map(tagged, values))
    # Lengths before values: no two different lists give the same text.
    joined = "".join(f"{len(text)}:{text}" for text in texts)
    return blake2b(joined.encode("utf-8", "surrogatepass"), digest_size=16).digest()


@dataclass(frozen=True)
class Index:
    """A secondary index: its keys, each with kind and type, and its projection."""

    name: str
    local: bool
    keys: tuple[tuple[str, str, str], ...]
    projection: str = "ALL"
    included: frozenset[str] = frozenset()

    def has(self, attributes: Collection[str]) -> bool:
        """Return whether an item with these attributes is in the index."""
        return all(name in attributes for name, _, _ in self.keys)

    def copies(self, attribute: str) -> bool:
        """Return whether the index holds a copy of an attribute."""
        keys = TABLE_KEYS.union(name for name, _, _ in self.keys)
        return self.projection == "ALL" or attribute in keys | self.included

    def copy_of(self, item: Mapping[str, Attribute]) -> Item:
        """Return the index's copy of an item; empty if it is not in the index."""
        if not self.has(item):
            return {}
        return {name: value for name, value in item.items() if self.copies(name)}
