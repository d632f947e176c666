"""Indexes and the attributes of a mapping: types and lengths that they accept."""

from dataclasses import replace
from typing import Any, cast

import pytest

from flows.errors import TargetError
from flows.mapping.template import Template
from flows.models import ENTERPRISE_TABLE, Field, Index
from flows.stores.dynamodb.indexes import (
    OWN_TYPES,
    key_limits,
    require_fitting,
    written_types,
)
from flows.stores.dynamodb.table import EnterpriseTable

TABLE = EnterpriseTable(cast("Any", None), "T", "eu-west-1", "http://x")
PRODUCT = replace(
    ENTERPRISE_TABLE,
    entity="product",
    table="products",
    fields=(
        Field("price", "price", "number", ("price",)),
        Field("plan", "plan", "text", ("plan",)),
        Field("note", "note", "text", ("note",), keep_null=True),
        Field("settings", "settings", "json", ("settings",)),
        Field("raw", "raw", "binary", ("raw",)),
        Field("live", "live", "boolean", ("live",)),
    ),
    templates=(("GSI1PK", Template("OWNER#{plan}")),),
)


def index_on(name: str, letter: str, *, local: bool = False) -> Index:
    """Create an index with one key."""
    return Index("theirs", local, ((name, "HASH", letter),))


def test_the_types_are_those_of_all_entities() -> None:
    """Each attribute has its type; None where its values may have several."""
    types = written_types([ENTERPRISE_TABLE, PRODUCT], provenance=True)

    assert types.items() >= OWN_TYPES.items()
    assert types["GSI1PK"] == types["plan"] == types["enterprise_name"] == "S"
    assert (types["price"], types["raw"], types["live"]) == ("N", "B", "BOOL")
    assert types["note"] is types["settings"] is None
    assert (types["original_pg_id"], types["migrated_from_pg"]) == ("N", "BOOL")


@pytest.mark.parametrize(
    "field",
    [
        Field("name", "seats", "number", ("name",)),
        Field("expires", "ends", "timestamp", ("expires",)),
    ],
)
def test_an_attribute_of_two_types_has_none(field: Field) -> None:
    """Entities, the lease and the origin share the table and its indexes."""
    other = replace(PRODUCT, fields=(field,), templates=())
    types = written_types([ENTERPRISE_TABLE, other], provenance=False)

    assert types[field.name] is None


@pytest.mark.parametrize(
    ("name", "letter"),
    [("price", "N"), ("plan", "S"), ("raw", "B"), ("GSI1PK", "S"), ("theirs", "N")],
)
def test_an_index_on_a_fitting_type_is_accepted(name: str, letter: str) -> None:
    """An index also accepts items without its key."""
    types = written_types([PRODUCT], provenance=False)

    require_fitting(TABLE, [index_on(name, letter)], types)


@pytest.mark.parametrize(
    ("name", "letter", "found", "remedy"),
    [
        ("price", "S", "writes price as N", "create it again with the other type"),
        ("settings", "S", "settings as values of several types", "Rename settings"),
        ("note", "S", "note as values of several types", "Rename note"),
        ("live", "N", "writes live as BOOL", "Rename live in the mapping file"),
    ],
)
def test_an_index_on_another_type_is_refused(
    name: str, letter: str, found: str, remedy: str
) -> None:
    """The error names key and types; a remedy must be possible."""
    types = written_types([PRODUCT], provenance=False)
    with pytest.raises(TargetError, match=found) as caught:
        require_fitting(TABLE, [index_on(name, letter)], types)
    with pytest.raises(TargetError) as of_local:
        require_fitting(TABLE, [index_on(name, letter, local=True)], types)

    assert remedy in caught.value.remedy
    assert '[{"Delete": {"IndexName": "theirs"}}]' in caught.value.remedy
    assert "another table" in of_local.value.remedy


def test_the_limits_are_those_of_an_entitys_texts() -> None:
    """A key of an index is limited only in items that have it, and only as a text."""
    indexes = [
        index_on("GSI1PK", "S"),
        index_on("price", "N"),
        index_on("name", "S"),
        Index("ranged", False, (("plan", "HASH", "S"), ("GSI1PK", "RANGE", "S"))),
    ]

    assert key_limits(indexes) == (("name", 2_048),)
    assert key_limits(indexes, [PRODUCT]) == (("GSI1PK", 1_024), ("plan", 2_048))
