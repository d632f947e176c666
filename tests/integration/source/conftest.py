"""A database for these tests, a role, and a table with any columns."""

from collections.abc import Iterator

import pytest

from tests.support.source_database import (
    EMPTY,
    SourceDatabase,
    await_refusal,
    demanding_password,
    new_database,
    new_role,
)
from tests.support.source_table import CANARY, COLUMNS, CreateTable


@pytest.fixture(scope="module")
def shared(postgres_server: str) -> Iterator[SourceDatabase]:
    """Create the database of these tests."""
    with new_database(postgres_server) as database:
        yield database


@pytest.fixture
def database(shared: SourceDatabase) -> Iterator[SourceDatabase]:
    """Return an empty database, as its superuser."""
    yield shared
    shared.run(EMPTY)


@pytest.fixture
def create_table(database: SourceDatabase) -> CreateTable:
    """Return a function that creates the table, with other columns if given."""

    def create(*more: str, table: str = "public.enterprises", **changed: str) -> None:
        columns = [text for text in (COLUMNS | changed).values() if text]
        database.run(f"CREATE TABLE {table} ({', '.join([*columns, *more])})")

    return create


@pytest.fixture
def role(database: SourceDatabase) -> Iterator[str]:
    """Create a role that may only log in."""
    with new_role(database) as name:
        yield name


@pytest.fixture
def locked_out(database: SourceDatabase, role: str) -> Iterator[SourceDatabase]:
    """Require a password for the role; return its database with a wrong one."""
    with demanding_password(database, role):
        stranger = database.as_user(role, CANARY)
        await_refusal(stranger)
        yield stranger
