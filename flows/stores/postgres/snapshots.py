"""Snapshots of the source, and locks that prevent a rewrite under them.

TRUNCATE and an ALTER that rewrites the table are not MVCC-safe: a snapshot that is
older than them reads an empty table. So a session locks the table first, holds the lock
while the snapshot is read, and checks that the table was not rewritten before.
"""

from collections.abc import Iterable
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.errors import SnapshotLost, SourceLocked
from flows.mapping.model import Mapping as EntityMapping
from flows.models import SourceTable
from flows.settings import Settings
from flows.stores.postgres.locks import TREE
from flows.stores.postgres.schema import describe_sources, tables_of
from flows.stores.postgres.session import translating_errors

# A table that is rewritten repeatedly cannot be read.
TRIES = 3

EXPORT_SNAPSHOT = """
SELECT pg_export_snapshot(),
       to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
            ELSE pg_current_wal_lsn() END::text
"""

# Stamps older than this are in the snapshot: no transaction that can still commit began
# before. One hour is subtracted if others' transactions are not visible, and if one is
# prepared, since PostgreSQL does not show when it began.
FIND_WATERMARK = """
SELECT to_char((CASE
    WHEN pg_is_in_recovery() OR NOT (
        pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'))
    THEN now() - interval '1 hour'
    ELSE least(now(), (SELECT min(xact_start) FROM pg_stat_activity),
               (SELECT min(prepared) - interval '1 hour' FROM pg_prepared_xacts))
    END) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
"""
# ``describe_sources`` refuses a table that cannot be read at all, with the reason.
IS_READABLE = """
SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND c.relkind IN ('r', 'p')
  AND has_schema_privilege(n.oid, 'USAGE') AND NOT row_security_active(c.oid)
  AND has_any_column_privilege(c.oid, 'SELECT')
"""
LOCK = sql.SQL("SELECT FROM {table} LIMIT 0")
# The row of pg_class is the snapshot's; the function returns the current value.
FIND_REWRITTEN = f"""
{TREE}
SELECT FROM pg_class c JOIN tree USING (oid)
WHERE c.relkind = 'r' AND c.relfilenode IS DISTINCT FROM pg_relation_filenode(c.oid)
LIMIT 1
"""  # noqa: S608 - only constants


def hold_tables(connection: Connection, names: Iterable[tuple[str, str]]) -> None:
    """Lock tables until the transaction ends, under one snapshot that matches them.

    *names* are schemas and tables. All sessions lock them in the same order.

    Raises:
        SourceLocked: another session has a table, or rewrites it repeatedly.
    """
    ordered = sorted(set(names))
    rewritten = ""
    for _ in range(TRIES):
        with translating_errors(), connection.cursor() as cursor:
            held = [name for name in ordered if _lock(cursor, name)]
            changed = (name for name in held if _is_rewritten(cursor, name))
            rewritten = ".".join(next(changed, ()))
        if not rewritten:
            return
        # The snapshot is older than the changes made during the wait for the lock.
        connection.rollback()
    message = f"{rewritten} is being rewritten."
    raise SourceLocked(message, "Run again when that has ended.")


def describe_held(
    connection: Connection, settings: Settings, mapping: EntityMapping | None = None
) -> tuple[SourceTable, ...]:
    """Lock the tables of a mapping, then describe them as ``describe_sources`` does."""
    hold_tables(connection, tables_of(settings, mapping).values())
    return describe_sources(connection, settings, mapping)


def _lock(cursor: Any, name: tuple[str, str]) -> bool:
    """Lock a table; return whether it can be read at all."""
    schema, table = name
    cursor.execute(IS_READABLE, {"schema": schema, "table": table})
    if not cursor.rowcount:
        return False
    cursor.execute(LOCK.format(table=sql.Identifier(schema, table)))
    return True


def _is_rewritten(cursor: Any, name: tuple[str, str]) -> bool:
    schema, table = name
    cursor.execute(FIND_REWRITTEN, {"schema": schema, "table": table})
    return bool(cursor.rowcount)


def require_not_rewritten(connection: Connection, source: SourceTable) -> None:
    """Refuse rows of a table that was rewritten after the snapshot.

    Raises:
        SnapshotLost: the table was rewritten after the lock was released.
    """
    with translating_errors(), connection.cursor() as cursor:
        if _is_rewritten(cursor, (source.schema, source.table)):
            message = f"{source.name} was rewritten after the snapshot was taken."
            raise SnapshotLost(message, "Run again to read it under a new snapshot.")


def export_snapshot(connection: Connection) -> tuple[str, str]:
    """Export the session's snapshot; return its name, and its time and LSN.

    Other sessions can read under it only while this session stays open.
    """
    with connection.cursor() as cursor:
        cursor.execute(EXPORT_SNAPSHOT)
        name, time, lsn = cursor.fetchone() or ("", "", "")
    return str(name), f"{time}, LSN {lsn}"


def read_watermark(connection: Connection) -> str:
    """Return the time from which a later run must read again.

    It is the server's time at the snapshot, or the start of the oldest open
    transaction: rows that it has stamped and not yet committed are not visible in this
    run.
    """
    with connection.cursor() as cursor:
        cursor.execute(FIND_WATERMARK)
        (watermark,) = cursor.fetchone() or ("",)
    return str(watermark)
