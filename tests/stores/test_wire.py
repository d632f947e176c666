"""Bodies of requests, as DynamoDB reads them, and values as it returns them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.stores.dynamodb.wire import encode, encode_puts, from_wire, to_wire

# Characters that may be misread as the end of a value or of its template.
TEXTS = st.text(st.sampled_from(list('",\\%b]}:é\n\x00🚀\ud800a')))
NAMES = st.text(st.sampled_from(list('"%b,é:')), min_size=1)
TYPED = st.sampled_from(
    [
        {"SS": ["x", "y"]},
        {"N": "1.5"},
        {"NULL": True},
        {"L": [{"N": "1"}, {"M": {'"%b': {"S": '",'}}}]},
    ]
)
VALUES = st.one_of(TEXTS, st.booleans(), st.integers(), TYPED)


def wired(item: dict[str, Any]) -> dict[str, Any]:
    """Return the request that puts an item, as DynamoDB reads it."""
    return {"PutRequest": {"Item": to_wire(item)}}


@given(st.lists(st.tuples(TEXTS, TEXTS, VALUES), max_size=5))
def test_items_are_encoded_as_they_are(rows: list[tuple[Any, ...]]) -> None:
    """Each item must arrive with exactly its own values, for any content."""
    names = ("PK", "name", "other")
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}

    puts = [json.loads(put) for put in encode_puts(columns)]

    items = [dict(zip(names, row, strict=True)) for row in rows]
    assert puts == [wired(item) for item in items]


@given(st.data(), st.lists(NAMES, max_size=4, unique=True), st.integers(1, 5))
def test_absent_attributes_are_left_out_of_their_own_items(
    data: st.DataObject, names: list[str], rows: int
) -> None:
    """None in a column must take its attribute from that item, and from no other."""
    kinds = [st.none() | kind for kind in (TEXTS, st.booleans(), st.integers(), TYPED)]
    columns: dict[str, list[Any]] = {"PK": ["k"] * rows}
    for name in names:
        values = data.draw(st.sampled_from([*kinds, st.none() | VALUES]))
        columns[name] = data.draw(st.lists(values, min_size=rows, max_size=rows))

    puts = [json.loads(put) for put in encode_puts(columns)]

    items = [{name: column[i] for name, column in columns.items()} for i in range(rows)]
    assert puts == [wired(item) for item in items]
    assert all(None not in put["PutRequest"]["Item"].values() for put in puts)


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ({"S": "1.50"}, "1.50"),
        ({"BOOL": False}, False),
        ({"N": "-12345678901234567890"}, -12345678901234567890),
        ({"N": "-0"}, 0),
        ({"N": "1.50"}, {"N": "1.5"}),
        ({"N": "2.0"}, 2),
        ({"N": "1E+2"}, 100),
        ({"N": "-1E-3"}, {"N": "-0.001"}),
        ({"NULL": True}, {"NULL": True}),
        ({"B": "AP8="}, {"B": b"\0\xff"}),
        ({"BS": ["/w==", "AA=="]}, {"BS": [b"\0", b"\xff"]}),
        ({"SS": ["b", "a"]}, {"SS": ["a", "b"]}),
        ({"NS": ["10.0", "9"]}, {"NS": ["10", "9"]}),
        (
            {"L": [{"N": "1.0"}, {"M": {"x": {"B": "AA=="}, "n": {"N": "0.10"}}}]},
            {"L": [{"N": "1"}, {"M": {"x": {"B": b"\0"}, "n": {"N": "0.1"}}}]},
        ),
        ({"M": {"": {"L": []}}}, {"M": {"": {"L": []}}}),
    ],
)
def test_a_value_is_read_in_its_one_form(wire: Any, expected: Any) -> None:
    """Equal values must be equal in Python, at every depth, however they are spelled.

    Sending the form back must change nothing.
    """
    value = from_wire({"a": wire})["a"]
    again = from_wire(json.loads(encode(to_wire({"a": value}))))["a"]

    assert (value, type(value)) == (expected, type(expected))
    assert again == value
