"""The parameters of a write that changes an item only as it was seen.

DynamoDB limits expressions to 300 operators and 4 KB, which an item of 128 attributes
may exceed. Its older parameters have no such limits:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/LegacyConditionalParameters.html
"""

from collections.abc import Mapping, Sequence
from typing import Any

from flows.models import TABLE_KEYS, Attribute
from flows.stores.dynamodb.wire import typed

# From more attributes on, the older parameters are used.
MOST_IN_EXPRESSIONS = 100


def make_condition(
    own: Sequence[str], seen: Mapping[str, Attribute | None]
) -> dict[str, Any]:
    """Return the condition that an item's *own* attributes are as they were *seen*."""
    own = [name for name in own if name not in TABLE_KEYS]
    if len(own) > MOST_IN_EXPRESSIONS:
        return {"Expected": _expect(own, seen)}
    values: dict[str, Any] = {}
    conditions = ["attribute_exists(PK)"]
    for i, name in enumerate(own):
        if seen.get(name) is not None:
            values[f":s{i}"] = typed(seen[name])
            conditions.append(f"#a{i} = :s{i}")
        else:
            conditions.append(f"attribute_not_exists(#a{i})")
    return {
        "ConditionExpression": " AND ".join(conditions),
        "ExpressionAttributeNames": {f"#a{i}": name for i, name in enumerate(own)},
        "ExpressionAttributeValues": values,
    }


def make_update(
    item: Mapping[str, Attribute | None], seen: Mapping[str, Attribute | None]
) -> dict[str, Any]:
    """Return the update of an item to its new attributes, on condition.

    An attribute that is None in *item* is removed, if it was *seen*.
    """
    own = [name for name in item if name not in TABLE_KEYS]
    request = make_condition(own, seen)
    if "Expected" in request:
        return request | {"AttributeUpdates": _replace(own, item)}
    changes: dict[str, list[str]] = {"SET": [], "REMOVE": []}
    for i, name in enumerate(own):
        if item[name] is not None:
            request["ExpressionAttributeValues"][f":n{i}"] = typed(item[name])
            changes["SET"].append(f"#a{i} = :n{i}")
        elif seen.get(name) is not None:
            changes["REMOVE"].append(f"#a{i}")
    request["UpdateExpression"] = " ".join(
        f"{verb} {', '.join(parts)}" for verb, parts in changes.items() if parts
    )
    return request


def _expect(
    own: Sequence[str], seen: Mapping[str, Attribute | None]
) -> dict[str, dict[str, Any]]:
    expected: dict[str, dict[str, Any]] = {"PK": {"ComparisonOperator": "NOT_NULL"}}
    for name in own:
        value = seen.get(name)
        expected[name] = (
            {"ComparisonOperator": "NULL"}
            if value is None
            else {"ComparisonOperator": "EQ", "AttributeValueList": [typed(value)]}
        )
    return expected


def _replace(
    own: Sequence[str], item: Mapping[str, Attribute | None]
) -> dict[str, dict[str, Any]]:
    return {
        name: {"Action": "DELETE"}
        if item[name] is None
        else {"Action": "PUT", "Value": typed(item[name])}
        for name in own
    }
