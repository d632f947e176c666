"""Values of every type, written to DynamoDB and read by each way of reading."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.errors import ConditionFailed, ItemRejected
from flows.models import Letter, key_of
from flows.models.values import canonical, make_number, tagged
from flows.stores.dynamodb.parallel_scan import OTHER, scan_segments
from flows.stores.dynamodb.table import EnterpriseTable
from flows.stores.dynamodb.wire import encode_puts
from tests.support.target_table import put

pytestmark = pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)

NUMBERS = [
    "0",
    "-0.0",
    "1.50",
    "-7",
    "9" * 38,
    "-0." + "9" * 38,
    "12345678901234567890.123456789012345678",
    "1E-130",
    "-1E-130",
    "9." + "9" * 37 + "E+125",
    "1E+125",
    str(2**63),
]
# The letter of an attribute, and values of its type in their one form.
VALUES: list[tuple[Letter, Any]] = [
    *(("N", make_number(text)) for text in NUMBERS),
    ("S", ""),
    ("S", 'é🚀"\\\n\x00'),
    ("BOOL", True),
    ("BOOL", False),
    ("B", {"B": b""}),
    ("B", {"B": bytes(range(256))}),
    ("*", {"NULL": True}),
    ("*", {"SS": ["", "a", "é"]}),
    ("*", canonical("NS", ["1.0", "-2E+3", "1E-130", "9" * 38])),
    ("*", {"BS": [b"", b"\0\xff"]}),
    ("*", {"L": []}),
    ("*", canonical("L", [{"N": "1.50"}, {"NULL": True}, {"L": [{"B": b"x"}]}])),
    ("*", canonical("M", {" ": {"NULL": True}, 'é"': {"M": {"n": {"N": "1E+30"}}}})),
]


def make_items(values: list[Any]) -> list[dict[str, Any]]:
    """Create an item for each value."""
    return [
        {"PK": f"ENT#{number:03}", "SK": "METADATA", "value": value}
        for number, value in enumerate(values)
    ]


def put_all(table: EnterpriseTable, items: list[dict[str, Any]]) -> None:
    """Put items as the loader does, in one batch."""
    names = dict.fromkeys(name for item in items for name in item)
    columns = {name: [item.get(name) for item in items] for name in names}
    assert table.put_batch(encode_puts(columns)) == []


def scan_texts(table: EnterpriseTable, letter: Letter) -> dict[str, str | None]:
    """Scan the table as the proof does; return the texts by partition key."""
    letters: dict[str, Letter] = {"PK": "S", "SK": "S", "value": letter}
    return {
        row["PK"]: row["value"]
        for page in scan_segments(table, letters, 2)
        for row in page.to_pylist()
    }


def test_a_value_is_read_as_it_was_written(table: EnterpriseTable) -> None:
    """Each type, in its one form, must be the same after a batch and after a change."""
    items = make_items([value for _, value in VALUES])
    put_all(table, items[:25])
    for item in items[25:]:
        table.create(item)
    read = table.read([key_of(item) for item in items])
    for item in items:
        table.update(item | {"value": None, "copy": item["value"]}, item)
    changed = table.read([key_of(item) for item in items])

    assert read == {key_of(item): item for item in items}
    for item in items:
        there = changed[key_of(item)]
        assert (there["copy"], type(there["copy"])) == (
            item["value"],
            type(item["value"]),
        )
        assert "value" not in there


def test_a_scan_has_the_text_of_the_one_form(table: EnterpriseTable) -> None:
    """The proof compares texts: each must be exactly that of the value written.

    Under the letter of another type it must be a text that no value has.
    """
    items = make_items([value for _, value in VALUES])
    for item in items:
        put(table, item)
    of_any = scan_texts(table, "*")

    assert of_any == {item["PK"]: tagged(item["value"]) for item in items}
    letters: tuple[Letter, ...] = ("S", "N", "BOOL", "B")
    for letter in letters:
        expected = {
            item["PK"]: tagged(item["value"])[1:] if own == letter else OTHER
            for item, (own, _) in zip(items, VALUES, strict=True)
        }
        assert scan_texts(table, letter) == expected


def test_absent_values_of_a_batch_are_absent(table: EnterpriseTable) -> None:
    """None must leave out the attribute: neither NULL nor an empty text is there."""
    items: list[dict[str, Any]] = make_items(["a", None, None])
    items[1]["price"] = {"N": "1.5"}
    put_all(table, items)
    read = table.read([key_of(item) for item in items])

    found = [sorted(read[key_of(item)]) for item in items]
    assert found == [["PK", "SK", "value"], ["PK", "SK", "price"], ["PK", "SK"]]
    texts: list[str | None] = ["a", None, None]
    assert list(dict(sorted(scan_texts(table, "S").items())).values()) == texts


TEXTS = st.text(max_size=5)
NAMES = st.text(min_size=1, max_size=5)
DIGITS = st.integers(-(10**38) + 1, 10**38 - 1)
EXACT = st.builds(lambda n, e: f"{n}E{e}", DIGITS, st.integers(-130, 87))
SCALARS: st.SearchStrategy[Any] = st.one_of(
    TEXTS.map(lambda text: {"S": text}),
    EXACT.map(lambda text: {"N": text}),
    st.booleans().map(lambda value: {"BOOL": value}),
    st.just({"NULL": True}),
    st.binary(max_size=5).map(lambda content: {"B": content}),
    st.lists(TEXTS, min_size=1, max_size=3, unique=True).map(lambda some: {"SS": some}),
)
NESTED: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda some: {"L": some}),
        # DynamoDB refuses an empty name in a map.
        st.dictionaries(NAMES, inner, max_size=3).map(lambda some: {"M": some}),
    ),
    max_leaves=8,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(values=st.lists(NESTED, min_size=1, max_size=20))
def test_any_nested_value_is_read_as_it_was_written(
    table: EnterpriseTable, values: list[dict[str, Any]]
) -> None:
    """Whatever is nested in a value, its one form survives the store."""
    items = make_items([canonical(*next(iter(one.items()))) for one in values])
    put_all(table, items)
    read = table.read([key_of(item) for item in items])
    texts = scan_texts(table, "*")

    assert read == {key_of(item): item for item in items}
    assert {item["PK"]: texts[item["PK"]] for item in items} == {
        item["PK"]: tagged(item["value"]) for item in items
    }


@pytest.mark.parametrize("count", [100, 101, 400])
def test_an_item_of_many_attributes_is_changed_as_it_was_seen(
    table: EnterpriseTable, count: int
) -> None:
    """Condition and change must hold for each attribute, however many there are."""
    key = {"PK": "ENT#1", "SK": "METADATA"}
    values = [value for _, value in VALUES]
    names = [f"attribute {i}" for i in range(count)]
    seen = key | {name: values[i % len(values)] for i, name in enumerate(names)}
    first, last = names[0], names[-1]
    seen.pop(last)
    new: dict[str, Any] = key | dict.fromkeys(names, "new") | {first: None}
    table.create(seen | {"theirs": "x"})
    for wrong in ({name: "?"} for name in names[:: count // 7 or 1]):
        with pytest.raises(ConditionFailed):
            table.update(new, seen | wrong)
    with pytest.raises(ConditionFailed):
        table.update(new, seen | {last: "?"})
    unchanged = table.read([key_of(key)])[key_of(key)]
    table.update(new, seen)
    changed = table.read([key_of(key)])[key_of(key)]
    with pytest.raises(ConditionFailed):
        table.delete(seen, names)
    table.delete(changed, names)

    assert unchanged == seen | {"theirs": "x"}
    expected = {name: value for name, value in new.items() if value is not None}
    assert changed == expected | {"theirs": "x"}
    assert table.read([key_of(key)]) == {}
    with pytest.raises(ConditionFailed):
        table.update(key | dict.fromkeys(names, "new"), key)


def nested(depth: int) -> dict[str, Any]:
    """Create lists and maps in one another, *depth* of them in all."""
    value: dict[str, Any] = {"N": "1"}
    for level in range(depth):
        value = {"M": {"a": value}} if level % 2 else {"L": [value]}
    return value


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        (nested(31), True),
        (nested(32), False),
        ({"M": {"a": {"L": [{"M": {"": {"N": "1"}}}]}}}, False),
        ({"M": {"x" * 65_535: {"N": "1"}}}, True),
        ({"M": {"x" * 65_536: {"N": "1"}}}, False),
        ({"SS": []}, False),
        ({"NS": ["1", "1.0"]}, False),
        ({"N": "9" * 39}, False),
        ({"N": "1E-131"}, False),
        ({"N": "1E+126"}, False),
    ],
)
def test_the_store_refuses_what_cannot_be_an_item(
    table: EnterpriseTable, value: dict[str, Any], *, fits: bool
) -> None:
    """Validation must quarantine exactly what the store refuses, by these limits."""
    (item,) = make_items([value])
    if fits:
        table.create(item)
    else:
        with pytest.raises(ItemRejected):
            table.create(item)
