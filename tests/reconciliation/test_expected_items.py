"""Rows derived in columns: the same items as derived one by one."""

import uuid
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.mapping.template import Template
from flows.models import Field, Reference, Rules, SourceTable, digest, enterprise_table
from flows.reconciliation.expected_items import ExpectedItems, join_key, split_key
from flows.reconciliation.source_rows import TEXT
from flows.settings import ID_NAMESPACE

names = st.none() | st.text(st.characters(codec="utf-8"), max_size=5)
stamps = st.none() | st.just("2024-02-29T00:00:00.000Z")
numbers = st.integers(-(2**63), 2**63 - 1)
rows = st.lists(st.tuples(numbers, names, stamps, stamps))

ENTERPRISE = Reference("enterprise", "public", "enterprises", "id", "integer")
USER = Reference("user", "public", "users", "id", "text")
PRODUCT = SourceTable(
    "public",
    "products",
    "id",
    "integer",
    (
        Field("enterprise_id", "enterprise_id", "text", ("enterprise_id",)),
        Field("price", "price", "number", ("price", "cost"), pg_type="numeric"),
        Field("sold", "sold", "boolean", ("sold",), pg_type="bool"),
        Field("day", "day", "date", ("day",), pg_type="date"),
        Field("settings", "settings", "json", ("settings",), keep_null=True),
        Field("tags", "tags", "string_set", ("tags",)),
        Field("kept", "kept", "number", ("kept",), pg_type="float8", keep_null=True),
        Field("owner", "owner", "text", ("owner",), reference=USER),
        Field("code", "code", "text", ("code",), rules=Rules(required=True)),
        Field("{region}", "region", "text"),
        Field("updated_date", "changed", "timestamp", ("updated_date", "updatedAt")),
    ),
    entity="product",
    partition_key=Template("ENT#{enterprise_id}#{{x}}"),
    sort_key=Template("PROD#{sold}#{price}#{id}"),
    templates=(("GSI1PK", Template("{region}/{owner}")),),
)
VALUES = {
    "enterprise_id": st.none() | st.sampled_from(["a", "", "é#"]),
    "price": st.none()
    | st.sampled_from(["NaN", "Infinity", "0", "-1.50", "100", "10.00", "0.00"])
    | st.decimals(allow_nan=False, allow_infinity=False).map(lambda one: f"{one:f}")
    | st.sampled_from(["9" * 38, "9" * 39, "1e-130", "1e-131", "1e126", "-0", "2e+20"]),
    "sold": st.sampled_from([None, "true", "false"]),
    "day": st.sampled_from([None, "2024-02-29", "infinity", "0044-03-15 BC"]),
    "settings": st.sampled_from(
        [None, "null", "{}", '{"": null}', '"s"', "1.50", "18446744073709551616"]
        + ['{"a": 1, "a": [1.0, -0, true]}', '{"half": "\\ud800"}', '"\\ud800"', "-0"]
        + ["[" * depth + "]" * depth for depth in (32, 33)]
    ),
    "tags": st.sampled_from(
        [None, "[]", '["b", "a"]', '["a", "a"]', "[null]", '[["a"]]', '[""]']
    ),
    "kept": st.sampled_from([None, "1.5", "NaN", "1e+20"]),
    "owner": st.sampled_from([None, "no uuid", "{" + "A" * 32 + "}", "a" * 32]),
    "code": st.sampled_from([None, "", "x"]),
    "{region}": st.sampled_from([None, "eu"]),
    "updated_date": st.sampled_from([None, "2024-02-29T00:00:00.000Z"]),
}
products = st.lists(
    st.tuples(numbers.map(str), *(VALUES[one.name] for one in PRODUCT.fields))
)


def as_table(source: SourceTable, found: list[Any]) -> pa.Table:
    """Return rows in the columns of a source."""
    columns = list(zip(*found, strict=True)) or [()] * len(source.columns)
    return pa.table([pa.array(c, TEXT) for c in columns], names=list(source.columns))


@pytest.mark.parametrize("provenance", [False, True])
@given(found=rows)
def test_columns_are_derived_as_rows_are(
    found: list[tuple[int, str | None, str | None, str | None]],
    provenance: bool,  # noqa: FBT001 - a test's argument
) -> None:
    """Key and digest must be those of the row's item; none if it cannot be an item."""
    texts = [(str(number), *others) for number, *others in found]
    source = enterprise_table()
    one = ExpectedItems(source, ID_NAMESPACE, provenance)
    derived = one.derive(as_table(source, texts))
    items = [one.item(row)[0] for row in texts]

    assert derived["key"].to_pylist() == [join_key((i["PK"], i["SK"])) for i in items]
    assert derived["digest"].to_pylist() == [
        None if None in item.values() else digest(item.values()) for item in items
    ]
    assert derived["row:source_id"].to_pylist() == [row[0] for row in texts]


