"""A row beside its item: each column, each attribute, and commands for both."""

import json
import shlex

from flows.reports.spot_checks import SHOWN_CHARACTERS, SpotCheck, show_item, show_row

ITEM = {
    "PK": {"S": "ENT#x"},
    "SK": {"S": "METADATA"},
    "id": {"S": "x"},
    "name": {"S": "Ünïcode"},
}
CHECK = SpotCheck(
    source_id="1",
    id="x",
    row={"number": "1", "title": None},
    item=ITEM,
    attributes={"number": ("PK", "id"), "title": ("enterprise_name", "name")},
    commands=("psql", "aws"),
)


def test_each_attribute_stands_beside_its_column() -> None:
    """NULL and an absent attribute have no text; constants have no column."""
    assert list(CHECK.lines) == [
        ("number", "1", "PK", '{"S": "ENT#x"}'),
        ("", "", "id", '{"S": "x"}'),
        ("title", None, "enterprise_name", None),
        ("", "", "name", '{"S": "Ünïcode"}'),
        ("", "", "SK", '{"S": "METADATA"}'),
    ]


def test_a_long_value_is_cut() -> None:
    """An item may have 400 KB, and the page must stay readable."""
    long = SpotCheck("1", "x", {"a": "y" * 9_999}, {}, {"a": ()}, ("", ""))
    shown = SpotCheck("1", "x", {"a": "y" * 9_999}, {}, {"a": ("b",)}, ("", ""))
    ((_, value, _, _),) = shown.lines

    assert list(long.lines) == []
    assert value == "y" * SHOWN_CHARACTERS + "… (9,999 characters)"


def test_values_are_in_no_other_form() -> None:
    """JSON, logs and Prefect get keys alone."""
    assert CHECK.asdict() == {"source_id": "1", "id": "x"}
    assert "code" not in repr(CHECK)


def test_the_commands_can_be_pasted() -> None:
    """A shell must pass on each name as it is, whatever is in it."""
    place = {"host": "/a folder", "port": "5432", "dbname": "it's"}
    query = """SELECT "a b" FROM "it's" WHERE id = '1'::bigint"""
    words = shlex.split(show_row(place, query))
    assert words == [
        "PGTZ=UTC",
        "psql",
        r"host='/a folder' port=5432 dbname='it\'s'",
        "-x",
        "-c",
        query,
    ]

    target = {"table": "T", "region": "eu-west-1", "endpoint": "https://target"}
    words = shlex.split(show_item(target, ("ENT#x", "METADATA")))
    assert words[:4] == ["aws", "dynamodb", "get-item", "--consistent-read"]
    options = dict(zip(words[4::2], words[5::2], strict=True))
    assert json.loads(options.pop("--key")) == {"PK": ITEM["PK"], "SK": ITEM["SK"]}
    assert options == {
        "--region": "eu-west-1",
        "--endpoint-url": "https://target",
        "--table-name": "T",
    }
