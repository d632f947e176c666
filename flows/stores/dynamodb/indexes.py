"""The secondary indexes of the target table: what they hold, and what they refuse.

DynamoDB refuses an item if an attribute that is the key of an index has another type,
is empty or is too long:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/GSI.html
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flows.errors import TargetError
from flows.models import (
    ITEM_ATTRIBUTES,
    PROVENANCE_ATTRIBUTES,
    TABLE_KEYS,
    Index,
)

if TYPE_CHECKING:
    from flows.stores.dynamodb.table import EnterpriseTable

# The attributes of the origin, the lease and the cutover marker, which are items too.
OWN_TYPES = {
    "namespace": "S",
    "source_table": "S",
    "id_column": "S",
    "owner": "S",
    "expires": "N",
    "number": "N",
    "taken_at": "S",
    "declared_at": "S",
}
ITEM_TYPES = dict.fromkeys(ITEM_ATTRIBUTES, "S")
# Maximum length of a key, in bytes of UTF-8:
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
KEY_BYTES = {"HASH": 2_048, "RANGE": 1_024}


def read_indexes(description: Mapping[str, Any]) -> tuple[Index, ...]:
    """Read the secondary indexes from the description of a table."""
    types = {
        a["AttributeName"]: a["AttributeType"]
        for a in description.get("AttributeDefinitions", ())
    }
    kinds = {"GlobalSecondaryIndexes": False, "LocalSecondaryIndexes": True}
    return tuple(
        Index(
            one["IndexName"],
            local,
            tuple(
                (key["AttributeName"], key["KeyType"], types[key["AttributeName"]])
                for key in one["KeySchema"]
            ),
            one.get("Projection", {}).get("ProjectionType", "ALL"),
            frozenset(one.get("Projection", {}).get("NonKeyAttributes", ())),
        )
        for kind, local in kinds.items()
        for one in description.get(kind) or ()
    )


def written_types(*, provenance: bool) -> dict[str, str]:
    """Return DynamoDB's type of each attribute that a run writes."""
    types = OWN_TYPES | ITEM_TYPES
    if provenance:
        types |= dict(zip(PROVENANCE_ATTRIBUTES, ("BOOL", "N"), strict=True))
    return types


def require_fitting(
    table: "EnterpriseTable", indexes: Sequence[Index], types: Mapping[str, str]
) -> None:
    """Raise unless the indexes accept attributes of these types.

    Raises:
        TargetError: the key of an index has another type.
    """
    wrong = list(_wrong_keys(indexes, types))
    if not wrong:
        return
    keys = "; ".join(text for _, text in wrong)
    message = f"DynamoDB refuses the items of a run, since {keys}: {table.where}."
    local = [index.name for index, _ in wrong if index.local]
    if local:
        remedy = f"Use another table: the local index {local[0]} cannot be deleted."
        raise TargetError(message, remedy)
    change = json.dumps([{"Delete": {"IndexName": wrong[0][0].name}}])
    raise TargetError(
        message,
        "Delete the index, and create it again with the other type: aws dynamodb"
        f" update-table --table-name {table.name} --global-secondary-index-updates"
        f" '{change}'",
    )


def key_limits(indexes: Sequence[Index]) -> tuple[tuple[str, int], ...]:
    """Return the maximum bytes of each attribute that is the key of an index."""
    limits: dict[str, int] = {}
    for index in indexes:
        for name, kind, _ in index.keys:
            if name in ITEM_ATTRIBUTES and name not in TABLE_KEYS:
                limits[name] = min(KEY_BYTES[kind], limits.get(name, KEY_BYTES[kind]))
    return tuple(sorted(limits.items()))


def longest_name(indexes: Sequence[Index]) -> int | None:
    """Return the maximum bytes of a name if it is the key of an index, else None."""
    limits = dict(key_limits(indexes))
    names = ("enterprise_name", "name")
    return min((limits[name] for name in names if name in limits), default=None)


def _wrong_keys(
    indexes: Sequence[Index], types: Mapping[str, str]
) -> Iterator[tuple[Index, str]]:
    for index in indexes:
        for name, kind, wanted in index.keys:
            written = types.get(name, wanted)
            if written != wanted:
                text = f"index {index.name} has the key {name} {kind} {wanted}"
                yield index, f"{text}, and a run writes {name} as {written}"
