"""Helpers for tests of the target: items to load, and the table through a proxy."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd

from flows.load import LoadReport
from flows.models import Item, Key, Outcome
from flows.settings import Settings
from flows.stores.dynamodb.table import EnterpriseTable, open_table
from flows.stores.dynamodb.wire import encode, to_wire
from flows.transform import transform_enterprises
from tests.support.fault_proxy import Call, FaultProxy

STAMP = "2024-02-29T00:00:00.000Z"
EARLIER = "2024-02-28T23:59:59.999Z"
LATER = "2024-02-29T00:00:00.001Z"
ALL = {"ProjectionType": "ALL"}

# Items of other programs in the same table.
FOREIGN: list[dict[str, Any]] = [
    {"PK": "ENT#x", "SK": "PROD#1", "entity_type": "enterprise", "name": "product"},
    {"PK": "EPS#1", "SK": "METADATA", "entity_type": "enterprise", "name": "eps"},
    {"PK": "USER#1", "SK": "METADATA", "entity_type": "user", "updatedAt": LATER},
    {"PK": "ENT#other", "SK": "METADATA", "entity_type": "product", "price": 3},
    {"PK": "MIGRATION#enterprises", "SK": "ORIGIN", "namespace": "another"},
]


def make_items(
    names: Sequence[str], *, first: int = 1, provenance: bool = False
) -> pd.DataFrame:
    """Create items with these names, ids from *first* and the stamp ``STAMP``."""
    rows = {
        "source_id": [str(number) for number in range(first, first + len(names))],
        "enterprise_name": list(names),
        "created_date": ["2024-01-05 12:34:56.789+00"] * len(names),
        "updated_date": ["2024-02-29 00:00:00+00"] * len(names),
    }
    frame = pd.DataFrame(rows, dtype=object)
    return transform_enterprises(frame, provenance=provenance)


def numbered(count: int) -> pd.DataFrame:
    """Create that many items, each with a different name."""
    return make_items([f"Enterprise {number}" for number in range(1, count + 1)])


def as_items(frame: pd.DataFrame) -> list[Item]:
    """Return a frame's items one by one, without their source ids."""
    records: list[Any] = frame.drop(columns="source_id").to_dict("records")
    return records


def as_puts(items: Sequence[Item]) -> list[bytes]:
    """Return items as the requests of a batch."""
    return [encode({"PutRequest": {"Item": to_wire(item)}}) for item in items]


def keys_of(frame: pd.DataFrame) -> list[Key]:
    """Return the keys of a frame's items."""
    return list(zip(frame["PK"], frame["SK"], strict=True))


def wire_by_key(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return a frame's items in DynamoDB's form, by PK and SK."""
    return {f"{item['PK']} {item['SK']}": to_wire(item) for item in as_items(frame)}


def put(table: EnterpriseTable, *items: dict[str, Any]) -> None:
    """Put items as another program would."""
    for item in items:
        table.client.put_item(TableName=table.name, Item=to_wire(item))


def remake(
    table: EnterpriseTable,
    *indexes: tuple[str, Sequence[str]],
    local: Sequence[tuple[str, Sequence[str]]] = (),
    projection: Mapping[str, Any] = ALL,
    **types: str,
) -> None:
    """Recreate a table with indexes of one projection, each a name and its keys."""

    def define(some: Sequence[tuple[str, Sequence[str]]]) -> list[Any]:
        return [
            {
                "IndexName": name,
                "KeySchema": key_schema(keys),
                "Projection": projection,
            }
            for name, keys in some
        ]

    kinds = {"GlobalSecondaryIndexes": indexes, "LocalSecondaryIndexes": local}
    named = {kind: define(some) for kind, some in kinds.items() if some}
    attributes: Any = {"PK": "S", "SK": "S"} | types
    table.client.delete_table(TableName=table.name)
    table.client.create_table(
        TableName=table.name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=key_schema(["PK", "SK"]),
        AttributeDefinitions=[
            {"AttributeName": n, "AttributeType": t} for n, t in attributes.items()
        ],
        **named,  # type: ignore[arg-type]
    )


def key_schema(names: Sequence[str]) -> Any:
    """Return the schema of a key of one attribute or two."""
    kinds = ("HASH", "RANGE")
    return [
        {"AttributeName": name, "KeyType": kind}
        for name, kind in zip(names, kinds, strict=False)
    ]


def open_at(endpoint: str, name: str, deadline: float | None = None) -> EnterpriseTable:
    """Open a table at an endpoint."""
    settings = Settings.isolated(
        aws_region="eu-west-1",
        dynamodb_endpoint=endpoint,
        dynamodb_enterprise_table=name,
    )
    return open_table(settings, deadline)


@contextmanager
def through_proxy(
    table: EnterpriseTable, deadline: float | None = None
) -> Iterator[tuple[EnterpriseTable, FaultProxy]]:
    """Open the same table once more, through a proxy that can fail."""
    with FaultProxy(table.endpoint) as proxy:
        behind = open_at(proxy.url, table.name, deadline)
        try:
            yield behind, proxy
        finally:
            behind.client.close()


def only(report: LoadReport) -> set[Outcome]:
    """Return the outcomes in a report."""
    return set(report.outcomes.values())


def sent_keys(call: Call) -> list[str]:
    """Return the keys that a BatchWriteItem put."""
    (puts,) = call.request.json["RequestItems"].values()
    return [put["PutRequest"]["Item"]["PK"]["S"] for put in puts]
