"""PostgreSQL, the source: sessions, their errors, and the name of the table."""

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
from psycopg2 import errorcodes
from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.errors import (
    SettingsError,
    SnapshotLost,
    SourceError,
    SourceLocked,
    SourceLost,
)
from flows.settings import Settings
from flows.stores.postgres.interruption import interrupting_at
from flows.stores.postgres.locks import find_locked, make_locked_error
from flows.stores.postgres.refusals import explain_refusal

logger = logging.getLogger(__name__)


DEFAULTS: dict[str, Any] = {"connect_timeout": 10, "application_name": "enterprises"}
# The session of the snapshot is idle for the whole run: no router may drop it.
DEFAULTS |= {"keepalives_idle": 60, "keepalives_interval": 10, "keepalives_count": 6}
DEFAULTS |= {"tcp_user_timeout": 120_000}

# Every session reads the same text, whatever the role, the database or PGTZ set.
SESSION = """
SET TIME ZONE 'UTC';
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres';
SET bytea_output = 'hex';
SET extra_float_digits = 1;
SET standard_conforming_strings = on;
SET row_security = off;
SET search_path = pg_catalog;
SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN (
    'statement_timeout', 'transaction_timeout',
    'idle_in_transaction_session_timeout', 'idle_session_timeout');
SET lock_timeout = %(lock_timeout)s;
"""
_IDENTIFIER = r'(?:"((?:[^"]|"")+)"|([^".]+))'
_TABLE_NAME = re.compile(rf"(?:{_IDENTIFIER}\.)?{_IDENTIFIER}")
# Classes and codes: connection, operator intervention, timeouts, standby conflict.
_LOST = ("08", "57", "25P03", "25P04", "40001")


@contextmanager
def open_source(
    settings: Settings,
    snapshot: str | None = None,
    *,
    session: str = "",
    deadline: float | None = None,
) -> Iterator[Connection]:
    """Open a read-only, repeatable-read session on the source.

    With *snapshot*, it reads the same data as the exporter of that snapshot. It is cut
    at the *deadline*.

    Raises:
        SettingsError: no source is set, or its URL cannot be read.
        SourceError: PostgreSQL refuses the connection or a statement.
        SourceLocked: another session holds a lock that a statement needs.
        SourceLost: the connection ended while it was used.
    """
    arguments = session_arguments(settings, session, deadline)
    connection = connect(arguments)
    try:
        with interrupting_at(connection, deadline), translating_errors():
            _prepare(connection, snapshot, settings.lock_wait_seconds)
            yield connection
    except SourceLocked as error:
        if not error.statement:
            # It names the table already, or is that of another session.
            raise
        connection.rollback()
        name = find_locked(connection, error.statement)
        name = name or split_table_name(settings.source_table)
        raise make_locked_error(connection, *name, settings.lock_wait_seconds) from None
    finally:
        connection.close()


def session_arguments(
    settings: Settings, session: str = "", deadline: float | None = None
) -> dict[str, Any]:
    """Return arguments to connect; *session* is appended to the application's name."""
    arguments = DEFAULTS | settings.source_arguments()
    if session:
        # PostgreSQL truncates longer names at their end.
        program = str(arguments["application_name"])[: 62 - len(session)]
        arguments["application_name"] = f"{program} {session}"
    if deadline is not None:
        left = max(1, int(deadline - time.time()))
        arguments["connect_timeout"] = min(left, DEFAULTS["connect_timeout"])
    return arguments


@contextmanager
def translating_errors() -> Iterator[None]:
    """Translate psycopg2's errors into ours, without row values that they may hold."""
    try:
        yield
    except psycopg2.Error as error:
        state = error.pgcode or ""
        kind = type(error).__name__
        if state == errorcodes.LOCK_NOT_AVAILABLE:
            message = "A lock was not granted in time."
            locked = SourceLocked(message, "Run again later.")
            locked.statement = _statement_of(error)
            raise locked from None
        if not state or state.startswith(_LOST):
            message = f"The connection to PostgreSQL was lost ({kind} {state or '-'})."
            remedy = "Run again, or on the primary if this is a standby."
            raise SourceLost(message, remedy) from None
        if state in {errorcodes.INSUFFICIENT_PRIVILEGE, errorcodes.UNDEFINED_TABLE}:
            message = f"PostgreSQL refused: {error.diag.message_primary}."
            remedy = "Grant this role USAGE on the schema and SELECT on the table."
            raise SourceError(message, remedy) from None
        message = f"PostgreSQL failed with {kind} (SQLSTATE {state})."
        remedy = "See the server's log for the statement."
        if state == errorcodes.UNTRANSLATABLE_CHARACTER:
            message = f"A text's bytes cannot be converted to UTF-8 (SQLSTATE {state})."
            remedy = "Fix the row; the server's log has the bytes."
        raise SourceError(message, remedy) from None


def _statement_of(error: psycopg2.Error) -> str:
    statement = error.cursor.query if error.cursor else None
    return (statement or b"").decode(errors="replace")


def connect(arguments: dict[str, Any]) -> Connection:
    """Connect to the source.

    Raises:
        SourceError: the source cannot be reached; the message omits the password.
    """
    try:
        connection: Connection = psycopg2.connect(**arguments)
    except psycopg2.Error as error:
        message, remedy = explain_refusal(arguments, error, "DATABASE_URL")
    else:
        return connection
    # Raised here, without the original error, which may quote the password.
    raise SourceError(message, remedy)


def _prepare(
    connection: Connection, snapshot: str | None, lock_wait_seconds: int
) -> None:
    connection.set_client_encoding("UTF8")
    # Before any statement: a role may default to serializable, which a standby refuses.
    connection.set_session(
        isolation_level="REPEATABLE READ", readonly=True, autocommit=True
    )
    with connection.cursor() as cursor:
        cursor.execute(SESSION, {"lock_timeout": f"{lock_wait_seconds}s"})
    connection.autocommit = False
    if snapshot is not None:
        _import_snapshot(connection, snapshot)


def _import_snapshot(connection: Connection, snapshot: str) -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION SNAPSHOT %s", [snapshot])
    except psycopg2.Error as error:
        message = f"The snapshot {snapshot} is gone ({type(error).__name__})."
        remedy = "Run again: the session that held it has ended."
        raise SnapshotLost(message, remedy) from None


def split_table_name(name: str, key: str = "SOURCE_TABLE") -> tuple[str, str]:
    """Return a table's schema, `public` unless it names another, and its name.

    *key* is the setting, or the key of a mapping, that has the name.

    Raises:
        SettingsError: *name* is not a table name.
    """
    match = _TABLE_NAME.fullmatch(name.strip())
    if match is None:
        message = f"{key} {name!r} is not a table name."
        raise SettingsError(message, "Write schema.table, e.g. public.enterprises.")
    quoted_schema, schema, quoted_table, table = match.groups()
    parts = ((quoted_schema, schema or "public"), (quoted_table, table))
    first, second = (q.replace('""', '"') if q else plain for q, plain in parts)
    return first, second
