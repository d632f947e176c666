"""The upgrade of an earlier state to the tables of this version.

- 1: tables without a prefix, later with one.
- 2: the version itself is recorded.
"""

import sqlalchemy as sa

from flows.errors import SettingsError
from flows.state.database import shown
from flows.state.tables import PREFIX, metadata, runs, versions

# The advisory lock of PostgreSQL that a process holds while it upgrades.
LOCK = "SELECT pg_advisory_xact_lock(hashtext('enterprise_migration'))"
VERSION = 2


def upgrade(engine: sa.Engine, text: str) -> None:
    """Upgrade a state to the tables of this version, or create them; its runs are kept.

    Two processes may do so at once: the second one finds the upgrade done.

    Raises:
        SettingsError: the state is of a newer version of the program.
    """
    with engine.connect() as connection:
        version = _read_version(connection)
    if version < VERSION:
        lock = "BEGIN IMMEDIATE" if engine.dialect.name == "sqlite" else LOCK
        with engine.begin() as connection:
            connection.exec_driver_sql(lock)
            version = _read_version(connection)
            if version < VERSION:
                _move_former_tables(connection)
                metadata.create_all(connection)
                connection.execute(sa.delete(versions))
                connection.execute(sa.insert(versions).values(version=VERSION))
    _require_known(version, text)


def require_readable(connection: sa.Connection, text: str) -> bool:
    """Return whether a state has runs, without an upgrade.

    Raises:
        SettingsError: its tables are of another version of the program.
    """
    found = find_runs(connection)
    if found is None:
        return False
    _require_known(_read_version(connection), text)
    if found is not runs:
        message = f"The state{shown(text)} is of an earlier version."
        raise SettingsError(message, "Upgrade it with: enterprises quarantine list")
    return True


def _require_known(version: int, text: str) -> None:
    if version > VERSION:
        message = f"The state{shown(text)} has version {version}, but this program"
        message += f" supports only versions up to {VERSION}."
        remedy = "Use the version that wrote it, or set STATE_URL to another state."
        raise SettingsError(message, remedy)


def _read_version(connection: sa.Connection) -> int:
    """Return a state's version; without one it is 1, or the state is empty."""
    if not sa.inspect(connection).has_table(versions.name):
        return 1
    return connection.scalar(sa.select(sa.func.max(versions.c.version))) or 1


def _move_former_tables(connection: sa.Connection) -> None:
    """Add the prefix to a state's tables without one; keep those of an application."""
    for former, table in _former_tables(connection).items():
        rename = f'ALTER TABLE "{former}" RENAME TO "{table.name}"'
        connection.exec_driver_sql(rename)


def find_runs(connection: sa.Connection) -> sa.Table | None:
    """Return the table of runs, also by its former name in a state not yet upgraded."""
    if sa.inspect(connection).has_table(runs.name):
        return runs
    for former, table in _former_tables(connection).items():
        if table is runs:
            return runs.to_metadata(sa.MetaData(), name=former)
    return None


def _former_tables(connection: sa.Connection) -> dict[str, sa.Table]:
    """Return the tables that a state has without a prefix, by their former names.

    An application may have tables with these names: only those with exactly the columns
    of the state are the state's.
    """
    inspector = sa.inspect(connection)
    there = set(inspector.get_table_names())
    if runs.name in there or runs.name.removeprefix(PREFIX) not in there:
        return {}
    found = {}
    for table in metadata.sorted_tables:
        former = table.name.removeprefix(PREFIX)
        if former in there:
            columns = {column["name"] for column in inspector.get_columns(former)}
            if columns == set(table.c.keys()):
                found[former] = table
    return found if runs in found.values() else {}
