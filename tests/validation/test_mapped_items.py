"""Items of a mapped entity: types, keys, twins and sizes as DynamoDB has them."""

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

import pandas as pd
import pytest

from tests.support.mapped_subject import NAMESPACE, PRODUCTS, column, mapped_items
from validation import facts
from validation.contract import MAX_ITEM_BYTES
from validation.item_values import size_of
from validation.subject import ENTERPRISES, Subject
from validation.validate import validate_items

ID = str(uuid5(NAMESPACE, "1"))
OWNER = str(UUID(int=8))


def reasons(
    items: pd.DataFrame, subject: Subject = PRODUCTS, **options: Any
) -> list[tuple[Any, str, str]]:
    """Return row, reason and column of each failure, all of which are critical."""
    failures = validate_items(items, subject=subject, **options).failures
    assert set(failures["severity"]) <= {"critical"}
    columns = (failures[name] for name in ("row", "reason", "column"))
    return list(zip(*columns, strict=True))


def changed(**values: Any) -> pd.DataFrame:
    """Return two items, of which the second has other values."""
    items = mapped_items(title=["a", "b"], label=["a", "b"])
    for name, value in values.items():
        items.at[1, name] = value  # noqa: PD008  # loc would unpack a container
    return items


@pytest.mark.parametrize("names", [(), ("owner_id", "price", "tags", "GSI1PK")])
def test_valid_items_pass(names: tuple[str, ...]) -> None:
    """Items with each type of value pass, and optional attributes may be absent."""
    items = mapped_items().drop(columns=list(names))

    assert reasons(items, namespace=NAMESPACE) == []


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("PK", None, "attribute_missing"),
        ("seats", None, "attribute_missing"),
        ("seats", "1", "attribute_missing"),
        ("seats", True, "attribute_missing"),
        ("enterprise_id", 7, "attribute_missing"),
        ("updatedAt", float("nan"), "attribute_missing"),
        ("price", "9.99", "attribute_wrong_type"),
        ("price", 9.99, "attribute_wrong_type"),
        ("price", True, "attribute_wrong_type"),
        ("price", {"NULL": True}, "attribute_wrong_type"),
        ("code", 1, "attribute_wrong_type"),
        ("code", {"N": "1.5"}, "attribute_wrong_type"),
        ("code", {"NULL": True}, "attribute_wrong_type"),
        ("code", "\ud800", "attribute_wrong_type"),
        ("plan", {"B": b"x"}, "attribute_wrong_type"),
        ("active", 1, "attribute_wrong_type"),
        ("active", "true", "attribute_wrong_type"),
        ("settings", {"B": b"x"}, "attribute_wrong_type"),
        ("settings", {"SS": ["a"]}, "attribute_wrong_type"),
        ("words", {"M": {}}, "attribute_wrong_type"),
        ("words", ["a"], "attribute_wrong_type"),
        ("tags", {"L": []}, "attribute_wrong_type"),
        ("tags", {"NS": ["1"]}, "attribute_wrong_type"),
        ("photo", b"x", "attribute_wrong_type"),
        ("photo", "x", "attribute_wrong_type"),
        ("GSI1PK", 1, "attribute_wrong_type"),
    ],
)
def test_attributes_have_the_type_of_their_column(
    name: str, value: Any, what: str
) -> None:
    """A required attribute of another type is missing; others have the wrong type."""
    assert reasons(changed(**{name: value})) == [(1, what, name)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("price", 5),
        ("price", pd.NA),
        ("seats", 2**63),
        ("plan", "pro's"),
        ("plan", {"NULL": True}),
        ("active", False),
        *[("settings", value) for value in ("", 1, True, {"NULL": True}, {"L": []})],
        ("settings", {"N": "1.5"}),
        ("photo", {"B": b"x"}),
        ("GSI1PK", None),
    ],
)
def test_any_value_of_the_type_passes(name: str, value: Any) -> None:
    """Integers are plain, a document may be of any JSON type, and NULL may be kept."""
    assert reasons(changed(**{name: value})) == []


