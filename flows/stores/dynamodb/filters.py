"""Filters of scans: the items of an entity, and the items at its keys."""

from collections.abc import Sequence
from typing import Any

from flows.mapping.template import Template
from flows.models import SourceTable

# The partition of this program's own items.
OWN_PARTITION = "MIGRATION#enterprises"


def filter_of(source: SourceTable) -> dict[str, Any]:
    """Return the parameters of a scan of an entity's items.

    The form of both keys and the entity_type distinguish them from the other kinds of
    item in the table.
    """
    conditions = [
        *_conditions(source.partition_key, "pk"),
        *_conditions(source.sort_key, "sk"),
        "#type = :type",
    ]
    request = _request(" AND ".join(conditions), _values(source))
    request["ExpressionAttributeNames"]["#type"] = "entity_type"
    request["ExpressionAttributeValues"][":type"] = {"S": source.entity}
    return request


def at_keys_of(sources: Sequence[SourceTable]) -> dict[str, Any]:
    """Return the parameters of a scan of items of any kind at the keys of entities.

    This program's own items are left out, whatever the form of the keys.
    """
    places: list[str] = []
    values: dict[str, Any] = {}
    several = len(sources) > 1
    for i, source in enumerate(sources):
        number = i if several else ""
        conditions = [
            *_conditions(source.partition_key, "pk", number),
            *_conditions(source.sort_key, "sk", number),
        ]
        if source.partition_key.may_be(OWN_PARTITION):
            conditions.append("#pk <> :own")
            values[":own"] = {"S": OWN_PARTITION}
        places.append(" AND ".join(conditions))
        values |= _values(source, number)
    condition = f"({') OR ('.join(places)})" if several else places[0]
    return _request(condition, values)


def _conditions(template: Template, name: str, number: int | str = "") -> list[str]:
    """Return the condition that a key may come from its template, if there is any."""
    if template.is_constant:
        return [f"#{name} = :{name}{number}"]
    return [f"begins_with(#{name}, :{name}{number})"] if template.prefix else []


def _values(source: SourceTable, number: int | str = "") -> dict[str, Any]:
    prefixes = {"pk": source.partition_key.prefix, "sk": source.sort_key.prefix}
    return {f":{n}{number}": {"S": prefix} for n, prefix in prefixes.items() if prefix}


def _request(condition: str, values: dict[str, Any]) -> dict[str, Any]:
    # DynamoDB refuses names that no expression uses.
    names = {f"#{key.lower()}": key for key in ("PK", "SK")}
    used = {name: key for name, key in names.items() if name in condition}
    return {
        "FilterExpression": condition,
        "ExpressionAttributeNames": used,
        "ExpressionAttributeValues": values,
    }
