"""The weights of items, and the costs of their requests, by DynamoDB's rules.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

from flows.models import ITEM_ATTRIBUTES, PROVENANCE_ATTRIBUTES, Attribute

if TYPE_CHECKING:
    import numpy as np

    from flows.models import Index, Item

WRITE_BYTES = 1_024
READ_BYTES = 4_096
PAGE_BYTES = 1_048_576
LARGEST_ITEM = 409_600
# A transaction costs twice what its writes and checks would alone.
TRANSACTION = 2

# The place that is the table itself; an index is a place by its name.
TABLE = ""
NAMES = ("enterprise_name", "name")
BUILT_IN = frozenset(ITEM_ATTRIBUTES + PROVENANCE_ATTRIBUTES)
# A list or a map has three bytes of overhead, and one more for each element.
NESTED_BYTES, ELEMENT_BYTES = 3, 1


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
    return sum(
        len(_utf8(name)) + _value_bytes(value)
        for name, value in item.items()
        if value is not None
    )


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
    columns: Mapping[str, Sequence[Attribute | None]], indexes: Iterable["Index"]
) -> list[int]:
    """Return the units of putting each item, given as columns of attributes.

    Items of the built-in mapping are assumed to differ only in the length of their
    names, and are weighed by them; all others are weighed column by column.
    """
    if not columns["PK"]:
        return []
    if not _is_built_in(columns):
        return _add_units(columns, indexes)
    names = [len(_utf8(str(name))) for name in columns["name"]]
    first = {attribute: column[0] for attribute, column in columns.items()}
    weights = weigh(first, indexes).values()
    units = {size: sum(w.writes(size) for w in weights) for size in set(names)}
    return [units[size] for size in names]


def _is_built_in(columns: Mapping[str, Sequence[Attribute | None]]) -> bool:
    """Return whether only the names of the items have different lengths."""
    if not BUILT_IN.issuperset(columns) or not columns.keys() >= set(NAMES):
        return False
    long, short = (columns[name] for name in NAMES)
    keys: Any = columns["PK"], columns["SK"]
    return (
        set(map(type, short)) == {str}
        and long == short
        and all(len(set(map(len, key))) == 1 for key in keys)
    )


def _add_units(
    columns: Mapping[str, Sequence[Attribute | None]], indexes: Iterable["Index"]
) -> list[int]:
    """Return the units of putting each item: those of the table and of each index."""
    import numpy as np

    weights = {name: _weigh_column(name, column) for name, column in columns.items()}
    total: Any = sum(weights.values())
    units = -(-total // WRITE_BYTES)
    for index in indexes:
        if not index.has(weights):
            continue
        held = np.logical_and.reduce([weights[name] > 0 for name, _, _ in index.keys])
        copied: Any = sum(w for name, w in weights.items() if index.copies(name))
        units = units + np.where(held, -(-copied // WRITE_BYTES), 0)
    found: list[int] = units.tolist()
    return found


def _weigh_column(name: str, column: Sequence[Attribute | None]) -> "np.ndarray":
    """Return the weight of an attribute in each item; 0 where it is absent."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    beside = len(_utf8(name))
    if set(map(type, column)) <= {str, type(None)}:
        try:
            texts = pa.array(column, pa.large_string())
        except ValueError:
            # A text has half of a surrogate pair.
            pass
        else:
            sizes: Any = pc.fill_null(pc.add(pc.binary_length(texts), beside), 0)
            found: np.ndarray = sizes.to_numpy(zero_copy_only=False)
            return found
    weights = (0 if one is None else beside + _value_bytes(one) for one in column)
    return np.fromiter(weights, np.int64, len(column))


def change_units(
    before: Mapping[str, Attribute] | None,
    after: Mapping[str, Attribute] | None,
    indexes: Iterable["Index"] = (),
) -> dict[str, int]:
    """Return the units of changing an item, by place; None stands for no item.

    An index whose key changes deletes one copy and puts another. It consumes nothing if
    no attribute that it copies changes.
    """
    was, will = _present(before), _present(after)
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


def _present(item: Mapping[str, Attribute | None] | None) -> "Item":
    """Return an item without the attributes that it lacks."""
    return {n: value for n, value in (item or {}).items() if value is not None}


def _value_bytes(value: Attribute) -> int:
    if isinstance(value, bool):
        return 1
    if isinstance(value, int):
        return _number_bytes(str(value))
    if isinstance(value, str):
        return len(_utf8(value))
    ((letter, content),) = value.items()
    return _content_bytes(letter, content)


def _content_bytes(letter: str, content: Any) -> int:
    """Return the bytes of the content of a value in DynamoDB's typed form."""
    if letter == "S":
        return len(_utf8(content))
    if letter == "N":
        return _number_bytes(content)
    if letter == "B":
        return len(content)
    if letter in {"SS", "NS", "BS"}:
        return sum(_content_bytes(letter[0], one) for one in content)
    if letter not in {"L", "M"}:
        # NULL and BOOL.
        return 1
    names = map(_utf8, content) if letter == "M" else ()
    values = content.values() if letter == "M" else content
    inner = (_content_bytes(*next(iter(one.items()))) for one in values)
    beside = NESTED_BYTES + ELEMENT_BYTES * len(content)
    return beside + sum(map(len, names)) + sum(inner)


def _number_bytes(text: str) -> int:
    """Return the bytes of a number, which is spelled without exponent.

    These are one per two significant digits, one more, and one for a minus sign.
    """
    digits = text.lstrip("-").replace(".", "").strip("0")
    return (len(digits) + 1) // 2 + 1 + text.startswith("-")


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
