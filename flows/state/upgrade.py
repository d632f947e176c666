"""The way of a former state to the tables of this version.

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
    """Bring a state to the tables of this version, or make them; its runs stay.

    Two processes may do so at once: the second finds it done.

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
    if version > VERSION:
        message = f"The state{shown(text)} is of version {version}, newer than"
        message += f" {VERSION}, which this program knows."
        remedy = "Use the program that wrote it, or set STATE_URL to another state."
        raise SettingsError(message, remedy)


def _read_version(connection: sa.Connection) -> int:
    """Return a state's version; before there were versions it was 1, or is empty."""
    if not sa.inspect(connection).has_table(versions.name):
        return 1
    return connection.scalar(sa.select(sa.func.max(versions.c.version))) or 1


def _move_former_tables(connection: sa.Connection) -> None:
    """Give the tables of a state without a prefix theirs; an application's stay."""
    for former, table in _former_tables(connection).items():
        rename = f'ALTER TABLE "{former}" RENAME TO "{table.name}"'
        connection.exec_driver_sql(rename)


def find_runs(connection: sa.Connection) -> sa.Table | None:
    """Return the table of runs, as it is named in a state that is not moved yet too."""
    if sa.inspect(connection).has_table(runs.name):
        return runs
    for former, table in _former_tables(connection).items():
        if table is runs:
            return runs.to_metadata(sa.MetaData(), name=former)
    return None


def _former_tables(connection: sa.Connection) -> dict[str, sa.Table]:
    """Return by their former names the tables that a state has without a prefix.

    An application may have tables of these names: a state's has exactly its columns.
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
