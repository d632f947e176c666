"""A watch that keeps our sessions on the source from blocking the application.

A session that holds a snapshot cannot release only its lock. If another session waits
for one of our locks for some seconds, all our sessions are therefore ended. Rows that
were read under their snapshot are kept, and a resume takes a new snapshot.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from secrets import token_hex
from threading import Event, Thread
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.errors import MigrationError, SourceError, SourceLocked, SourceLost
from flows.settings import Settings
from flows.stores.postgres.interruption import interrupting_at
from flows.stores.postgres.locks import END_SESSIONS, FIND_WAITING, make_waiting_error
from flows.stores.postgres.session import connect, open_source, session_arguments
from flows.timing import require_time

logger = logging.getLogger(__name__)

WAITERS_CHECK_SECONDS = 1.0
# The server ends a session in milliseconds, unless its process is frozen.
END_SECONDS = 3.0
ASK_SECONDS = 6.0
LIMIT = "SET statement_timeout = '5s'; SET lock_timeout = '2s'"


class Watch:
    """Checks each second which sessions wait for those of a name, and ends these.

    ``reason`` then names the waiting session. *stop* is called first: a worker whose
    session ends would open another one.
    """

    def __init__(
        self, settings: Settings, session: str, stop: Callable[[], None] = lambda: None
    ) -> None:
        self.session = session
        self._stop = stop
        self.reason: SourceLocked | None = None
        self._patience = settings.lock_wait_seconds
        name = session_arguments(settings, session)["application_name"]
        self._name = {"name": name}
        self._arguments = session_arguments(settings, f"{session} watch")
        self._connection = self._connect()
        self._done = Event()
        self._thread = Thread(target=self._look, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the watch, and end the remaining sessions."""
        self._done.set()
        self._thread.join(END_SECONDS)
        if not self._thread.is_alive():
            with suppress(psycopg2.Error):
                self._ask(END_SESSIONS)
            self._connection.close()

    def _look(self) -> None:
        since: dict[int, float] = {}
        while not self._done.wait(WAITERS_CHECK_SECONDS):
            try:
                waiting = self._ask(FIND_WAITING)
            except (psycopg2.Error, MemoryError) as error:
                logger.warning(
                    "cannot query waiting sessions: %s", type(error).__name__
                )
                self._reconnect()
                continue
            now = time.monotonic()
            # A session may have waited up to one interval longer than observed.
            since = {
                each[0]: since.get(each[0], now - WAITERS_CHECK_SECONDS)
                for each in waiting
            }
            for each in waiting:
                if now - since[each[0]] >= self._patience:
                    self._give_way(each)
                    return

    def _give_way(self, waiting: Any) -> None:
        """End all sessions of the name, also those of workers on other machines."""
        self.reason = make_waiting_error(waiting, self._patience)
        logger.warning("%s", self.reason.message)
        self._stop()
        until = time.monotonic() + END_SECONDS
        with suppress(psycopg2.Error):
            while self._ask(END_SESSIONS) != [(0,)] and time.monotonic() < until:
                time.sleep(0.1)

    def _ask(self, query: str) -> list[tuple[Any, ...]]:
        # The server's timeouts do not work if this session's server process is frozen.
        limit = interrupting_at(self._connection, time.time() + ASK_SECONDS)
        with limit, self._connection.cursor() as cursor:
            cursor.execute(query, self._name)
            return cursor.fetchall()

    def _connect(self) -> Connection:
        connection = connect(self._arguments)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(LIMIT)
        return connection

    def _reconnect(self) -> None:
        self._connection.close()
        with suppress(SourceError, psycopg2.Error):
            self._connection = self._connect()


@contextmanager
def open_watched(
    settings: Settings,
    session: str = "",
    deadline: float | None = None,
    stop: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Connection, Watch]]:
    """Open a session on the source, as ``open_source`` does, that yields to others.

    *stop* is called when the session yields.

    Raises:
        SourceLocked: another session has the table, or has waited for it too long.
        Incomplete: the deadline has passed.
    """
    watch = Watch(settings, session or token_hex(4), stop)
    try:
        with open_source(
            settings, session=watch.session, deadline=deadline
        ) as connection:
            yield connection, watch
    except MigrationError as error:
        raise why_ended(error, watch, deadline) from None
    finally:
        watch.close()


def why_ended(
    error: MigrationError, watch: Watch, deadline: float | None
) -> MigrationError:
    """Return the cause of the end of a session, if *error* reports only the end."""
    if watch.reason is not None:
        return watch.reason
    if isinstance(error, SourceLost):
        try:
            require_time(deadline)
        except MigrationError as late:
            return late
    return error
