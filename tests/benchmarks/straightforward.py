"""A straightforward script for the same move, as a baseline for the program.

It reads everything, writes with ``batch_writer``, scans with a paginator and compares
with a merge. It has no ledger, cannot resume, and ignores concurrent writes.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid5

import boto3
import pandas as pd
from sqlalchemy import create_engine

from flows.models import ITEM_ATTRIBUTES
from flows.settings import ID_NAMESPACE

QUERY = "SELECT id, name, created_date, updated_date FROM public.enterprises"


def read_rows(database_url: str) -> pd.DataFrame:
    """Read all rows."""
    url = database_url.replace("postgresql://", "postgresql+psycopg2://")
    return pd.read_sql(QUERY, create_engine(url))


def move(database_url: str, table_name: str) -> dict[str, int]:
    """Move all rows, then compare; return how many are in both stores."""
    items = make_items(read_rows(database_url))
    write_items(items, table_name)
    return compare(items, table_name)


def reconcile(database_url: str, table_name: str) -> dict[str, int]:
    """Compare all rows with all items; return how many are in both stores."""
    return compare(make_items(read_rows(database_url)), table_name)


def make_items(rows: pd.DataFrame) -> pd.DataFrame:
    """Create the items of all rows."""
    items = [make_item(*row) for row in rows.itertuples(index=False, name=None)]
    return pd.DataFrame(items)


def make_item(
    number: int, name: str, created: datetime | None, updated: datetime | None
) -> dict[str, Any]:
    """Create the item of a row."""
    identity = str(uuid5(ID_NAMESPACE, str(number)))
    created_at = write_stamp(updated if pd.isna(created) else created)
    updated_at = write_stamp(created if pd.isna(updated) else updated)
    return {
        "PK": f"ENT#{identity}",
        "SK": "METADATA",
        "id": identity,
        "enterprise_name": name,
        "name": name,
        "created_date": created_at,
        "createdAt": created_at,
        "updated_date": updated_at,
        "updatedAt": updated_at,
        "entity_type": "enterprise",
    }


def write_stamp(moment: Any) -> str:
    """Format an instant in UTC, truncated to milliseconds."""
    text: str = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def write_items(items: pd.DataFrame, table_name: str) -> None:
    """Put items in batches of 25."""
    table = boto3.resource("dynamodb").Table(table_name)
    with table.batch_writer() as batch:
        for item in items.to_dict("records"):
            batch.put_item(Item=item)


def scan_items(table_name: str) -> pd.DataFrame:
    """Read all items of the table."""
    paginator = boto3.client("dynamodb").get_paginator("scan")
    found = [
        {name: value["S"] for name, value in item.items()}
        for page in paginator.paginate(TableName=table_name, ConsistentRead=True)
        for item in page["Items"]
        if item.get("entity_type") == {"S": "enterprise"}
    ]
    return pd.DataFrame(found, columns=list(ITEM_ATTRIBUTES))


def compare(items: pd.DataFrame, table_name: str) -> dict[str, int]:
    """Compare items with those of the table; return how many are in both."""
    names = list(ITEM_ATTRIBUTES)
    both = items.merge(scan_items(table_name), on=names, how="outer", indicator=True)
    counts: dict[str, int] = both["_merge"].value_counts().to_dict()
    return counts
