"""Fixtures: a source with rows and a target table, named in the environment."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import httpx
import psycopg2
import pytest

from flows.settings import load_settings
from flows.stores.dynamodb.schema import create_table
from flows.stores.dynamodb.table import EnterpriseTable, open_table
from tests.support.fault_proxy import FaultProxy
from tests.support.prefect_server import PrefectServer, running_server
from tests.support.target_table import remake
from tests.support.warm_command import Commands, warm_commands

SourceRow = tuple[int, str | None, str | None, str | None]

SCHEMA = """
CREATE TABLE IF NOT EXISTS public.enterprises (
    id bigint PRIMARY KEY, name text, created_date timestamptz, updated_date timestamptz
)
"""
INSERT = "INSERT INTO public.enterprises VALUES (%s, %s, %s, %s)"
ROWS: list[SourceRow] = [
    (42, "Acme GmbH", "2024-01-05 12:34:56.789999+00", "2024-02-01 00:00:00+00"),
    (-7, "Ünïcode & Söhne", "1999-12-31 23:59:59.999999+00", None),
    (0, "株式会社 🚀 ", None, "2020-02-29 01:02:03.5+00"),
    (9007199254740993, '=1+1 "quoted"\n<b>', "0001-01-01 00:00:00+00", None),
    (7, "NULL", "9999-12-31 23:59:59.999999+00", None),
]


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    """Yield the starter that runs each command in a separate process."""
    with warm_commands() as starter:
        yield starter


@pytest.fixture
def insert(database_url: str) -> Callable[[Iterable[SourceRow]], None]:
    """Return a function that adds rows to the source and creates its table first."""

    def add(rows: Iterable[SourceRow]) -> None:
        with closing(psycopg2.connect(database_url)) as connection, connection:
            cursor = connection.cursor()
            cursor.execute(SCHEMA)
            cursor.executemany(INSERT, list(rows))

    return add


@pytest.fixture
def source(
    database_url: str,
    insert: Callable[[Iterable[SourceRow]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """Fill the source with a few rows and name it in the environment."""
    insert(ROWS)
    monkeypatch.setenv("DATABASE_URL", database_url)
    return database_url


@pytest.fixture
def table(
    endpoint: str, table_name: str, monkeypatch: pytest.MonkeyPatch
) -> EnterpriseTable:
    """Create the target table and name it in the environment."""
    monkeypatch.setenv("DYNAMODB_ENDPOINT", endpoint)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("DYNAMODB_ENTERPRISE_TABLE", table_name)
    # The settings load without a source here only.
    target = open_table(load_settings())
    create_table(target)
    return target


@pytest.fixture
def make_indexed(table: EnterpriseTable) -> Callable[..., None]:
    """Return a function that recreates the table with indexes."""
    return partial(remake, table)


@pytest.fixture
def items(table: EnterpriseTable) -> Callable[[], dict[str, dict[str, Any]]]:
    """Return a function that reads every item of the table, by PK and SK."""

    def read() -> dict[str, dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for page in table.client.get_paginator("scan").paginate(
            TableName=table.name, ConsistentRead=True
        ):
            found += page["Items"]
        return {f"{i['PK']['S']} {i['SK']['S']}": i for i in found}

    return read


@pytest.fixture
def proxy(
    table: EnterpriseTable, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultProxy]:
    """Place a proxy before the table that records requests and injects faults."""
    with FaultProxy(table.endpoint) as between:
        monkeypatch.setenv("DYNAMODB_ENDPOINT", between.url)
        yield between


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """Run a Prefect server; the tests that use it share one xdist group."""
    with running_server(tmp_path_factory.mktemp("prefect-server")) as server:
        yield server


@pytest.fixture
def api(
    prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[httpx.Client]:
    """Point Prefect at the server; yield a client of its API."""
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        temporary_settings,
    )

    monkeypatch.setenv("PREFECT_API_URL", prefect_server.api)
    # The heartbeat thread takes a second to end after each flow.
    settings = {
        PREFECT_API_URL: prefect_server.api,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
    }
    with (
        temporary_settings(settings),
        prefect_server.client() as client,
    ):
        yield client
