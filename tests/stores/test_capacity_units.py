"""Item sizes and request costs, by examples from DynamoDB's own documentation."""

import pandas as pd
import pytest

from flows.models import Attribute
from flows.planning.estimate import bytes_beside_name
from flows.stores.dynamodb.capacity_units import (
    item_bytes,
    read_units,
    scan_units,
    write_units,
)
from flows.transform import transform_enterprises


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"PK": "ä"}, 4),
        ({"flag": True}, 5),
        ({"n": 0}, 2),
        ({"n": 7}, 3),
        ({"n": 1_200}, 3),
        ({"n": -123}, 5),
        ({"emoji": "🚀" * 3}, 17),
    ],
)
def test_an_item_weighs_its_names_and_values(
    item: dict[str, Attribute], expected: int
) -> None:
    """Names and strings count in UTF-8; a number is half a byte per digit plus one."""
    assert item_bytes(item) == expected


@pytest.mark.parametrize(
    ("size", "writes", "reads"),
    [(1, 1, 1), (1_024, 1, 1), (1_025, 2, 1), (4_097, 5, 2), (409_600, 400, 100)],
)
def test_units_are_begun_ones(size: int, writes: int, reads: int) -> None:
    """A write costs one unit per started KB, a consistent read one per started 4 KB."""
    assert (write_units(size), read_units(size)) == (writes, reads)


def test_a_scan_costs_what_it_reads() -> None:
    """A scan costs one unit per 4 KB of any items, and at least one per segment."""
    assert scan_units(0, 4) == 4
    assert scan_units(40_960_000, 4) == pytest.approx(10_000, rel=0.01)


@pytest.mark.parametrize("provenance", [False, True])
def test_all_but_the_name_is_of_known_length(*, provenance: bool) -> None:
    """The size counted without the name must equal that part of a real item."""
    row = ("1234567", "Ünïcode 株式会社", "2024-01-05 12:34:56.7+00", None)
    names = ["source_id", "enterprise_name", "created_date", "updated_date"]
    frame = pd.DataFrame([row], columns=names, dtype=object)
    made = transform_enterprises(frame, provenance=provenance)
    (item,) = made.drop(columns="source_id").to_dict("records")

    beside = bytes_beside_name("integer", provenance=provenance, rows=1_234_567)

    assert item_bytes(item) == beside + 2 * len(row[1].encode())
