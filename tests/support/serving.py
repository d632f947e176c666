"""The HTTP service over a store in a thread of this process, and a client of it."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from flows.api.app import create_app
from flows.api.connections import LimitedConnection
from flows.api.store import EnterpriseStore
from flows.settings import Settings
from flows.stores.dynamodb.schema import create_table
from flows.stores.dynamodb.table import open_table
from flows.stores.dynamodb.wire import to_wire
from tests.support.source_database import SourceDatabase
from tests.support.target_table import as_puts

START_SECONDS = 30
SCHEMA = (Path(__file__).parents[2] / "data" / "schema.sql").read_text("utf-8")
STAMP = "2024-01-05T12:34:56.789Z"
INSERT = """
INSERT INTO public.enterprises (name, created_date, updated_date) VALUES (%s, %s, %s)
"""
LAST_ID = "SELECT max(id) FROM public.enterprises"


@dataclass(frozen=True)
class Service:
    """A running service, its client, and the store behind it."""

    client: httpx.Client
    settings: Settings
    add: Callable[..., str]
    fill: Callable[[Sequence[str]], None]

    @property
    def unknown_id(self) -> str:
        """Return an id that no enterprise has."""
        dynamodb = self.settings.storage_mode == "dynamodb"
        return "c0ffee00-0000-4000-8000-000000000000" if dynamodb else "2000000000"

    def listed(self) -> list[dict[str, Any]]:
        """Return all enterprises, as the service lists them."""
        found: list[dict[str, Any]] = self.client.get("/api/enterprises").json()
        return found


@dataclass(frozen=True)
class PostgresRows:
    """Adds rows as the former application did."""

    database: SourceDatabase

    def add(self, name: str | None, created: str = STAMP, updated: str = STAMP) -> str:
        """Add one row; return its id."""
        self.database.run(INSERT, values=[name, created, updated])
        return str(self.database.ask(LAST_ID))

    def fill(self, names: Sequence[str]) -> None:
        """Add many rows."""
        values = ", ".join(["(%s, now(), now())"] * len(names))
        head = "INSERT INTO public.enterprises (name, created_date, updated_date)"
        self.database.run(f"{head} VALUES {values}", values=list(names))


@dataclass(frozen=True)
class DynamoItems:
    """Adds items as the migration does."""

    settings: Settings

    def add(self, name: str | None, created: str = STAMP, updated: str = STAMP) -> str:
        """Add one item; return its id."""
        new_id = f"old-{abs(hash((name, created, updated)))}"
        self._put([item_of(new_id, name, created, updated)])
        return new_id

    def fill(self, names: Sequence[str]) -> None:
        """Add many items."""
        self._put([item_of(f"id-{n}", name) for n, name in enumerate(names)])

    def _put(self, items: Sequence[dict[str, Any]]) -> None:
        table = open_table(self.settings)
        for start in range(0, len(items), 25):
            assert table.put_batch(as_puts(items[start : start + 25])) == []
        table.client.close()


def item_of(
    new_id: str, name: str | None, created: str = STAMP, updated: str = STAMP
) -> dict[str, Any]:
    """Return the item of an enterprise, in the form of the contract."""
    return {
        "PK": f"ENT#{new_id}",
        "SK": "METADATA",
        "id": new_id,
        "enterprise_name": name,
        "name": name,
        "created_date": created,
        "createdAt": created,
        "updated_date": updated,
        "updatedAt": updated,
        "entity_type": "enterprise",
    }


def new_table(endpoint: str, name: str, **values: object) -> Settings:
    """Create a table; return the settings of a service over it."""
    settings = Settings.isolated(
        storage_mode="dynamodb",
        aws_region="eu-west-1",
        dynamodb_endpoint=endpoint,
        dynamodb_enterprise_table=name,
        **values,
    )
    table = open_table(settings)
    create_table(table)
    table.client.close()
    return settings


@contextmanager
def serving(
    settings: Settings,
    store: EnterpriseStore | None = None,
    *,
    http: type[LimitedConnection] = LimitedConnection,
) -> Iterator[httpx.Client]:
    """Serve in a thread for the duration of a block; yield a client of the service."""
    config = uvicorn.Config(
        create_app(settings, store),
        http=http,
        log_config=None,
        access_log=False,
        ws="none",
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(target=server.run, args=[[listening]])
        thread.start()
        try:
            await_start(server, thread)
            limits = httpx.Limits(max_connections=64)
            # Ignore this machine's environment, such as a proxy.
            with httpx.Client(
                base_url=url, timeout=60, limits=limits, trust_env=False
            ) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


def await_start(server: uvicorn.Server, thread: threading.Thread) -> None:
    """Wait until the server takes requests."""
    deadline = time.monotonic() + START_SECONDS
    while not server.started:
        assert thread.is_alive(), "the service ended at its start"
        assert time.monotonic() < deadline, "the service does not start"
        time.sleep(0.005)


@contextmanager
def service_of(settings: Settings) -> Iterator[Service]:
    """Serve one store."""
    rows: PostgresRows | DynamoItems
    if settings.storage_mode == "postgres":
        assert settings.database_url is not None
        rows = PostgresRows(SourceDatabase(settings.database_url.get_secret_value()))
    else:
        rows = DynamoItems(settings)
    with serving(settings) as client:
        yield Service(client, settings, rows.add, rows.fill)


def put_items(settings: Settings, *items: dict[str, Any]) -> None:
    """Put items as another program would."""
    table = open_table(settings)
    for item in items:
        table.client.put_item(TableName=table.name, Item=to_wire(item))
    table.client.close()


def read_items(settings: Settings) -> dict[tuple[str, str], dict[str, Any]]:
    """Read every item of a table, by PK and SK."""
    table = open_table(settings)
    pages = table.client.get_paginator("scan").paginate(
        TableName=table.name, ConsistentRead=True
    )
    found = [dict(item) for page in pages for item in page["Items"]]
    table.client.close()
    return {(i["PK"]["S"], i["SK"]["S"]): i for i in found}
