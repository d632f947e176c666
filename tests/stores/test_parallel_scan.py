"""Pages of a scan in Arrow's columns: the same values as from any other parser."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.models import Letter
from flows.models.values import tagged
from flows.stores.dynamodb.parallel_scan import OTHER, parse_page
from flows.stores.dynamodb.wire import from_wire

NAMES: dict[str, Letter] = {
    "PK": "S",
    "SK": "S",
    "name": "S",
    "migrated_from_pg": "BOOL",
    "original_pg_id": "N",
}
# An attribute of any type, which makes a page be parsed value by value.
WITH_ANY: dict[str, Letter] = NAMES | {"settings": "*"}
on_both_paths = pytest.mark.parametrize("names", [NAMES, WITH_ANY])
CAPACITY = {"TableName": "T", "CapacityUnits": 128.5}


def answer(*items: dict[str, Any], **more: Any) -> bytes:
    """Create the answer of a Scan."""
    counts = {"Count": len(items), "ScannedCount": 7, "ConsumedCapacity": CAPACITY}
    return json.dumps({"Items": list(items), **counts, **more}).encode()


def item(**attributes: Any) -> dict[str, Any]:
    """Create an item in DynamoDB's typed form."""
    return {"PK": {"S": "ENT#1"}, "SK": {"S": "METADATA"}, **attributes}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ({"S": "plain"}, "plain"),
        ({"S": ""}, ""),
        ({"S": 'é🚀"\\\n\x00\u2028'}, 'é🚀"\\\n\x00\u2028'),
        ({"S": "2024-02-29T00:00:00Z"}, "2024-02-29T00:00:00Z"),
        ({"N": "1"}, OTHER),
        ({"NULL": True}, OTHER),
        ({"L": [{"S": "a"}]}, OTHER),
        ({"M": {"S": {"S": "a"}}}, OTHER),
        ({"S": "half \ud800"}, OTHER),
    ],
)
@on_both_paths
def test_a_value_is_itself_or_another(
    names: dict[str, Letter], name: dict[str, Any], expected: str
) -> None:
    """A value of another type must be no similar string, and must not look absent."""
    page = parse_page(answer(item(name=name), item(), item(note={"S": "x"})), names)

    assert page["Items"]["name"].to_pylist() == [expected, None, None]


@on_both_paths
def test_what_is_no_string_keeps_its_type(names: dict[str, Letter]) -> None:
    """A string that looks like a boolean or a number must not equal it."""
    whole = item(migrated_from_pg={"BOOL": True}, original_pg_id={"N": "42"})
    like = item(migrated_from_pg={"S": "True"}, original_pg_id={"S": "42"})
    false = item(migrated_from_pg={"BOOL": False}, original_pg_id={"NULL": True})
    found = parse_page(answer(whole, like, false, item()), names)["Items"]

    assert found["migrated_from_pg"].to_pylist() == ["True", OTHER, "False", None]
    assert found["original_pg_id"].to_pylist() == ["42", OTHER, OTHER, None]


@pytest.mark.parametrize(
    ("spelled", "expected"),
    [
        ("0", "0"),
        ("-0", "0"),
        ("-7", "-7"),
        ("1.50", "1.5"),
        ("0.5", "0.5"),
        (".5", "0.5"),
        ("-0.0", "0"),
        ("1E+3", "1000"),
        ("-12e-1", "-1.2"),
        ("1E-130", "0." + "0" * 129 + "1"),
        ("9" * 38, "9" * 38),
        ("007", "7"),
    ],
)
@on_both_paths
def test_a_number_has_one_spelling(
    names: dict[str, Letter], spelled: str, expected: str
) -> None:
    """Equal numbers must have equal texts, however the store spells them."""
    numbers = [item(original_pg_id={"N": text}) for text in (spelled, "8", "0.25")]
    found = parse_page(answer(*numbers, item()), names)["Items"]["original_pg_id"]

    assert found.to_pylist() == [expected, "8", "0.25", None]


