"""Filters of scans: which items are of an entity, and which are at its keys."""

from dataclasses import replace

import pytest

from flows.mapping.template import Template
from flows.models import ENTERPRISE_TABLE, SourceTable
from flows.stores.dynamodb.filters import at_keys_of, filter_of


def make_source(
    partition_key: str, sort_key: str, entity: str = "product"
) -> SourceTable:
    """Create a table of an entity with these keys."""
    return replace(
        ENTERPRISE_TABLE,
        entity=entity,
        partition_key=Template.parse(partition_key),
        sort_key=Template.parse(sort_key),
    )


@pytest.mark.parametrize(
    ("keys", "condition", "values"),
    [
        (
            ("ENT#{id}", "METADATA"),
            "begins_with(#pk, :pk) AND #sk = :sk AND #type = :type",
            {":pk": "ENT#", ":sk": "METADATA"},
        ),
        (
            ("ENT#{a}", "PROD#{id}"),
            "begins_with(#pk, :pk) AND begins_with(#sk, :sk) AND #type = :type",
            {":pk": "ENT#", ":sk": "PROD#"},
        ),
        (("{id}", "{a}"), "#type = :type", {}),
        (("ALL", "{id}"), "#pk = :pk AND #type = :type", {":pk": "ALL"}),
    ],
)
def test_an_entity_is_known_by_its_keys_and_type(
    keys: tuple[str, str], condition: str, values: dict[str, str]
) -> None:
    """Each constant part is compared, and no name is declared that is not used."""
    request = filter_of(make_source(*keys))

    assert request["FilterExpression"] == condition
    texts = values | {":type": "product"}
    wired = {name: {"S": text} for name, text in texts.items()}
    assert request["ExpressionAttributeValues"] == wired
    names = set(request["ExpressionAttributeNames"])
    assert names == {name for name in ("#pk", "#sk", "#type") if name in condition}


def test_the_keys_of_several_entities_are_alternatives() -> None:
    """An item of any kind at a key of any of the entities counts."""
    one = at_keys_of([ENTERPRISE_TABLE])
    request = at_keys_of([ENTERPRISE_TABLE, make_source("ENT#{a}", "PROD#{id}")])

    assert one["FilterExpression"] == "begins_with(#pk, :pk) AND #sk = :sk"
    assert request["FilterExpression"] == (
        "(begins_with(#pk, :pk0) AND #sk = :sk0)"
        " OR (begins_with(#pk, :pk1) AND begins_with(#sk, :sk1))"
    )
    assert len(request["ExpressionAttributeValues"]) == 4


@pytest.mark.parametrize("key", ["{id}", "MIG{id}"])
def test_items_of_the_program_are_at_no_key_of_an_entity(key: str) -> None:
    """The lease of a run exists before its first item, and is not an item there."""
    request = at_keys_of([make_source(key, "{a}")])

    assert request["FilterExpression"].endswith("#pk <> :own")
    own = request["ExpressionAttributeValues"][":own"]
    assert own == {"S": "MIGRATION#enterprises"}
