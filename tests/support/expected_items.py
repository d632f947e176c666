"""A source of some rows, and the items that it must become, derived independently.

This module uses nothing of the program: ids are from the standard library's uuid5,
times from Python's datetimes. A mistake shared with the program would not be found.
"""

import uuid
from contextlib import closing
from datetime import datetime
from typing import Any

import psycopg2

Wire = dict[str, dict[str, Any]]

NAMESPACE = uuid.UUID("f1bf414b-7026-5797-bdf7-4a76844e36fc")
# Negative ids and gaps, names in several scripts, times to truncate, missing times.
FILL = """
CREATE TABLE public.enterprises (
    id bigint PRIMARY KEY, name text, created_date timestamptz, updated_date timestamptz
);
INSERT INTO public.enterprises
SELECT 7 * n - 100, format('Enterprise %%s & Söhne 株式会社', n),
       timestamptz '2020-02-29 23:59:59.999999+00' + n * interval '37 hours 1.0005 s',
       CASE WHEN n %% 3 > 0 THEN timestamptz '2024-05-05 05:05:05.5004+02' END
FROM generate_series(1, %s) AS n
"""


def fill(url: str, rows: int) -> None:
    """Create the source table with that many rows."""
    with closing(psycopg2.connect(url)) as connection, connection:
        connection.cursor().execute(FILL, [rows])


def expected_items(url: str) -> dict[str, Wire]:
    """Return the items expected from the source, by PK, in DynamoDB's form."""
    with closing(psycopg2.connect(url)) as connection:
        cursor = connection.cursor()
        cursor.execute("SET TIME ZONE 'UTC'")
        cursor.execute("SELECT id, name, created_date, updated_date FROM enterprises")
        items = [_item(*row) for row in cursor]
    return {item["PK"]["S"]: item for item in items}


def enterprises(client: Any, table: str) -> dict[str, Wire]:
    """Return the enterprises in a table, by PK, in DynamoDB's form."""
    return {
        pk: item
        for (pk, _), item in all_items(client, table).items()
        if pk.startswith("ENT#")
    }


def all_items(client: Any, table: str) -> dict[tuple[str, str], Wire]:
    """Return every item of a table, by PK and SK."""
    pages = client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    found = [item for page in pages for item in page["Items"]]
    return {(item["PK"]["S"], item["SK"]["S"]): item for item in found}


def _item(number: int, name: str, created: datetime, updated: datetime | None) -> Wire:
    key = str(uuid.uuid5(NAMESPACE, str(number)))
    values = {
        "PK": f"ENT#{key}",
        "SK": "METADATA",
        "id": key,
        "enterprise_name": name,
        "name": name,
        "created_date": _stamp(created),
        "createdAt": _stamp(created),
        "updated_date": _stamp(updated or created),
        "updatedAt": _stamp(updated or created),
        "entity_type": "enterprise",
    }
    return {attribute: {"S": value} for attribute, value in values.items()}


def _stamp(moment: datetime) -> str:
    milliseconds = moment.microsecond // 1000
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds:03}Z"