@on_both_paths
def test_binary_is_its_base64(names: dict[str, Letter]) -> None:
    """Bytes are compared by the text of the wire, and are no string of that text."""
    some = [item(b={"B": "AP8="}), item(b={"B": ""}), item(b={"S": "AP8="}), item()]
    found = parse_page(answer(*some), names | {"b": "B"})["Items"]["b"]

    assert found.to_pylist() == ["AP8=", "", OTHER, None]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"S": "abc"}, "sabc"),
        ({"S": ""}, "s"),
        ({"N": "1"}, "i1"),
        ({"N": "1.50"}, "i1.5"),
        ({"BOOL": True}, "bTrue"),
        ({"B": "AP8="}, "BAP8="),
        ({"NULL": True}, 'j{"NULL":true}'),
        ({"M": {"b": {"N": "1.0"}, "a": {"L": []}}}, None),
        ({"SS": ["b", "a"]}, 'j{"SS":["a","b"]}'),
        ({"NS": ["2.0", "1"]}, 'j{"NS":["1","2"]}'),
        ({"BS": ["/w==", "AA=="]}, 'j{"BS":["AA==","/w=="]}'),
    ],
)
def test_a_value_of_any_type_is_tagged(value: dict[str, Any], expected: str) -> None:
    """Such a text must be that of the value's one form, with its type."""
    found = parse_page(answer(item(settings=value), item()), WITH_ANY)["Items"]
    expected = expected or 'j{"M":{"a":{"L":[]},"b":{"N":"1"}}}'

    assert found["settings"].to_pylist() == [expected, None]
    assert tagged(from_wire({"settings": value})["settings"]) == expected


names_of_letters = st.sampled_from(["N", "S", "NS", "B", "a", '"N":"'])
spellings = ["0", "-0", "1.0", "01", "1e2", "1E-3", "-1.5", "10", "9" * 38, "0.10"]
leaves = st.one_of(
    st.sampled_from(spellings).map(lambda text: {"N": text}),
    st.builds(lambda text: {"S": text}, st.text(max_size=3) | names_of_letters),
    st.sampled_from([{"BOOL": True}, {"NULL": True}, {"B": "AP8="}]),
    st.sampled_from([{"SS": ["b", "a"]}, {"NS": ["2", "1.0"]}, {"BS": ["/w==", ""]}]),
)
nested = st.recursive(
    leaves,
    lambda below: (
        st.builds(lambda some: {"L": some}, st.lists(below, max_size=3))
        | st.builds(
            lambda some: {"M": some},
            st.dictionaries(names_of_letters, below, max_size=3),
        )
    ),
    max_leaves=6,
)


@given(value=nested)
def test_nested_values_have_one_text(value: dict[str, Any]) -> None:
    """The short way of usual values must lead to the text of their one form."""
    found = parse_page(answer(item(settings=value)), WITH_ANY)["Items"]["settings"]
    decoded = from_wire(json.loads(json.dumps({"settings": value})))["settings"]

    assert found.to_pylist() == [tagged(decoded)]


def test_half_a_surrogate_in_a_nested_value_is_no_fault() -> None:
    """Such a value of another program must differ from ours, and from absent ones."""
    odd = [{"M": {"x": {"S": "\ud800"}, "a": {"S": "é"}}}, {"S": "\ud800"}]
    some = [item(settings=value) for value in odd]
    found = parse_page(answer(*some), WITH_ANY)["Items"]["settings"].to_pylist()

    assert found[0] == 'j{"M":{"a":{"S":"\\u00e9"},"x":{"S":"\\ud800"}}}'
    assert found[1] == OTHER


@pytest.mark.parametrize("half", ["", "\ud800"])
def test_the_next_key_and_the_cost_are_told(half: str) -> None:
    """The scan must continue where the page ended, with either parser."""
    last = {"PK": {"S": "ENT#9"}, "SK": {"S": "METADATA"}}
    page = parse_page(answer(item(name={"S": half}), LastEvaluatedKey=last), NAMES)
    end = parse_page(answer(item(name={"S": half})), NAMES)

    assert page["LastEvaluatedKey"] == last
    assert page["ConsumedCapacity"]["CapacityUnits"] == 128.5
    assert end["LastEvaluatedKey"] is None


def test_half_a_surrogate_in_a_key_is_kept() -> None:
    """An item with such a key must still be found by it."""
    odd = {"PK": {"S": "ENT#\ud800"}, "SK": {"S": "SK\udfff"}}
    found = parse_page(answer(odd), NAMES)["Items"]
    keys = [found[name].cast("binary").to_pylist()[0] for name in ("PK", "SK")]

    decoded = [key.decode("utf-8", "surrogatepass") for key in keys]
    assert decoded == ["ENT#\ud800", "SK\udfff"]


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"Items": 5}', b"<html>"])
@on_both_paths
def test_what_is_no_answer_is_refused(names: dict[str, Letter], content: bytes) -> None:
    """Any other content must not count as an empty page."""
    with pytest.raises(ValueError, match=r"JSON|answer|Expecting"):
        parse_page(content, names)


@on_both_paths
def test_no_items_are_none(names: dict[str, Letter]) -> None:
    """An empty page has columns and no rows."""
    found = parse_page(answer(), names)["Items"]

    assert (found.column_names, len(found)) == (list(names), 0)
