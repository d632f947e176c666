"""The source table of tests: its columns, and what creates it."""

from collections.abc import Callable
from typing import Any

from flows.models import SourceTable, enterprise_table
from flows.stores.postgres.session import open_source
from tests.support.source_database import SourceDatabase

CANARY = "Tr0ub4dorX"
COLUMNS = {
    "id": "id bigint PRIMARY KEY",
    "name": "name text",
    "created": "created_date timestamptz",
    "updated": "updated_date timestamptz",
}
CreateTable = Callable[..., None]


def make_source_table(**changes: Any) -> SourceTable:
    """Return what describing the usual source table gives, with *changes*."""
    return enterprise_table(**({"name_column": "name"} | changes))


def run_as_source(database: SourceDatabase, query: str) -> Any:
    """Run a query as the program does; return the first value, if there is one."""
    with open_source(database.settings()) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return (cursor.fetchone() or [None])[0] if cursor.description else None
