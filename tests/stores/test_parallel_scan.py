"""Pages of a scan in Arrow's columns: the same values as from any other parser."""

import json
from typing import Any

import pytest

from flows.stores.dynamodb.parallel_scan import parse_page

NAMES = ("PK", "SK", "name", "migrated_from_pg", "original_pg_id")
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
        ({"N": "1"}, None),
        ({"NULL": True}, None),
        ({"L": [{"S": "a"}]}, None),
        ({"M": {"S": {"S": "a"}}}, None),
        ({"S": "half \ud800"}, None),
    ],
)
def test_a_value_is_itself_or_null(name: dict[str, Any], expected: str | None) -> None:
    """A value that is no comparable string must be null, never a similar string."""
    page = parse_page(answer(item(name=name), item(), item(note={"S": "x"})), NAMES)

    assert page["Items"]["name"].to_pylist() == [expected, None, None]


def test_what_is_no_string_keeps_its_type() -> None:
    """A string that looks like a boolean or a number must not equal it."""
    whole = item(migrated_from_pg={"BOOL": True}, original_pg_id={"N": "42"})
    like = item(migrated_from_pg={"S": "true"}, original_pg_id={"S": "42"})
    found = parse_page(answer(whole, like), NAMES)["Items"]

    assert found["migrated_from_pg"].to_pylist() == [True, None]
    assert found["original_pg_id"].to_pylist() == ["42", None]


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
    odd = {"PK": {"S": "ENT#\ud800"}, "SK": {"S": "METADATA"}}
    (key,) = parse_page(answer(odd), NAMES)["Items"]["PK"].cast("binary").to_pylist()

    assert key.decode("utf-8", "surrogatepass") == "ENT#\ud800"


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"Items": 5}', b"<html>"])
def test_what_is_no_answer_is_refused(content: bytes) -> None:
    """Any other content must not count as an empty page."""
    with pytest.raises(ValueError, match=r"JSON|answer|Expecting"):
        parse_page(content, NAMES)


def test_no_items_are_none() -> None:
    """An empty page has columns and no rows."""
    found = parse_page(answer(), NAMES)["Items"]

    assert (found.column_names, len(found)) == (list(NAMES), 0)
