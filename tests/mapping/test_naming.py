"""The names of a suggested mapping."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.mapping.model import RESERVED
from flows.mapping.naming import (
    name_attribute,
    name_entities,
    name_prefixes,
    singular,
    spell_table,
)
from flows.mapping.template import Template
from flows.stores.postgres.session import split_table_name

ROOT = ("public", "enterprises")
NAMES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1)


@pytest.mark.parametrize(
    ("plural", "expected"),
    [
        ("products", "product"),
        ("categories", "category"),
        ("CATEGORIES", "CATEGORY"),
        ("addresses", "address"),
        ("boxes", "box"),
        ("statuses", "status"),
        ("courses", "course"),
        ("warehouses", "warehouse"),
        ("branches", "branch"),
        ("address", "address"),
        ("status", "status"),
        ("staff", "staff"),
    ],
)
def test_an_entity_has_the_singular_of_its_table(plural: str, expected: str) -> None:
    """An item is one product, not products."""
    assert singular(plural) == expected


def test_tables_of_one_name_become_two_entities() -> None:
    """Two entities of one name would be one section of the file."""
    others = [("shop", "enterprises"), ("old", "products"), ("new", "products")]

    assert name_entities(ROOT, [*others, ("new", "product")]) == {
        ROOT: "enterprise",
        ("shop", "enterprises"): "shop_enterprise",
        ("old", "products"): "product",
        ("new", "products"): "new_product",
        ("new", "product"): "new_product_2",
    }


def test_an_entity_has_only_plain_characters() -> None:
    """A mapping file refuses other characters in the name of an entity."""
    entities = name_entities(ROOT, [("public", 'Größe "x"s'), ("public", "注文")])

    assert list(entities.values()) == ["enterprise", "Gro_e__x_", "row"]


def test_each_entity_has_a_prefix_of_its_letters() -> None:
    """Two entities with one prefix could have items of one key."""
    names = ["enterprise", "product", "prod", "produce", "ent", "a-b", "ent2", "1"]
    prefixes = name_prefixes({("public", name): name for name in names})

    assert [*prefixes.values()] == [
        "ENT",
        "PROD",
        "PROD2",
        "PRODU",
        "ENT2",
        "AB",
        "ENT22",
        "1",
    ]


@given(st.lists(NAMES, unique=True))
def test_the_attributes_of_any_columns_are_unique(columns: list[str]) -> None:
    """Two columns under one attribute would lose one of them."""
    names: list[str] = []
    for column in columns:
        others = [one for one in columns if one != column]
        names.append(name_attribute(column, {*names, *others}))

    assert len(set(names)) == len(columns)
    for name in names:
        assert name not in RESERVED
        assert Template.parse(f"A#{{{name}}}").names == (name,)


@given(NAMES, NAMES)
def test_the_name_of_a_table_is_read_as_it_was(schema: str, table: str) -> None:
    """A name with a dot or capitals must name the same table in the file."""
    assert split_table_name(spell_table((schema, table))) == (schema, table)
