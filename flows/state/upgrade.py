"""The way of a state from tables without a prefix to those of now."""

import sqlalchemy as sa

from flows.state.tables import PREFIX, metadata, runs

# Of PostgreSQL's advisory locks, the one that whoever moves the tables holds.
LOCK = "SELECT pg_advisory_xact_lock(hashtext('enterprise_migration'))"


def move_former_tables(engine: sa.Engine) -> None:
    """Give the tables of a former state their prefix; an application's stay.

    Two processes may do so at once: the second finds it done.
    """
    there = sa.inspect(engine).get_table_names()
    if runs.name in there or runs.name.removeprefix(PREFIX) not in there:
        return
    sqlite = engine.dialect.name == "sqlite"
    with engine.begin() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if sqlite else LOCK)
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
