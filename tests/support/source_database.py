"""A real source for tests: statements by its owner, and reads as in the program.

A database takes a tenth of a second to create and drop, so tests may share one that is
emptied after each of them.
"""

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
import psycopg2
import pytest

from flows.models import PartitionSpec, SourceTable
from flows.settings import Settings
from flows.stores.postgres.schema import describe_source
from flows.stores.postgres.session import open_source

# Detected without settings: the columns have the default names and types.
TABLE = """
CREATE TABLE public.enterprises (
    id bigint PRIMARY KEY, name text, created_date timestamptz, updated_date timestamptz
)
"""

EMPTY = """
DO $$
DECLARE schema name;
BEGIN
    FOR schema IN SELECT nspname FROM pg_namespace
        WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
    LOOP EXECUTE format('DROP SCHEMA %I CASCADE', schema); END LOOP;
    EXECUTE format('ALTER DATABASE %I RESET ALL', current_database());
END $$;
CREATE SCHEMA public;
GRANT USAGE ON SCHEMA public TO PUBLIC;
"""


@dataclass(frozen=True)
class SourceDatabase:
    """A database, accessed as the user in its URL."""

    url: str

    def run(self, *statements: str, values: Sequence[object] = ()) -> None:
        """Run statements outside any transaction; *values* are for each of them."""
        with closing(psycopg2.connect(self.url)) as connection:
            connection.set_client_encoding("UTF8")
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement, values or None)

    def ask(self, query: str) -> Any:
        """Return the single value of a query."""
        with (
            closing(psycopg2.connect(self.url)) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(query)
            return (cursor.fetchone() or [None])[0]

    def as_user(self, name: str, password: str = "") -> "SourceDatabase":
        """Return the same database for another user."""
        parts = urlsplit(self.url)
        user = f"{name}:{password}@" if password else f"{name}@"
        netloc = user + parts.netloc.rpartition("@")[2]
        return SourceDatabase(parts._replace(netloc=netloc).geturl())

    def settings(self, **values: object) -> Settings:
        """Create settings that name this database."""
        return Settings.isolated(database_url=self.url, **values)

    def describe(self, **values: object) -> SourceTable:
        """Describe the source table, by these settings."""
        settings = self.settings(**values)
        with open_source(settings) as connection:
            return describe_source(connection, settings)

    def partitions(self, rows: int, **values: object) -> list[pd.DataFrame]:
        """Plan partitions of that many rows, and extract each of them."""
        # Describing a table needs none of its rows.
        from flows.extract import extract_enterprises, plan_extraction

        settings = self.settings(**values)
        with open_source(settings) as connection:
            source = describe_source(connection, settings)
            plan = plan_extraction(connection, source, rows)
            return [
                extract_enterprises(
                    connection,
                    PartitionSpec(
                        run_id="test",
                        number=number,
                        source=source,
                        lower=lower,
                        upper=upper,
                        duplicate_ids=plan.duplicate_ids,
                    ),
                )
                for number, lower, upper in plan.ranges
            ]

    def rows(self, **values: object) -> list[tuple[Any, ...]]:
        """Extract all rows at once, as tuples."""
        found = self.partitions(1_000_000, **values)
        return [row for f in found for row in f.itertuples(index=False, name=None)]


@contextmanager
def new_database(server: str, options: str = "") -> Iterator[SourceDatabase]:
    """Create a database on a server, and drop it after the block."""
    name = f"test_{uuid.uuid4().hex}"
    SourceDatabase(server).run(f"CREATE DATABASE {name} {options}")
    try:
        yield SourceDatabase(urlsplit(server)._replace(path=f"/{name}").geturl())
    finally:
        SourceDatabase(server).run(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def new_role(database: SourceDatabase) -> Iterator[str]:
    """Create a role that may only log in, and drop it after the block."""
    name = f"role_{uuid.uuid4().hex}"
    database.run(f"CREATE ROLE {name} LOGIN")
    try:
        yield name
    finally:
        database.run(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


@contextmanager
def demanding_password(database: SourceDatabase, role: str) -> Iterator[None]:
    """Require the password of a role, which is `right`, on the server."""
    database.run(f"ALTER ROLE {role} PASSWORD 'right'")
    rules = Path(database.ask("SHOW hba_file"))
    before = rules.read_bytes()
    try:
        rules.write_bytes(f"local all {role} scram-sha-256\n".encode() + before)
        database.run("SELECT pg_reload_conf()")
        yield
    finally:
        rules.write_bytes(before)
        database.run("SELECT pg_reload_conf()")


def await_refusal(stranger: SourceDatabase) -> None:
    """Wait until the server has reloaded its rules."""
    for _ in range(100):
        try:
            stranger.run()
        except psycopg2.OperationalError:
            return
        time.sleep(0.05)
    pytest.fail("the server did not read its rules")
