"""A DynamoDB table in memory: its items as bytes of JSON, and their sizes."""

import zlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson

Key: TypeAlias = tuple[str, str]

# The hash space, which the segments of a scan share.
SLOTS = 4096
PAGE_BYTES = 1_048_576
ITEM_BYTES = 409_600
WRITE_UNIT = 1024
READ_UNIT = 4096


class BadItemError(ValueError):
    """Raised for an item or a key that the table cannot store."""


@dataclass
class Page:
    """One page of a scan: the items, and the key to continue from."""

    items: list[bytes] = field(default_factory=list)
    size: int = 0
    last: Key | None = None


class MemoryTable:
    """Items by PK and SK, stored as bytes: dicts would take five times the memory."""

    def __init__(self, description: Mapping[str, Any]) -> None:
        self.description = description
        self._slots: list[dict[Key, bytes]] = [{} for _ in range(SLOTS)]

    def __len__(self) -> int:
        return sum(map(len, self._slots))

    def put(self, key: Key, item: bytes | None) -> None:
        """Replace the item of a key; None deletes it."""
        slot = self._slots[slot_of(key)]
        if item is None:
            slot.pop(key, None)
        else:
            slot[key] = item

    def get(self, key: Key) -> bytes | None:
        """Return an item, or None if there is none."""
        return self._slots[slot_of(key)].get(key)

    def scan(self, segment: int, segments: int, after: Key | None, limit: int) -> Page:
        """Read a page of a segment: 1 MB of items, or *limit* of them."""
        page = Page()
        for key, item in self._walk(segment, segments, after):
            page.items.append(item)
            page.size += item_size(item)
            if page.size >= PAGE_BYTES or len(page.items) == limit:
                page.last = key
                break
        return page

    def _walk(
        self, segment: int, segments: int, after: Key | None
    ) -> Iterator[tuple[Key, bytes]]:
        first = SLOTS * segment // segments if after is None else slot_of(after)
        for number in range(first, SLOTS * (segment + 1) // segments):
            slot = self._slots[number]
            # In order, so that a scan continues correctly after any writes.
            keys = sorted(slot)
            begin = bisect_right(keys, after) if after and number == first else 0
            for key in keys[begin:]:
                yield key, slot[key]


def slot_of(key: Key) -> int:
    """Return the place of a partition key in the hash space."""
    return zlib.crc32(key[0].encode()) % SLOTS


def key_of(item: Mapping[str, Any]) -> Key:
    """Return the key of an item in DynamoDB's form.

    Raises:
        BadItemError: the item has no key, or an empty one.
    """
    try:
        key = item["PK"]["S"], item["SK"]["S"]
    except (KeyError, TypeError):
        message = "One of the required keys was not given a value"
        raise BadItemError(message) from None
    if not (key[0] and key[1]):
        message = "One or more parameter values are not valid: an empty key"
        raise BadItemError(message)
    return key


def encode(item: Mapping[str, Any]) -> bytes:
    """Return an item in its stored form.

    Raises:
        BadItemError: the item is larger than 400 KB.
    """
    # A copy: orjson's own bytes keep its buffer, 4 KB for the smallest item.
    encoded = bytes(memoryview(orjson.dumps(item)))
    if len(encoded) > ITEM_BYTES and item_size(encoded) > ITEM_BYTES:
        message = "Item size has exceeded the maximum allowed size"
        raise BadItemError(message)
    return encoded


def write_units(new: bytes | None, old: bytes | None = None) -> int:
    """Return the cost of a write: a unit per started KB of the larger item."""
    return max(_units(new, WRITE_UNIT), _units(old, WRITE_UNIT))


def read_units(size: int) -> int:
    """Return the cost of a strongly consistent read of that many bytes, at least 1."""
    return max(1, -(-size // READ_UNIT))


def item_size(encoded: bytes) -> int:
    """Return the size of an item: the bytes of its names and its values in UTF-8."""
    strings = encoded.count(b'":{"S":"')
    if strings == encoded.count(b'":{"') and b"\\" not in encoded:
        # Only strings without escapes: 11 bytes of JSON around each attribute, a comma
        # between them, and the braces. This is ten times as fast as parsing.
        return len(encoded) - 12 * strings - 1
    item = orjson.loads(encoded)
    return sum(len(name.encode()) + _value_size(item[name]) for name in item)


def _units(encoded: bytes | None, unit: int) -> int:
    # The JSON is longer than the size that counts.
    if encoded is None or len(encoded) <= unit:
        return 1
    return -(-item_size(encoded) // unit)


def _value_size(value: Mapping[str, Any]) -> int:
    ((kind, content),) = value.items()
    if kind in {"S", "B"}:
        return len(content.encode())
    if kind == "N":
        return len(content.strip("-.0")) // 2 + 2
    if kind == "M":
        inner = sum(len(n.encode()) + _value_size(v) + 1 for n, v in content.items())
        return 3 + inner
    if kind == "L":
        return 3 + sum(_value_size(v) + 1 for v in content)
    return sum(len(v.encode()) for v in content) if isinstance(content, list) else 1
