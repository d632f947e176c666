"""What items weigh, and what requests for them cost, by DynamoDB's rules.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
"""

from collections.abc import Mapping

import pandas as pd

from flows.models import Attribute, IdKind
from flows.transform import transform_enterprises

WRITE_BYTES = 1_024
READ_BYTES = 4_096
PAGE_BYTES = 1_048_576
LARGEST_ITEM = 409_600
# A transaction costs twice what its writes and checks would alone.
TRANSACTION = 2

_EXAMPLE = {
    "integer": "1",
    "uuid": "3500a20a-fa32-5543-842f-da54bef06c63",
    "text": "3500a20a-fa32-5543-842f-da54bef06c63",
}


def item_bytes(item: Mapping[str, Attribute]) -> int:
    """Return what an item weighs: the names and values of its attributes."""
    return sum(len(_utf8(name)) + _value_bytes(value) for name, value in item.items())


def write_units(size: int) -> int:
    """Return what writing an item of so many bytes costs."""
    return max(1, -(-size // WRITE_BYTES))


def read_units(size: int) -> int:
    """Return what reading an item of so many bytes costs, strongly consistent."""
    return max(1, -(-size // READ_BYTES))


def scan_units(size: float, segments: int) -> float:
    """Return what scanning so many bytes costs, strongly consistent, in *segments*.

    A page is rounded up as a whole, by half a unit on average; an empty segment costs
    one.
    """
    pages = segments + size // PAGE_BYTES
    return max(float(segments), size / READ_BYTES + pages / 2)


def bytes_beside_name(id_kind: IdKind, *, provenance: bool, rows: int) -> int:
    """Return what an enterprise weighs without the two copies of its name.

    All of it is of fixed length, but for a number that *provenance* adds; it is taken
    to be as long as the count of *rows*.
    """
    example = str(rows) if id_kind == "integer" else _EXAMPLE[id_kind]
    stamp = "2024-01-05 12:34:56.789+00"
    row = {
        "source_id": example,
        "enterprise_name": "",
        "created_date": stamp,
        "updated_date": stamp,
    }
    frame = pd.DataFrame([row], dtype=object)
    made = transform_enterprises(frame, id_kind=id_kind, provenance=provenance)
    item: dict[str, Attribute] = made.drop(columns="source_id").iloc[0].to_dict()  # type: ignore[assignment]
    return item_bytes(item)


def _value_bytes(value: Attribute) -> int:
    if isinstance(value, bool):
        return 1
    if isinstance(value, int):
        # A byte for two significant digits, one more, and one for the sign.
        digits = len(str(abs(value)).rstrip("0"))
        return (digits + 1) // 2 + 1 + (value < 0)
    # Of what other programs keep there, such as lists, about.
    return len(_utf8(str(value)))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
