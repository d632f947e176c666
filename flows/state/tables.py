"""The tables of the state, and the database that they are in."""

import errno
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from psycopg2.errorcodes import INSUFFICIENT_PRIVILEGE
from sqlalchemy.exc import SQLAlchemyError

from flows.errors import Incomplete, MigrationError, SettingsError
from flows.libpq import (
    describe_server,
    parse_postgres_url,
    quote_name,
    with_tls,
)
from flows.stores.postgres.refusals import explain_refusal

# A transaction takes milliseconds; only a process that is stopped holds one for long.
LOCK_SECONDS = 30.0
# What a database says of a table that another process makes at the same moment.
MADE_MEANWHILE = ("already exists", "duplicate key")
POSTGRES = re.compile(r"^postgres(?:ql)?(?:\+\w+)?:")

# An application beside which the state lies may have tables of the names after it.
PREFIX = "enterprise_migration_"

metadata = sa.MetaData()

runs = sa.Table(
    f"{PREFIX}run",
    metadata,
    sa.Column("run_id", sa.String(64), primary_key=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("finished_at", sa.DateTime(timezone=True)),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("identity", sa.JSON, nullable=False),
    sa.Column("since", sa.Text),
    sa.Column("watermark", sa.Text),
    sa.Column("report", sa.JSON),
)
partitions = sa.Table(
    f"{PREFIX}partition",
    metadata,
    sa.Column("run_id", sa.ForeignKey(runs.c.run_id), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("lower", sa.Text),
    sa.Column("upper", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("ledger", sa.JSON),
    sa.Column("quarantine", sa.JSON),
)
# What a run saw of the source: mapped and other columns, and its profile at the end.
sources = sa.Table(
    f"{PREFIX}source",
    metadata,
    sa.Column("run_id", sa.ForeignKey(runs.c.run_id), primary_key=True),
    sa.Column("source", sa.String(64), nullable=False, index=True),
    sa.Column("columns", sa.JSON, nullable=False),
    sa.Column("profile", sa.JSON),
)
# Runs that moved quarantined rows alone, once more.
replays = sa.Table(
    f"{PREFIX}replay",
    metadata,
    sa.Column("run_id", sa.ForeignKey(runs.c.run_id), primary_key=True),
    sa.Column("replayed", sa.Text, nullable=False),
)
# Nothing is ever taken out: what a further attempt replaces may be in the target too.
manifests = sa.Table(
    f"{PREFIX}manifest",
    metadata,
    sa.Column("serial", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.ForeignKey(runs.c.run_id), nullable=False, index=True),
    # The partition's; 0 for what a run deleted.
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
    # One letter a row, the first of its outcome; absent until the partition is done.
    sa.Column("outcomes", sa.LargeBinary),
)
# What each reconciliation of a migration found: counts alone, and no value of a row.
reconciliations = sa.Table(
    f"{PREFIX}reconciliation",
    metadata,
    sa.Column("serial", sa.Integer, primary_key=True),
    sa.Column("fingerprint", sa.String(64), nullable=False, index=True),
    sa.Column("name", sa.String(80), nullable=False),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("snapshot", sa.Text, nullable=False),
    sa.Column("mode", sa.String(16), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("verdict", sa.Text, nullable=False),
    sa.Column("source_rows", sa.Integer, nullable=False),
    sa.Column("target_items", sa.Integer, nullable=False),
    sa.Column("counts", sa.JSON, nullable=False),
)


def file_of(text: str) -> Path | None:
    """Return the file of a state's URL, None if it is in no file."""
    try:
        url = sa.make_url(text)
    except SQLAlchemyError:
        return None
    if url.get_backend_name() != "sqlite" or not url.database:
        return None
    return Path(url.database)


def make_engine(text: str) -> sa.Engine:
    """Make the engine of a state's URL; a file of SQLite is made with its folder.

    Raises:
        SettingsError: a part of its password might be taken for something else.
    """
    if POSTGRES.match(text):
        return sa.create_engine(
            "postgresql+psycopg2://",
            connect_args=with_tls(_libpq_arguments(text)),
            pool_pre_ping=True,
            # One is kept; how many there may be is for the server to say.
            pool_size=1,
            max_overflow=-1,
        )
    url = sa.make_url(text)
    if url.get_backend_name() != "sqlite":
        return sa.create_engine(url)
    if url.database in {None, "", ":memory:"}:
        message = "a state in memory is gone with its process"
        raise OSError(message)
    path = Path(str(url.database))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Quarantined rows are in it: nobody else's to read.
    path.touch(mode=0o600)
    # No pool: a partition opens its state, uses it a few times and is gone.
    engine = sa.create_engine(
        url, connect_args={"timeout": LOCK_SECONDS}, poolclass=sa.pool.NullPool
    )
    sa.event.listen(engine, "connect", _make_durable)
    return engine


def _libpq_arguments(text: str) -> dict[str, Any]:
    # Whatever driver the URL names, psycopg2 connects.
    return parse_postgres_url(POSTGRES.sub("postgresql:", text, count=1), "STATE_URL")


@contextmanager
def holding_sessions(text: str, count: int) -> Iterator[None]:
    """Hold *count* more sessions of a state in the block, where a server counts them.

    Raises:
        SettingsError: one of them is refused.
    """
    with ExitStack() as opened:
        if POSTGRES.match(text):
            engine = make_engine(text)
            opened.callback(engine.dispose)
            try:
                for _ in range(count):
                    opened.enter_context(engine.connect())
            except SQLAlchemyError as error:
                raise not_opened(text, error) from None
        yield


def make_tables(engine: sa.Engine) -> None:
    """Make the tables that are missing, though another process may make them too."""
    for _ in metadata.tables:
        try:
            metadata.create_all(engine)
        except SQLAlchemyError as error:
            if not any(words in str(error) for words in MADE_MEANWHILE):
                raise
        else:
            return
    metadata.create_all(engine)


def require_changeable(text: str) -> None:
    """Refuse a state that can only be read; nothing is left of what is tried.

    Raises:
        SettingsError: its file or its server takes no change.
        Incomplete: its disk is full.
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
            raise not_opened(text, error) from None
        kind = type(getattr(error, "orig", None) or error).__name__
        message = f"The state{shown(text)} can only be read ({kind})."
        remedy = "Let this user change it, and make files in its folder, or set"
        raise SettingsError(message, f"{remedy} STATE_URL to another.") from None
    finally:
        engine.dispose()


def not_opened(text: str, error: Exception) -> MigrationError:
    """Return what to raise where the database of a state's URL cannot be opened."""
    kind = type(getattr(error, "orig", None) or error).__name__
    message = f"The state{shown(text)} cannot be opened ({kind})."
    if _is_full(error):
        return Incomplete(message, "Its disk is full. Make room, then run again.")
    if _sqlite_error(error) == "SQLITE_BUSY":
        remedy = "Another process has held it locked: end that one, or wait for it."
        return SettingsError(message, remedy)
    cause = getattr(error, "orig", None)
    if POSTGRES.match(text) and cause:
        return _refused_by_server(_libpq_arguments(text), message, cause)
    if "://" not in text:
        message = f"STATE_URL is not a URL ({kind})."
        return SettingsError(message, "Give a file as sqlite:///folder/state.db.")
    remedy = "Set STATE_URL, e.g. sqlite:///data/runs/state.db; a damaged file can be"
    remedy += " moved away: the next run compares everything."
    return SettingsError(message, remedy)


def _refused_by_server(
    arguments: Mapping[str, Any], message: str, cause: Any
) -> SettingsError:
    if not cause.pgcode:
        why, remedy = explain_refusal(arguments, cause, "STATE_URL")
        return SettingsError(f"The state cannot be opened: {why}", remedy)
    if cause.pgcode == INSUFFICIENT_PRIVILEGE:
        user = quote_name(str(arguments.get("user", "user")))
        return SettingsError(message, f"GRANT CREATE ON SCHEMA public TO {user};")
    return SettingsError(message, "Set STATE_URL to a database that may be changed.")


def shown(url: str) -> str:
    """Return a URL for a message, its password hidden; nothing if it is none."""
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
    """Return the name of SQLite's error; nothing if it is none of SQLite's."""
    cause = getattr(error, "orig", None) or error
    return str(getattr(cause, "sqlite_errorname", ""))


def _make_durable(connection: Any, _record: object) -> None:
    for pragma in ("synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")
