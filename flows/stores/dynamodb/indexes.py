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
    ENTERPRISE_TABLE,
    ITEM_ATTRIBUTES,
    TABLE_KEYS,
    Index,
    SourceTable,
)

if TYPE_CHECKING:
    from flows.stores.dynamodb.table import EnterpriseTable

# The attributes of the origin, the lease and the cutover marker, which are items too.
OWN_TYPES = {
    "namespace": "S",
    "source_table": "S",
    "id_column": "S",
    "mapping": "S",
    "owner": "S",
    "expires": "N",
    "number": "N",
    "taken_at": "S",
    "declared_at": "S",
}
ITEM_TYPES = dict.fromkeys(ITEM_ATTRIBUTES, "S")
# The types that a key of an index can have.
KEY_TYPES = frozenset({"S", "N", "B"})
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


def written_types(
    sources: Sequence[SourceTable], *, provenance: bool
) -> dict[str, str | None]:
    """Return DynamoDB's type of each attribute that a run of these entities writes.

    It is None where the values may have several types.
    """
    types: dict[str, str | None] = dict(OWN_TYPES)
    for source in sources:
        for name in source.attributes_with(provenance=provenance):
            letter = source.letters[name]
            same = letter != "*" and types.get(name, letter) == letter
            types[name] = letter if same else None
    return types


def require_fitting(
    table: "EnterpriseTable", indexes: Sequence[Index], types: Mapping[str, str | None]
) -> None:
    """Raise unless the indexes accept attributes of these types.

    Raises:
        TargetError: the key of an index has another type, or its values may have
            several.
    """
    wrong = list(_wrong_keys(indexes, types))
    if not wrong:
        return
    keys = "; ".join(text for _, _, text in wrong)
    message = f"DynamoDB refuses the items of a run, since {keys}: {table.where}."
    local = [index.name for index, _, _ in wrong if index.local]
    if local:
        remedy = f"Use another table: the local index {local[0]} cannot be deleted."
        raise TargetError(message, remedy)
    index, name, _ = wrong[0]
    change = json.dumps([{"Delete": {"IndexName": index.name}}])
    remedy = (
        "Delete the index, and create it again with the other type"
        if types[name] in KEY_TYPES
        else f"Rename {name} in the mapping file or give it a type, or delete the index"
    )
    raise TargetError(
        message,
        f"{remedy}: aws dynamodb update-table --table-name {table.name}"
        f" --global-secondary-index-updates '{change}'",
    )


def key_limits(
    indexes: Sequence[Index], sources: Sequence[SourceTable] = (ENTERPRISE_TABLE,)
) -> tuple[tuple[str, int], ...]:
    """Return the maximum bytes of each text of the entities that keys an index."""
    texts = {
        name
        for source in sources
        for name in source.item_attributes
        if source.letters[name] == "S"
    }
    limits: dict[str, int] = {}
    for index in indexes:
        for name, kind, _ in index.keys:
            if name in texts - TABLE_KEYS:
                limits[name] = min(KEY_BYTES[kind], limits.get(name, KEY_BYTES[kind]))
    return tuple(sorted(limits.items()))


def longest_name(indexes: Sequence[Index]) -> int | None:
    """Return the maximum bytes of a name if it is the key of an index, else None."""
    limits = dict(key_limits(indexes))
    names = ("enterprise_name", "name")
    return min((limits[name] for name in names if name in limits), default=None)


def _wrong_keys(
    indexes: Sequence[Index], types: Mapping[str, str | None]
) -> Iterator[tuple[Index, str, str]]:
    """Yield each index that refuses items, with the attribute and what is wrong."""
    for index in indexes:
        for name, kind, wanted in index.keys:
            written = types.get(name, wanted)
            if written != wanted:
                text = f"index {index.name} has the key {name} {kind} {wanted}"
                letter = written or "values of several types"
                yield index, name, f"{text}, and a run writes {name} as {letter}"