@given(found=products)
def test_columns_of_every_type_are_derived_as_rows_are(found: list[Any]) -> None:
    """Numbers, JSON, sets, references and keys must not depend on the way there."""
    one = ExpectedItems(PRODUCT, ID_NAMESPACE)
    derived = one.derive(as_table(PRODUCT, found))
    pairs = zip(derived["key"].to_pylist(), derived["digest"].to_pylist(), strict=True)

    for row, (key, found_digest) in zip(found, pairs, strict=True):
        item, impossible = one.item(row)
        halved = "\\ud800" in (row[5] or "")
        whole = item["PK"] is not None and item["SK"] is not None
        assert key == (join_key((item["PK"], item["SK"])) if whole else b"")
        assert impossible or found_digest or halved
        if found_digest:
            assert not impossible
            assert found_digest == digest(item.values())


def test_an_item_of_another_entity_has_its_ids_and_keys() -> None:
    """Ids and references must have the namespaces of their entities."""
    user = "AAAAAAAA-aaaa-aaaa-aaaa-aaaaaaaaaaaa"
    row = ("7", "e", "1.50", "true", None, '{"a": 1.0}', '["b", "a"]', None, user)
    row += ("", "eu", "2024-02-29T00:00:00.000Z")
    item, impossible = ExpectedItems(PRODUCT, ID_NAMESPACE).item(row)
    identity = str(uuid.uuid5(uuid.uuid5(ID_NAMESPACE, "product"), "7"))
    owner = str(uuid.uuid5(uuid.uuid5(ID_NAMESPACE, "user"), user.lower()))

    assert not impossible
    assert item == {
        "PK": "ENT#e#{x}",
        "SK": f"PROD#true#1.5#{identity}",
        "id": identity,
        "enterprise_id": "e",
        "price": {"N": "1.5"},
        "cost": {"N": "1.5"},
        "sold": True,
        "day": None,
        "settings": {"M": {"a": {"N": "1"}}},
        "tags": {"SS": ["a", "b"]},
        "kept": {"NULL": True},
        "owner": owner,
        "code": "",
        "GSI1PK": f"eu/{owner}",
        "updated_date": "2024-02-29T00:00:00.000Z",
        "updatedAt": "2024-02-29T00:00:00.000Z",
        "entity_type": "product",
    }


IMPOSSIBLE = [
    ("enterprise_id", None),
    ("price", "NaN"),
    ("price", "1e-131"),
    ("price", "9" * 39),
    ("day", "infinity"),
    ("settings", "[" * 33 + "]" * 33),
    ("settings", "[" * 2_000 + "]" * 2_000),
    ("settings", "[" * 200_000 + "]" * 200_000),
    ("settings", "1e400"),
    ("tags", "[]"),
    ("tags", '["a", "a"]'),
    ("owner", "no uuid"),
    ("code", None),
    ("updated_date", None),
]


@pytest.mark.parametrize(
    ("name", "text"),
    IMPOSSIBLE,
    ids=[f"{name} {str(text)[:8]} {len(str(text))}" for name, text in IMPOSSIBLE],
)
def test_what_no_item_can_have_is_impossible(name: str, text: str | None) -> None:
    """One such value must suffice, so that the row is never taken for proven."""
    values = dict.fromkeys(PRODUCT.by_name) | {
        "enterprise_id": "e",
        "price": "1",
        "sold": "true",
        "code": "c",
        "updated_date": "2024-02-29T00:00:00.000Z",
    }
    one = ExpectedItems(PRODUCT, ID_NAMESPACE)
    for changed, expected in (({}, False), ({name: text}, True)):
        row = ("1", *(values | changed).values())
        assert one.item(row)[1] is expected
        derived = one.derive(as_table(PRODUCT, [row]))["digest"].to_pylist()
        assert (derived == [None]) is expected


def test_an_enterprise_refers_by_kept_and_derived_ids() -> None:
    """A UUID of an enterprise is kept, and an integer becomes one by the root."""
    kept = Reference("enterprise", "public", "enterprises", "id", "uuid")
    fields = (
        Field("one", "one", "text", ("one",), reference=ENTERPRISE),
        Field("other", "other", "text", ("other",), reference=kept),
    )
    source = SourceTable("public", "seats", "id", "integer", fields, entity="seat")
    item, _ = ExpectedItems(source, ID_NAMESPACE).item(
        ["1", "42", "{" + "A" * 32 + "}"]
    )

    assert item["one"] == str(uuid.uuid5(ID_NAMESPACE, "42"))
    assert item["other"] == str(uuid.UUID("a" * 32))


@given(key=st.tuples(st.text(max_size=4), st.text(max_size=4)))
def test_a_joined_key_is_split_again(key: tuple[str, str]) -> None:
    """No text of a key may be taken for the end of its first part."""
    assert split_key(join_key(key)) == key
