"""The upgrade of an earlier state to the tables of this version.

- 1: tables without a prefix, later with one.
- 2: the version itself is recorded.
- 3: a run moves several entities, each from a source, by a mapping.
"""

import sqlalchemy as sa
from sqlalchemy.schema import CreateColumn

from flows.errors import SettingsError
from flows.state.database import shown
from flows.state.tables import PREFIX, metadata, partitions, runs, sources, versions

# The advisory lock of PostgreSQL that a process holds while it upgrades.
LOCK = "SELECT pg_advisory_xact_lock(hashtext('enterprise_migration'))"
VERSION = ENTITIES_SINCE = 3
# The columns that tables have since version 3.
ADDED = (runs.c.mapping, partitions.c.entity, partitions.c.planned)


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
                _add_columns(connection)
                _extend_key_of_sources(connection)
                metadata.create_all(connection)
                connection.execute(sa.delete(versions))
                connection.execute(sa.insert(versions).values(version=VERSION))
    _require_known(version, text)


def read_version(connection: sa.Connection, text: str) -> int | None:
    """Return the version of a state that can be read without an upgrade.

    Return None if the state has no runs.

    Raises:
        SettingsError: its tables are of a newer version, or have no prefix yet.
    """
    found = find_runs(connection)
    if found is None:
        return None
    version = _read_version(connection)
    _require_known(version, text)
    if found is not runs:
        message = f"The state{shown(text)} is of an earlier version."
        raise SettingsError(message, "Upgrade it with: enterprises quarantine list")
    return version


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


def _add_columns(connection: sa.Connection) -> None:
    """Add the columns of version 3; all earlier partitions are of enterprises."""
    inspector = sa.inspect(connection)
    for column in ADDED:
        table = column.table.name
        if not inspector.has_table(table):
            continue
        if column.name in {one["name"] for one in inspector.get_columns(table)}:
            continue
        definition = CreateColumn(column).compile(dialect=connection.dialect)
        connection.exec_driver_sql(f'ALTER TABLE "{table}" ADD COLUMN {definition}')
        if column is partitions.c.planned:
            _mark_unplanned(connection)


def _mark_unplanned(connection: sa.Connection) -> None:
    # Before version 3 only the first partition of a plan could have no bounds; others
    # without bounds have rows that a resume moved again.
    unbounded = sa.and_(partitions.c.lower.is_(None), partitions.c.upper.is_(None))
    again = sa.update(partitions).where(partitions.c.number != 1, unbounded)
    connection.execute(again.values(planned=False))


def _extend_key_of_sources(connection: sa.Connection) -> None:
    """Rebuild the table of sources, of which a run had only one, with its new key."""
    if not sa.inspect(connection).has_table(sources.name):
        return
    kept = sa.Table(
        f"{sources.name}_{VERSION}",
        sa.MetaData(),
        *(sa.Column(column.name, column.type) for column in sources.c),
    )
    names = sources.c.keys()
    kept.create(connection)
    connection.execute(sa.insert(kept).from_select(names, sa.select(sources)))
    sources.drop(connection)
    sources.create(connection)
    connection.execute(sa.insert(sources).from_select(names, sa.select(kept)))
    kept.drop(connection)


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
            if columns == set(table.c.keys()) - {column.name for column in ADDED}:
                found[former] = table
    return found if runs in found.values() else {}