@pytest.mark.parametrize(
    ("values", "what", "name"),
    [
        ({"PK": f"ent#{OWNER}"}, "key_mismatch", "PK"),
        ({"PK": OWNER}, "key_mismatch", "PK"),
        ({"SK": f"PROD#c#{OWNER}"}, "sort_key_wrong", "SK"),
        ({"SK": "METADATA"}, "sort_key_wrong", "SK"),
        ({"entity_type": "enterprise"}, "entity_type_wrong", "entity_type"),
        ({"label": "c"}, "name_twins_differ", "label"),
        ({"label": "B"}, "name_twins_differ", "label"),
        ({"soldAt": "2024-01-05T12:34:56.788Z"}, "sold_twins_differ", "sold"),
        ({"soldAt": None}, "sold_twins_differ", "sold"),
        ({"more": {"NS": ["1"]}}, "sizes_twins_differ", "sizes"),
        ({"sizes": None}, "sizes_twins_differ", "sizes"),
        (
            {"updatedAt": "2024-03-01T00:00:00.000Z"},
            "updated_twins_differ",
            "updatedAt",
        ),
        ({"PK": "ENT#" + "é" * 1_022}, None, None),
        ({"PK": "ENT#" + "é" * 1_022 + "x"}, "partition_key_too_long", "PK"),
    ],
)
def test_an_item_breaks_the_rule_that_it_should(
    values: dict[str, Any], what: str | None, name: str | None
) -> None:
    """Keys fit their templates, and the attributes of one column are the same."""
    expected = [(1, what, name)] if what else []

    assert reasons(changed(**values)) == expected


def test_the_sort_key_has_a_limit_too() -> None:
    """A sort key of 1,024 bytes passes, and one byte more does not."""
    made = "PROD#{0}#" + str(uuid5(NAMESPACE, "2"))
    room = 1_024 - len(made) + len("{0}")

    assert reasons(changed(SK=made.format("x" * room))) == []
    assert reasons(changed(SK=made.format("x" * (room + 1)))) == [
        (1, "sort_key_too_long", "SK")
    ]


def test_a_key_of_constants_and_the_id_is_exact() -> None:
    """With nothing but the id in a key there is one that an item can have."""
    key = (("A{", "id"), ("}", None))
    subject = replace(ENTERPRISES, partition_key=key, sort_key=(("", "id"),))
    ids = [ID, ID[:-1] + "0", OWNER]
    items = pd.DataFrame(
        {"id": ids, "SK": ids, "PK": [f"A{{{ID}}}", f"A{{{ID}}}", f"A{OWNER}"]}
    )
    found = reasons(items, subject)

    assert [(row, what) for row, what, _ in found if what == "key_mismatch"] == [
        (1, "key_mismatch"),
        (2, "key_mismatch"),
    ]


def test_empty_keys_are_refused() -> None:
    """DynamoDB has no empty key of a table or an index; other texts may be empty."""
    subject = Subject(
        "tag",
        (column("name"), column("body"), column("raw", "binary")),
        created=False,
        updated=False,
        partition_key=(("", "name"),),
        sort_key=(("", "body"),),
    )
    values = {
        "id": [OWNER, ID],
        "PK": ["", "a"],
        "SK": ["b", ""],
        "name": ["", "a"],
        "body": ["b", ""],
        "raw": [{"B": b""}, {"B": b"abc"}],
        "entity_type": ["tag"] * 2,
    }
    items = pd.DataFrame(
        {name: pd.Series(v, dtype=object) for name, v in values.items()}
    )
    keys = [(0, "key_empty", "PK"), (1, "key_empty", "SK")]

    assert reasons(items, subject) == keys
    limits = [("body", 1_024), ("raw", 2)]
    assert reasons(items, subject, key_limits=limits) == [
        (0, "key_empty", "PK"),
        (0, "index_key_empty", "id"),
        (1, "index_key_too_long", "id"),
        (1, "key_empty", "SK"),
        (1, "index_key_empty", "id"),
    ]


