"""A table of twelve attributes of mixed types, and a script that moves it.

The script reads with ``read_sql``, converts with boto3's serializer, writes with
``batch_writer``, and compares a paginated scan with the items that it made. It has no
ledger, validates nothing, and cannot resume.
"""

from collections.abc import Mapping
from contextlib import closing
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid5

import boto3
import pandas as pd
import psycopg2
from boto3.dynamodb.types import Binary, TypeDeserializer, TypeSerializer
from sqlalchemy import create_engine

from flows.settings import ID_NAMESPACE
from tests.benchmarks.straightforward import write_stamp

CREATE = """
DROP TABLE IF EXISTS public.shops;
CREATE TABLE public.shops (
    id bigint PRIMARY KEY, name text NOT NULL, plan text NOT NULL, seats integer,
    price numeric(12, 2), score numeric, active boolean, settings jsonb, tags text[],
    codes text[], opened date, logo bytea, visited timestamptz,
    created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL
);
"""
FILL = """
INSERT INTO public.shops
SELECT n, 'Shop ' || n, (ARRAY['free', 'pro', 'business'])[1 + n %% 3], n %% 500,
       n %% 100000 / 100.0, n / 7.0, n %% 2 = 0,
       jsonb_build_object('theme', 'dark', 'limits', jsonb_build_array(n, n * 1.5),
                          'owner', jsonb_build_object('name', 'Owner ' || n)),
       ARRAY['tag' || n %% 10, 'all'], ARRAY['a' || n %% 7, 'b' || n %% 11],
       DATE '2001-01-01' + n %% 8000, decode(md5(n::text), 'hex'),
       CASE WHEN n %% 10 > 0 THEN now() - n * interval '1 second' END,
       now() - n * interval '1 minute', now() - n * interval '30 seconds'
FROM generate_series(1, %s) AS n;
ANALYZE public.shops;
"""
MAPPING = """
[enterprise]
table = "public.shops"
id = "id"
partition_key = "ENT#{id}"
sort_key = "METADATA"
created = "created_at"
updated = "updated_at"

[enterprise.attributes]
name = { column = "name", required = true }
plan = { column = "plan", one_of = ["free", "pro", "business"] }
seats = { column = "seats", minimum = 0 }
price = "price"
score = "score"
active = "active"
settings = "settings"
tags = "tags"
codes = { column = "codes", type = "string_set" }
opened = "opened"
logo = "logo"
visited = "visited"
"""
QUERY = "SELECT * FROM public.shops"
TEXTS = ("name", "plan")


def fill_shops(url: str, rows: int) -> None:
    """Recreate the table with that many rows."""
    with closing(psycopg2.connect(url)) as connection, connection:
        cursor = connection.cursor()
        cursor.execute(CREATE)
        cursor.execute(FILL, [rows])


def write_mapping_file(folder: Path) -> Path:
    """Write the mapping file into a folder; return its path."""
    path = folder / "mapping.toml"
    path.write_text(MAPPING, "utf-8")
    return path


def move(database_url: str, table_name: str) -> dict[str, int]:
    """Move all rows, then compare; return how many are in both stores."""
    items = make_items(database_url)
    table = boto3.resource("dynamodb").Table(table_name)
    with table.batch_writer() as batch:
        for item in items.values():
            batch.put_item(Item=item)
    return compare(items, table_name)


def reconcile(database_url: str, table_name: str) -> dict[str, int]:
    """Compare all rows with all items; return how many are in both stores."""
    return compare(make_items(database_url), table_name)


def make_items(database_url: str) -> dict[str, dict[str, Any]]:
    """Create the items of all rows, by partition key."""
    url = database_url.replace("postgresql://", "postgresql+psycopg2://")
    rows = pd.read_sql(QUERY, create_engine(url), coerce_float=False)
    made = (make_item(row) for row in rows.to_dict("records"))
    return {item["PK"]: item for item in made}


def make_item(row: Mapping[str, Any]) -> dict[str, Any]:
    """Create the item of a row."""
    identity = str(uuid5(ID_NAMESPACE, str(row["id"])))
    created, updated = write_stamp(row["created_at"]), write_stamp(row["updated_at"])
    item = {
        "PK": f"ENT#{identity}",
        "SK": "METADATA",
        "id": identity,
        "entity_type": "enterprise",
        **{name: row[name] for name in TEXTS},
        "seats": int(row["seats"]),
        "price": row["price"],
        "score": row["score"],
        "active": bool(row["active"]),
        "settings": exact(row["settings"]),
        "tags": row["tags"],
        "codes": set(row["codes"]),
        "opened": row["opened"].isoformat(),
        "logo": bytes(row["logo"]),
        "visited": as_stamp(row["visited"]),
        "created_date": created,
        "createdAt": created,
        "updated_date": updated,
        "updatedAt": updated,
    }
    return {name: value for name, value in item.items() if value is not None}


def as_stamp(moment: datetime | date | None) -> str | None:
    """Format an instant; None stays None."""
    return None if pd.isna(moment) else write_stamp(moment)


def exact(value: Any) -> Any:
    """Return a JSON value with decimals instead of floats, which boto3 refuses."""
    if isinstance(value, dict):
        return {name: exact(one) for name, one in value.items()}
    if isinstance(value, list):
        return [exact(one) for one in value]
    return Decimal(str(value)) if isinstance(value, float) else value


def compare(items: Mapping[str, dict[str, Any]], table_name: str) -> dict[str, int]:
    """Compare items with those of the table; return how many are in both."""
    serializer, deserializer = TypeSerializer(), TypeDeserializer()
    paginator = boto3.client("dynamodb").get_paginator("scan")
    counts = {"both": 0, "different": 0}
    for page in paginator.paginate(TableName=table_name, ConsistentRead=True):
        for item in page["Items"]:
            there = {name: deserializer.deserialize(v) for name, v in item.items()}
            made = items.get(there["PK"], {})
            # As the store would return it: numbers and binaries have one class.
            mine = {
                name: deserializer.deserialize(serializer.serialize(value))
                for name, value in made.items()
            }
            counts["both" if plain(mine) == plain(there) else "different"] += 1
    return counts


def plain(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item with its binaries as bytes."""
    return {
        name: bytes(value) if isinstance(value, Binary) else value
        for name, value in item.items()
    }
