"""The enterprises in PostgreSQL, for the service.

Identifiers are those that the migration finds, quoted by SQLAlchemy; every value is
bound. A change locks its row first, so that it applies to the row that was checked.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

import psycopg2
from sqlalchemy import (
    Connection,
    Row,
    Select,
    column,
    create_engine,
    delete,
    event,
    insert,
    select,
    table,
    update,
)
from sqlalchemy.exc import (
    DBAPIError,
    IntegrityError,
    ProgrammingError,
    SQLAlchemyError,
)
from sqlalchemy.sql.expression import ColumnClause

from flows.api import silence
from flows.api.ids import row_id
from flows.api.rows import Rows, as_enterprise
from flows.api.store import (
    Changed,
    Conflict,
    Enterprise,
    Matches,
    NotOffered,
    Page,
    Position,
    Unavailable,
    ValueRefused,
    next_stamp,
)
from flows.errors import MigrationError
from flows.settings import Settings
from flows.stores.postgres.schema import describe_source
from flows.stores.postgres.session import DEFAULTS, open_source

POOL: dict[str, Any] = {
    "pool_size": 8,
    "max_overflow": 24,
    "pool_timeout": 5,
    "pool_recycle": 1800,
    "pool_pre_ping": True,
    "hide_parameters": True,
}
# Describing a table takes a few hundredths of a second.
FINDING_SECONDS = 1.0
# The search path stays that of the role: its triggers may need it.
SESSION = """
SET TIME ZONE 'UTC';
SET datestyle = 'ISO, YMD';
SET default_transaction_isolation = 'read committed';
SET statement_timeout = '5s';
SET lock_timeout = '2s';
SET idle_in_transaction_session_timeout = '5s';
"""
# Errors that a name can cause: it is too long for its column or index, or has
# characters that the database's encoding lacks. Other data errors, such as an exhausted
# sequence, are not the client's.
NAME_REFUSED = frozenset({"22001", "22021", "22P05", "54000"})
# Raised by a trigger that refuses a change.
RAISED = "P0001"


class PostgresStore:
    """An ``EnterpriseStore`` over the table that the migration reads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        arguments = DEFAULTS | {"connect_timeout": 5} | settings.source_arguments()
        self._engine = create_engine(
            "postgresql+psycopg2://", connect_args=arguments, **POOL
        )
        # Before SQLAlchemy's first query, which a standby refuses otherwise.
        event.listen(self._engine, "connect", _prepare, insert=True)
        self._reading = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._found: Rows | None = None
        self._finding = Lock()

    def check(self) -> None:
        """Check that the database answers and that the table is usable."""
        self._read(select(*self._rows.shown).limit(0))

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def find(
        self,
        *,
        name: str | None = None,
        consistent: bool | None = None,  # noqa: ARG002
    ) -> list[Enterprise]:
        """Return all enterprises, or those of exactly this name."""
        query = select(*self._rows.shown)
        if name is None:
            return self._read(query)
        # Some types take different names for equal: citext, char(n), collations.
        found = self._read(query.where(self._rows.name == name))
        return [each for each in found if each.name == name]

    def read_page(
        self,
        limit: int,
        after: Position | None,
        *,
        by_name: bool = False,
        consistent: bool | None = None,  # noqa: ARG002
    ) -> Page:
        """Return up to *limit* enterprises by id, or by name and then by id."""
        rows = self._rows
        query = rows.select_by_name(after) if by_name else rows.select_by_id(after)
        found = self._fetch(query.limit(limit + 1))
        end = rows.position(found[limit - 1]) if len(found) > limit else None
        return Page([as_enterprise(row) for row in found[:limit]], end)

    def get(
        self,
        enterprise_id: str,
        *,
        consistent: bool | None = None,  # noqa: ARG002
    ) -> Enterprise | None:
        """Return the enterprise of this id, if there is one."""
        key = row_id(enterprise_id, self._rows.source.id_kind)
        if key is None:
            return None
        found = self._read(select(*self._rows.shown).where(self._rows.id == key))
        return found[0] if found else None

    def create(self, name: str, key: str | None = None) -> Enterprise:
        """Create an enterprise, with the id that is the column's default."""
        if key is not None:
            message = "Idempotency-Key is not supported: a sequence gives the ids."
            raise NotOffered(message, "Search for the name before sending again.")
        rows = self._rows
        values = {rows.source.name_column: name} | rows.stamped(creating=True)
        query = insert(rows.table).values(values).returning(*rows.shown)
        with self._change() as connection:
            made = connection.execute(query, {"now": next_stamp(None)}).one()
        return as_enterprise(made)

    def replace(
        self, enterprise_id: str, name: str, matches: Matches
    ) -> Enterprise | None:
        """Rename an enterprise with a later timestamp; return None if there is none."""
        rows = self._rows
        with self._change() as connection:
            there = self._lock(connection, enterprise_id, matches)
            if there is None:
                return None
            values = {rows.source.name_column: name} | rows.stamped(creating=False)
            query = update(rows.table).where(rows.id == there.id).values(values)
            now = {"now": next_stamp(there.updated_at)}
            changed = connection.execute(query.returning(*rows.shown), now).one()
        return as_enterprise(changed)

    def delete(self, enterprise_id: str, matches: Matches) -> bool:
        """Delete an enterprise; return False if there is none."""
        with self._change() as connection:
            there = self._lock(connection, enterprise_id, matches)
            if there is None:
                return False
            rows = self._rows
            connection.execute(delete(rows.table).where(rows.id == there.id))
        return True

    def describe(self) -> dict[str, Any]:
        """Raise, since there is no DynamoDB table in this mode."""
        message = "The service runs on PostgreSQL (STORAGE_MODE=postgres)."
        raise NotOffered(message, "Start it with STORAGE_MODE=dynamodb.")

    @property
    def _rows(self) -> Rows:
        # At first use, so that the service starts while its database is down.
        if self._found is None:
            # One thread asks; the others do not wait for a database that hangs.
            if not self._finding.acquire(timeout=FINDING_SECONDS):
                raise Unavailable("PostgreSQL has not described the table yet.")
            try:
                self._found = self._found or self._find_rows()
            finally:
                self._finding.release()
        return self._found

    def _find_rows(self) -> Rows:
        # Before the service starts, and in other programs, no wait is limited yet.
        end = time.time() + silence.SECONDS
        opening = open_source(self._settings, deadline=end)
        with silence.counting(), opening as connection:
            source = describe_source(connection, self._settings)
            encoding = connection.get_parameter_status("server_encoding")
        names = (
            source.id_column,
            source.name_column,
            source.created_column,
            source.updated_column,
        )
        columns: list[ColumnClause[Any]] = [column(name) for name in names]
        named = table(source.table, *columns, schema=source.schema)
        return Rows(source, named, encoding == "UTF8")

    def _read(self, query: Select[Any]) -> list[Enterprise]:
        return [as_enterprise(row) for row in self._fetch(query)]

    def _fetch(self, query: Select[Any]) -> Sequence[Row[Any]]:
        with self._translating(), self._reading.connect() as connection:
            return connection.execute(query).all()

    @contextmanager
    def _change(self) -> Iterator[Connection]:
        with self._translating(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _translating(self) -> Iterator[None]:
        """Turn SQLAlchemy's errors into ours, without the row values in them."""
        try:
            with silence.counting():
                yield
        # SQLAlchemy does not wrap psycopg2's error when a connection is returned.
        except (SQLAlchemyError, psycopg2.Error) as error:
            if isinstance(error, ProgrammingError):
                # The table was altered, and must be described again.
                self._found = None
            raise _translate(error) from None

    def _lock(
        self, connection: Connection, enterprise_id: str, matches: Matches
    ) -> Enterprise | None:
        rows = self._rows
        key = row_id(enterprise_id, rows.source.id_kind)
        if key is None:
            return None
        query = select(*rows.shown).where(rows.id == key).with_for_update()
        row = connection.execute(query).one_or_none()
        if row is None:
            return None
        there = as_enterprise(row)
        if not matches(there):
            raise Changed(f"The enterprise {there.id} was changed meanwhile.")
        return there


def _prepare(connection: Any, _: object) -> None:
    connection.set_client_encoding("UTF8")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(SESSION)
    connection.autocommit = False


def _translate(error: SQLAlchemyError | psycopg2.Error) -> MigrationError:
    origin = error.orig if isinstance(error, DBAPIError) else error
    state = getattr(origin, "pgcode", None) or "-"
    kind = f"{type(origin).__name__}, SQLSTATE {state}"
    if state in NAME_REFUSED:
        return ValueRefused(f"PostgreSQL cannot hold this value ({kind}).")
    if isinstance(error, IntegrityError) or state == RAISED:
        return Conflict(f"A constraint or trigger refuses the change ({kind}).")
    return Unavailable(f"PostgreSQL does not answer ({kind}).")