def test_ids_are_derived_in_the_namespace_of_the_entity() -> None:
    """The caller gives the namespace; the id of another one is not derived."""
    other = UUID(int=5)

    assert reasons(mapped_items(), namespace=NAMESPACE) == []
    assert reasons(mapped_items(), namespace=other) == [(0, "id_not_derived", "id")]


def test_ids_of_uuids_are_derived_from_their_canonical_text() -> None:
    """A text column may spell a UUID in several ways: each has the same id."""
    canonical = "3500a20a-fa32-4543-842f-da54bef06c63"
    sources = [canonical, canonical.upper(), f"{{{canonical}}}", canonical[:-1] + "4"]
    for source in sources:
        items = mapped_items(
            id=[str(uuid5(NAMESPACE, canonical))], source_id=[source], SK=["x"]
        )
        found = {what for _, what, _ in reasons(items, namespace=NAMESPACE)}

        assert ("id_not_derived" in found) == (source == sources[-1])


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("", 0),
        ("é", 2),
        (0, 1),
        (7, 2),
        (-7, 3),
        (1_000, 2),
        ({"N": "1.5"}, 2),
        ({"N": "-0.00123"}, 4),
        ({"N": "9" * 38}, 20),
        (True, 1),
        (False, 1),
        ({"NULL": True}, 1),
        ({"B": b""}, 0),
        ({"B": b"\x00\xff"}, 2),
        ({"SS": ["", "é"]}, 2),
        ({"NS": ["1", "-2"]}, 5),
        ({"L": []}, 3),
        ({"M": {}}, 3),
        ({"L": [{"S": "ab"}, {"NULL": True}, {"L": []}]}, 3 + 3 + 2 + 4),
        ({"M": {"": {"NULL": True}, "é": {"N": "1"}}}, 3 + 2 + 5),
        ({"M": {"a": {"M": {"b": {"B": b"xyz"}}}}}, 3 + 1 + 1 + 3 + 1 + 1 + 3),
    ],
)
def test_sizes_are_those_of_dynamodb(value: Any, size: int) -> None:
    """Sizes follow Amazon's description, worked out by hand, for each type."""
    assert size_of(value) == size


def test_an_item_has_the_size_of_its_names_and_values() -> None:
    """Every attribute counts, of any type; an absent one does not."""
    items = mapped_items()
    names = [name for name in items.columns if name != "source_id"]
    values = {name: items[name].iloc[0] for name in names}
    expected = sum(
        len(name.encode()) + size_of(value)
        for name, value in values.items()
        if value is not None
    )

    assert facts.item_bytes(items, PRODUCTS).tolist() == [expected]
    assert facts.item_bytes(items.drop(columns="photo"), PRODUCTS).tolist() == [
        expected - len("photo")
    ]


def test_the_limit_of_an_item_is_inclusive_for_nested_values() -> None:
    """A document that fills the item passes, and one byte more does not."""
    empty = changed(settings={"M": {"a": {"S": ""}}})
    room = MAX_ITEM_BYTES - int(facts.item_bytes(empty, PRODUCTS)[1])
    fits = changed(settings={"M": {"a": {"S": "x" * room}}})
    too_large = changed(settings={"M": {"a": {"S": "x" * (room + 1)}}})

    assert reasons(fits) == []
    assert reasons(too_large) == [(1, "item_too_large", "id")]


def test_a_rule_that_only_warns_leaves_its_attribute_optional() -> None:
    """A row without a value that is only missed must not fail as an item."""
    optional = column("seats", "number", required=True, severity="warning")
    subject = replace(PRODUCTS, columns=(optional,))

    assert reasons(mapped_items(seats=[None]), subject) == []
