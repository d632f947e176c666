"""The weights of items, and the costs of their requests, by DynamoDB's rules.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

from flows.models import Attribute

if TYPE_CHECKING:
    from flows.models import Index

WRITE_BYTES = 1_024
READ_BYTES = 4_096
PAGE_BYTES = 1_048_576
LARGEST_ITEM = 409_600
# A transaction costs twice what its writes and checks would alone.
TRANSACTION = 2

# The place that is the table itself; an index is a place by its name.
TABLE = ""
NAMES = ("enterprise_name", "name")


@dataclass
class Capacity:
    """The cost of the requests of all threads, counted from the answers."""

    write_units: float = 0.0
    read_units: float = 0.0
    throttles: int = 0
    retries: int = 0
    # Seconds that requests waited for the run's rate.
    paused: float = 0.0
    _lock: Any = field(default_factory=Lock, init=False, repr=False, compare=False)

    def add(self, **counts: float) -> None:
        """Add to counts, by their names."""
        with self._lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)

    def asdict(self) -> dict[str, float]:
        """Return the counts by name."""
        units = {"write_units": self.write_units, "read_units": self.read_units}
        return {**units, "throttles": self.throttles, "retries": self.retries}


def item_bytes(item: Mapping[str, Attribute]) -> int:
    """Return the weight of an item: the names and values of its attributes."""
    return sum(len(_utf8(name)) + _value_bytes(value) for name, value in item.items())


def write_units(size: int) -> int:
    """Return the units for writing an item of *size* bytes."""
    return max(1, -(-size // WRITE_BYTES))


def read_units(size: int) -> int:
    """Return the units for a strongly consistent read of an item of *size* bytes."""
    return max(1, -(-size // READ_BYTES))


def scan_units(size: float, segments: int) -> float:
    """Return the units for a strongly consistent scan of *size* bytes in *segments*.

    A page is rounded up as a whole, by half a unit on average; an empty segment costs
    one unit.
    """
    pages = segments + size // PAGE_BYTES
    return max(float(segments), size / READ_BYTES + pages / 2)


@dataclass(frozen=True)
class Weight:
    """The weight of an enterprise in the table or in an index.

    *beside* counts the bytes beside its name; *names* counts up to two copies of it.
    """

    beside: int
    names: int

    def writes(self, name: int) -> int:
        """Return the units of writing an enterprise whose name has that many bytes."""
        return write_units(self.beside + self.names * name)


def weigh(
    item: Mapping[str, Attribute], indexes: Iterable["Index"] = ()
) -> dict[str, Weight]:
    """Return the weights of enterprises like *item*, by place.

    A place is the table itself, ``TABLE``, or the name of an index that holds them.
    """
    copies = {TABLE: item} | {index.name: index.copy_of(item) for index in indexes}
    return {place: _weight(copy) for place, copy in copies.items() if copy}


def put_units(
    columns: Mapping[str, Sequence[Attribute]], indexes: Iterable["Index"]
) -> list[int]:
    """Return the units of putting each item, given as columns of attributes.

    Items are assumed to differ only in the length of their names.
    """
    names = [len(_utf8(str(name))) for name in columns["name"]]
    if not names:
        return []
    first = {attribute: column[0] for attribute, column in columns.items()}
    weights = weigh(first, indexes).values()
    units = {size: sum(w.writes(size) for w in weights) for size in set(names)}
    return [units[size] for size in names]


def change_units(
    before: Mapping[str, Attribute] | None,
    after: Mapping[str, Attribute] | None,
    indexes: Iterable["Index"] = (),
) -> dict[str, int]:
    """Return the units of changing an item, by place; None stands for no item.

    An index whose key changes deletes one copy and puts another. It consumes nothing if
    no attribute that it copies changes.
    """
    was, will = before or {}, after or {}
    units = {TABLE: write_units(max(item_bytes(was), item_bytes(will)))}
    for index in indexes:
        old, new = index.copy_of(was), index.copy_of(will)
        sizes = [item_bytes(copy) for copy in (old, new) if copy]
        if any(old.get(name) != new.get(name) for name, _, _ in index.keys):
            units[index.name] = sum(map(write_units, sizes))
        elif old != new:
            units[index.name] = write_units(max(sizes))
    return units


def units_of(answer: Any) -> float:
    """Return the consumed capacity units of an answer."""
    consumed = answer.get("ConsumedCapacity") or []
    entries = consumed if isinstance(consumed, list) else [consumed]
    return float(sum(entry.get("CapacityUnits", 0.0) for entry in entries))


def _weight(item: Mapping[str, Attribute]) -> Weight:
    named = {name: "" for name in NAMES if name in item}
    return Weight(item_bytes({**item, **named}), len(named))


def _value_bytes(value: Attribute) -> int:
    if isinstance(value, bool):
        return 1
    if isinstance(value, int):
        # One byte per two significant digits, one more, and one for a minus sign.
        digits = len(str(abs(value)).rstrip("0"))
        return (digits + 1) // 2 + 1 + (value < 0)
    # An estimate, for values of other programs, such as lists.
    return len(_utf8(str(value)))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
