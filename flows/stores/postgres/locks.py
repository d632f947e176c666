"""Sessions that hold, or wait for, a lock that keeps ours from reading a table.

Only ACCESS EXCLUSIVE does: ALTER TABLE, TRUNCATE, VACUUM FULL, CLUSTER, DROP, REINDEX
and a bare LOCK TABLE take it.
"""

from collections.abc import Sequence
from typing import Any

from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.errors import SourceLocked

# Only the first word of a statement: the rest may contain values of rows.
SESSION = """
a.pid, a.usename, a.application_name, a.state,
upper(substring(a.query from '^\\s*([A-Za-z]+)'))
"""
# The table with its partitions.
TREE = """
WITH RECURSIVE tree AS (
    SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %(schema)s AND c.relname = %(table)s
    UNION ALL SELECT i.inhrelid FROM pg_inherits i JOIN tree t ON i.inhparent = t.oid)
"""
# Those that hold the lock come first. A prepared transaction has no session.
FIND_HOLDERS = f"""
{TREE}
SELECT {SESSION}
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.mode = 'AccessExclusiveLock' AND l.pid IS DISTINCT FROM pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.relation IN (SELECT oid FROM tree UNION ALL
                     SELECT i.indexrelid FROM pg_index i JOIN tree ON oid = i.indrelid)
ORDER BY l.granted DESC LIMIT 1
"""  # noqa: S608 - only constants
# Only locks on relations: CREATE INDEX CONCURRENTLY waits for the snapshot itself, and
# blocks no reader meanwhile.
FIND_WAITING = f"""
SELECT {SESSION}
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE NOT l.granted AND l.locktype = 'relation'
  AND a.application_name IS DISTINCT FROM %(name)s
  AND pg_blocking_pids(l.pid) && ARRAY(
      SELECT pid FROM pg_stat_activity WHERE application_name = %(name)s)
"""  # noqa: S608 - the same
# Tables whose quoted names are in a statement, in the order of their places.
FIND_NAMED = """
SELECT nspname, relname FROM (
    SELECT n.nspname, c.relname, strpos(%(statement)s, format('"%%s"."%%s"',
        replace(n.nspname, '"', '""'), replace(c.relname, '"', '""'))) AS place
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p')) named
WHERE place > 0 ORDER BY place, length(relname) DESC
"""
# Names of tables come before ids of rows, of which there may be many.
STATEMENT_CHARACTERS = 10_000
END_SESSIONS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = %(name)s AND usename = current_user AND pid <> pg_backend_pid()
"""


def find_locked(connection: Connection, statement: str) -> tuple[str, str] | None:
    """Return schema and name of the table for whose lock a statement waited.

    It is the first table named in the statement that another session has locked, or
    else the first one named; None if there is none.
    """
    with connection.cursor() as cursor:
        cursor.execute(FIND_NAMED, {"statement": statement[:STATEMENT_CHARACTERS]})
        named = [(str(schema), str(table)) for schema, table in cursor.fetchall()]
        for schema, table in named:
            cursor.execute(FIND_HOLDERS, {"schema": schema, "table": table})
            if cursor.fetchone() is not None:
                return schema, table
    return named[0] if named else None


def make_locked_error(
    connection: Connection, schema: str, table: str, seconds: int
) -> SourceLocked:
    """Create the error for a lock that was not granted in time; name its holder."""
    with connection.cursor() as cursor:
        cursor.execute(FIND_HOLDERS, {"schema": schema, "table": table})
        holder = cursor.fetchone()
    message = (
        f"{schema}.{table} could not be locked for reading within {seconds} s:"
        f" {_describe(holder)} holds an exclusive lock on it, or waits for one."
    )
    return SourceLocked(message, f"{_ending(holder)}. Then run again.")


def make_waiting_error(session: Sequence[Any], seconds: int) -> SourceLocked:
    """Create the error for a run that releases its locks; name the waiting session."""
    message = (
        f"{_describe(session)} has waited {seconds} s for a lock that"
        " is held to read the source: the lock was released."
    )
    remedy = "Run again, or resume, when that session is done."
    return SourceLocked(message[0].upper() + message[1:], remedy)


def _describe(session: Sequence[Any] | None) -> str:
    """Describe a session: its process id, user, program, state and statement."""
    if session is None:
        return "another session"
    pid, user, application, state, word = session
    if pid is None:
        return "a prepared transaction"
    facts = {"user": user, "application": application, "state": state}
    known = [f"{name} {value}" for name, value in facts.items() if value]
    return f"session {pid} ({', '.join([*known, word or 'unknown statement'])})"


def _ending(session: Sequence[Any] | None) -> str:
    if session is None or session[0] is None:
        return "Wait until it ends"
    return f"Wait until it ends, or end it: SELECT pg_terminate_backend({session[0]})"
