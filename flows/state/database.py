"""The database of the state: its connections, and the errors when they fail."""

import errno
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import sqlalchemy as sa
from psycopg2.errorcodes import INSUFFICIENT_PRIVILEGE
from sqlalchemy.exc import SQLAlchemyError

from flows.errors import Incomplete, MigrationError, SettingsError
from flows.settings.libpq import (
    describe_server,
    parse_postgres_url,
    quote_name,
    with_tls,
)
from flows.state.tables import runs
from flows.stores.postgres.refusals import explain_refusal

# A transaction takes milliseconds; only a suspended process holds one for long.
LOCK_SECONDS = 30.0
# A command that only reads asks again rather than waits.
READ_SECONDS = 3.0
POSTGRES = re.compile(r"^postgres(?:ql)?(?:\+\w+)?:")


@dataclass(frozen=True)
class Database:
    """The database of a state's URL, whose changes are transactions."""

    engine: sa.Engine
    url: str

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Run the block in a transaction.

        Raises:
            Incomplete: the database refuses the transaction, or is unreachable.
        """
        try:
            with self.engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None)
            kind = type(cause or error).__name__
            message = (
                f"The state{shown(self.url)} cannot be used: {kind}"
                f" {cause if self.engine.dialect.name == 'sqlite' else ''}"
            )
            remedy = "Make room or repair the database, then run again."
            raise Incomplete(message.rstrip(), remedy) from None


def file_of(text: str) -> Path | None:
    """Return the file of a state's URL; None if the state is not in a file."""
    try:
        url = sa.make_url(text)
    except SQLAlchemyError:
        return None
    if url.get_backend_name() != "sqlite" or not url.database:
        return None
    return Path(url.database)


def make_engine(text: str) -> sa.Engine:
    """Return the engine of a state's URL; create a file of SQLite with its folder.

    Raises:
        SettingsError: the URL is ambiguous because of its password.
    """
    if POSTGRES.match(text):
        return sa.create_engine(
            "postgresql+psycopg2://",
            connect_args=with_tls(_libpq_arguments(text)),
            pool_pre_ping=True,
            # One connection is kept; the server limits how many there may be.
            pool_size=1,
            max_overflow=-1,
        )
    url = sa.make_url(text)
    if url.get_backend_name() != "sqlite":
        return sa.create_engine(url)
    if url.database in {None, "", ":memory:"}:
        message = "a state in memory is lost when its process ends"
        raise OSError(message)
    path = Path(str(url.database))
    path.parent.mkdir(parents=True, exist_ok=True)
    # The file has quarantined rows, so only its owner may read it.
    path.touch(mode=0o600)
    # No pool: a partition opens its state, uses it a few times and ends.
    engine = sa.create_engine(
        url, connect_args={"timeout": LOCK_SECONDS}, poolclass=sa.pool.NullPool
    )
    sa.event.listen(engine, "connect", _make_durable)
    return engine


def make_reading_engine(text: str) -> sa.Engine | None:
    """Return an engine that changes no file; None if the state's file is not there.

    Raises:
        SettingsError: the URL is ambiguous because of its password.
    """
    file = file_of(text)
    if file is None:
        return make_engine(text)
    if not file.exists():
        return None
    address = f"file:{quote(str(file.absolute()))}?mode=ro"
    return sa.create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(address, uri=True, timeout=READ_SECONDS),
        poolclass=sa.pool.NullPool,
    )


def _libpq_arguments(text: str) -> dict[str, Any]:
    # psycopg2 connects, regardless of the driver that the URL names.
    return parse_postgres_url(POSTGRES.sub("postgresql:", text, count=1), "STATE_URL")


@contextmanager
def holding_sessions(text: str, count: int) -> Iterator[None]:
    """Hold *count* more sessions of a state in the block, if a server counts them.

    Raises:
        SettingsError: the server refuses one of the sessions.
    """
    with ExitStack() as opened:
        if POSTGRES.match(text):
            engine = make_engine(text)
            opened.callback(engine.dispose)
            try:
                for _ in range(count):
                    opened.enter_context(engine.connect())
            except SQLAlchemyError as error:
                raise make_state_error(text, error) from None
        yield


