"""Comparison of mappings: digests, and sentences on what differs."""

from collections.abc import Mapping as MappingOf
from typing import Any

import pytest

from flows.mapping.compare import changes_between, digest_of
from flows.mapping.model import Attribute, Entity, Mapping

PRICE = Attribute(column="price", type="text")
PRODUCT = Entity(
    table="public.products",
    id="id",
    partition_key="ENT#{enterprise_id}",
    sort_key="PROD#{id}",
    attributes={"price": PRICE, "name": Attribute(column="name")},
)
SEAT = PRODUCT.model_copy(update={"sort_key": "SEAT#{id}"})
MAPPING = Mapping(entities={"product": PRODUCT})


def with_product(**changes: Any) -> Mapping:
    """Return the mapping with other keys of its entity."""
    return Mapping(entities={"product": PRODUCT.model_copy(update=changes)})


def with_price(**changes: Any) -> Mapping:
    """Return the mapping with other keys of the price."""
    price = PRICE.model_copy(update=changes)
    return with_product(attributes=PRODUCT.attributes | {"price": price})


def plain(mapping: Mapping) -> dict[str, Any]:
    """Return a mapping as it is recorded."""
    return mapping.model_dump(mode="json", exclude_defaults=True)


CHANGES: list[tuple[Mapping, list[str]]] = [
    (with_price(type="number"), ["product.attributes.price: type number, was text"]),
    (with_price(type=None), ["product.attributes.price: type not given, was text"]),
    (
        with_price(required=True, one_of=("a", "b c")),
        [
            "product.attributes.price: required true, was false",
            'product.attributes.price: one_of ["a", "b c"], was not given',
        ],
    ),
    (
        with_price(min_length=0),
        ["product.attributes.price: min_length 0, was not given"],
    ),
    (with_price(null="keep"), ["product.attributes.price: null keep, was omit"]),
    (
        with_product(other_columns="carry", where="NOT gone"),
        [
            'product: where "NOT gone", was not given',
            "product: other_columns carry, was leave",
        ],
    ),
    (
        with_product(sort_key="SEAT#{id}"),
        ['product: sort_key "SEAT#{id}", was "PROD#{id}"'],
    ),
    (
        with_product(attributes={"price": PRICE, "a.b": Attribute(column="name")}),
        [
            "product.attributes.name is gone",
            'product.attributes."a.b" is new',
        ],
    ),
    (
        with_product(attributes={}),
        ["product.attributes.price is gone", "product.attributes.name is gone"],
    ),
    (Mapping(entities={"product": PRODUCT, "seat": SEAT}), ["entity seat is new"]),
    (
        Mapping(entities={"seat": SEAT}),
        ["entity product is gone", "entity seat is new"],
    ),
]


@pytest.mark.parametrize(("other", "changes"), CHANGES)
def test_each_change_is_named(other: Mapping, changes: list[str]) -> None:
    """What differs must be named by its key, with the new and the old value."""
    assert changes_between(plain(MAPPING), plain(other)) == changes
    assert len(changes_between(plain(other), plain(MAPPING))) == len(changes)
    assert digest_of(other) != digest_of(MAPPING)


@pytest.mark.parametrize(
    "other",
    [
        MAPPING.model_copy(update={"path": "mapping.toml"}),
        with_product(attributes=dict(reversed(PRODUCT.attributes.items()))),
        Mapping.model_validate(MAPPING.model_dump()),
    ],
)
def test_the_same_mapping_has_one_digest(other: Mapping) -> None:
    """A path, an order, and a default that is written out change no item."""
    assert digest_of(other) == digest_of(MAPPING)
    assert changes_between(plain(MAPPING), plain(other)) == []


def test_the_order_of_entities_changes_no_digest() -> None:
    """Entities that are moved in another order become the same items."""
    one = Mapping(entities={"product": PRODUCT, "seat": SEAT})
    other = Mapping(entities={"seat": SEAT, "product": PRODUCT})

    assert digest_of(one) == digest_of(other)
    assert changes_between(plain(one), plain(other)) == []


def test_the_digest_is_stable() -> None:
    """A table's marker records the digest, so that it must never change."""
    assert digest_of(MAPPING) == (
        "522f3c3abeb1098f5ec0e7f8ab229ecbca1437709ff4504036ee9c334121f33a"
    )


def test_a_key_of_another_version_is_named() -> None:
    """A recorded mapping may have keys that this version does not know."""
    old: MappingOf[str, Any] = plain(MAPPING)
    old["entities"]["product"]["compress"] = True

    assert changes_between(old, plain(MAPPING)) == [
        "product: compress not given, was true"
    ]
