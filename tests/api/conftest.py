"""The service over each store in turn, on a real port, with a client."""

from collections.abc import Iterator

import pytest

from flows.settings import Settings
from tests.support.serving import SCHEMA, Service, new_table, service_of
from tests.support.source_database import SourceDatabase


@pytest.fixture
def postgres_settings(database_url: str) -> Settings:
    """Create the source table; return the settings of a service over it."""
    SourceDatabase(database_url).run(SCHEMA)
    return Settings.isolated(storage_mode="postgres", database_url=database_url)


@pytest.fixture
def dynamodb_settings(endpoint: str, table_name: str) -> Settings:
    """Create the target table, on each DynamoDB in turn."""
    return new_table(endpoint, table_name)


@pytest.fixture
def table_settings(moto_endpoint: str, table_name: str) -> Settings:
    """Create the target table for tests of any DynamoDB."""
    return new_table(moto_endpoint, table_name)


@pytest.fixture(params=["postgres", "moto", "dynamodb-local"])
def service(request: pytest.FixtureRequest, table_name: str) -> Iterator[Service]:
    """Serve PostgreSQL, moto and DynamoDB Local in turn."""
    if request.param == "postgres":
        settings = request.getfixturevalue("postgres_settings")
    else:
        fixture = request.param.replace("-", "_").replace("moto", "moto_endpoint")
        settings = new_table(request.getfixturevalue(fixture), table_name)
    with service_of(settings) as running:
        yield running


@pytest.fixture
def any_service(table_settings: Settings) -> Iterator[Service]:
    """Serve one store, for tests that do not depend on its kind."""
    with service_of(table_settings) as running:
        yield running