def require_changeable(text: str) -> None:
    """Refuse a state that can only be read; the row of this check is rolled back.

    Raises:
        SettingsError: the file or the server of the state refuses changes.
        Incomplete: the disk of the state is full.
    """
    tried = {"status": "tried", "started_at": datetime.now(UTC), "identity": {}}
    row = {"run_id": uuid4().hex, "fingerprint": "", **tried}
    engine = make_engine(text)
    try:
        with engine.connect() as connection:
            connection.execute(sa.insert(runs).values(row))
            connection.rollback()
    except SQLAlchemyError as error:
        if _is_full(error) or _sqlite_error(error) == "SQLITE_BUSY":
            raise make_state_error(text, error) from None
        kind = type(getattr(error, "orig", None) or error).__name__
        message = f"The state{shown(text)} can only be read ({kind})."
        remedy = "Allow this user to change it, and to create files in its folder, or"
        raise SettingsError(message, f"{remedy} set STATE_URL to another.") from None
    finally:
        engine.dispose()


def make_state_error(text: str, error: Exception) -> MigrationError:
    """Return the error to raise if the database of a state's URL cannot be opened."""
    kind = type(getattr(error, "orig", None) or error).__name__
    message = f"The state{shown(text)} cannot be opened ({kind})."
    if _is_full(error):
        return Incomplete(message, "Its disk is full. Make room, then run again.")
    if _sqlite_error(error) == "SQLITE_BUSY":
        remedy = "End the other process that has locked it, or wait for it."
        return SettingsError(message, remedy)
    cause = getattr(error, "orig", None)
    if POSTGRES.match(text) and cause:
        return _make_server_error(_libpq_arguments(text), message, cause)
    if "://" not in text:
        message = f"STATE_URL is not a URL ({kind})."
        return SettingsError(message, "Write a file as sqlite:///folder/state.db.")
    remedy = "Set STATE_URL, e.g. sqlite:///data/runs/state.db; a damaged file can be"
    remedy += " moved away: the next run compares everything."
    return SettingsError(message, remedy)


def _make_server_error(
    arguments: Mapping[str, Any], message: str, cause: Any
) -> SettingsError:
    if not cause.pgcode:
        why, remedy = explain_refusal(arguments, cause, "STATE_URL")
        return SettingsError(f"The state cannot be opened: {why}", remedy)
    if cause.pgcode == INSUFFICIENT_PRIVILEGE:
        if "owner" in str(cause):
            # Only the owner of a table may change its columns.
            remedy = (
                "Upgrade it as the owner of its tables: enterprises quarantine list"
            )
            return SettingsError(message, remedy)
        user = quote_name(str(arguments.get("user", "user")))
        return SettingsError(message, f"GRANT CREATE ON SCHEMA public TO {user};")
    return SettingsError(message, "Set STATE_URL to a database that may be changed.")


def shown(url: str) -> str:
    """Return a URL for a message, its password hidden; empty if it is no URL."""
    if POSTGRES.match(url):
        return f" in {describe_server(_libpq_arguments(url))}"
    try:
        return f" in {sa.make_url(url).render_as_string(hide_password=True)}"
    except (SQLAlchemyError, ValueError):
        return ""


def _is_full(error: Exception) -> bool:
    """Return whether an error means that there is no room on the disk."""
    cause = getattr(error, "orig", None) or error
    full = _sqlite_error(error) == "SQLITE_FULL"
    return full or getattr(cause, "errno", None) == errno.ENOSPC


def _sqlite_error(error: Exception) -> str:
    """Return the name of SQLite's error; empty if the error is not SQLite's."""
    cause = getattr(error, "orig", None) or error
    return str(getattr(cause, "sqlite_errorname", ""))


def _make_durable(connection: Any, _record: object) -> None:
    for pragma in ("synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")
