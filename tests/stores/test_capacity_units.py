"""Item sizes and request costs, by examples from DynamoDB's own documentation."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest

from flows.models import Attribute, Index
from flows.planning.estimate import bytes_beside_name
from flows.stores.dynamodb.capacity_units import (
    change_units,
    item_bytes,
    put_units,
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
        ({"half": "\ud800"}, 7),
        ({"absent": None}, 0),
        ({"n": {"N": "1.5"}}, 3),
        ({"n": {"N": "-0.00123"}}, 5),
        ({"n": {"N": "0." + "0" * 129 + "1"}}, 3),
        ({"n": 10**125}, 3),
        ({"n": int("9" * 38)}, 21),
        ({"n": {"NULL": True}}, 2),
        ({"b": {"B": b"\0\xff"}}, 3),
        ({"s": {"SS": ["a", "é"]}}, 4),
        ({"s": {"NS": ["1", "-1234"]}}, 7),
        ({"s": {"BS": [b"", b"ab"]}}, 3),
        ({"l": {"L": []}}, 4),
        ({"l": {"L": [{"S": "ab"}, {"NULL": True}, {"BOOL": False}]}}, 11),
        ({"m": {"M": {}}}, 4),
        ({"m": {"M": {"": {"N": "7"}, "ké": {"M": {"x": {"S": "y"}}}}}}, 17),
    ],
)
def test_an_item_weighs_its_names_and_values(
    item: dict[str, Attribute], expected: int
) -> None:
    """Names and strings count in UTF-8; a number is half a byte per digit plus one.

    A list or a map is three bytes plus one per element, and its contents.
    """
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


KEY = {"PK": "ENT#1", "SK": "METADATA", "id": "1"}
MANY = [
    {**KEY, "enterprise_name": "é" * 600, "name": "é" * 600},
    {**KEY, "enterprise_name": "", "name": ""},
    {**KEY, "enterprise_name": "a", "name": "b" * 3_000},
    {**KEY, "SK": "x" * 900, "enterprise_name": "a" * 200, "name": None},
    {**KEY, "text": "\ud800" * 400, "number": {"N": "1.5"}, "flag": True},
    {**KEY, "text": None, "number": 12, "settings": {"M": {"a": {"S": "x" * 1_024}}}},
    {**KEY, "GSI1PK": "OWNER#1", "raw": {"B": b"x" * 2_000}},
]
INDEXES = (
    Index("all", False, (("GSI1PK", "HASH", "S"),)),
    Index("keys", False, (("name", "HASH", "S"),), "KEYS_ONLY"),
    Index("some", False, (("id", "HASH", "S"),), "INCLUDE", frozenset({"raw"})),
    Index("none", False, (("price", "HASH", "N"),)),
)


@pytest.mark.parametrize("indexes", [(), INDEXES])
@pytest.mark.parametrize(
    "items", [MANY, MANY[:1], MANY[:2], MANY[:3], MANY[:4], MANY[4:], []]
)
def test_a_batch_of_any_items_costs_what_each_one_does(
    items: list[dict[str, Any]], indexes: Sequence[Index]
) -> None:
    """Units by columns must equal those of one item after the other."""
    names = dict.fromkeys(name for item in items for name in item) or KEY
    columns = {name: [item.get(name) for item in items] for name in names}

    assert put_units(columns, indexes) == [
        sum(change_units(None, item, indexes).values()) for item in items
    ]


def test_a_removed_attribute_leaves_its_index() -> None:
    """None stands for no attribute: the index deletes its copy, and puts none."""
    before = {**KEY, "GSI1PK": "OWNER#1", "raw": {"B": b"x" * 1_000}}
    units = change_units(before, before | {"GSI1PK": None}, INDEXES)

    assert units == {"": 2, "all": 2}


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
