"""The concurrent sessions of a run: as many as it needs, on one server.

Only opening them shows whether this is possible: the role, the database, the server or
a pooler before it may limit them, and a name may lead to several servers.
"""

from contextlib import ExitStack, suppress

from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.errors import SourceError
from flows.settings import Settings
from flows.stores.postgres.session import open_source

# Every role may call it, and no two servers start in the same microsecond. A standby
# has the system identifier and the timeline of its primary, but no snapshot of it.
FIND_SERVER = "SELECT pg_postmaster_start_time()"
# Sessions that suffice to detect a name of two servers, used in turn or at random.
LOOKS = 8
# A driver has two: one holds the snapshot, the other checks which sessions wait.
DRIVERS = 2


def require_sessions(
    settings: Settings, connection: Connection, count: int, *, there: int = DRIVERS
) -> None:
    """Raise unless *count* sessions can be opened beside the *there* open ones.

    Raises:
        SourceError: a session is refused, or is on another server.
    """
    server, found = _find_server(connection), set()
    with ExitStack() as opened:
        for number in range(count):
            try:
                session = opened.enter_context(open_source(settings))
            except SourceError as error:
                message = (
                    f"A run needs {count + there} sessions of PostgreSQL at once, and"
                    f" only {number + there} can be opened. {error.message}"
                )
                raise SourceError(message, error.remedy) from None
            found.add(_find_server(session))
    for _ in range(LOOKS - count):
        # A limit may still count sessions that were closed just now.
        with suppress(SourceError), open_source(settings) as session:
            found.add(_find_server(session))
    if others := found - {server}:
        message = (
            f"PostgreSQL at {connection.info.host} is several servers: sessions are on"
            f" those that were started at {' and '.join(sorted({server, *others}))}."
        )
        remedy = "Name one of them in DATABASE_URL: a snapshot is on one server only."
        raise SourceError(message, remedy)


def _find_server(connection: Connection) -> str:
    with connection.cursor() as cursor:
        cursor.execute(FIND_SERVER)
        return str((cursor.fetchone() or ("",))[0])
