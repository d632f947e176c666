"""Silence: how long a request waits for a PostgreSQL that does not answer.

libpq waits without end for a server that hangs: its time-outs are the server's own, or
those of a network that is cut.
"""

import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_READ, POLL_WRITE, set_wait_callback
from psycopg2.extensions import connection as Connection  # noqa: N812

# More than the server itself gives a statement.
SECONDS = 6.0
EVENTS = {POLL_READ: select.POLLIN, POLL_WRITE: select.POLLOUT}


class _Heard(threading.local):
    """When the server was last heard by this thread, or since when it should be."""

    at: float | None = None


_heard = _Heard()


def limit() -> None:
    """Limit every wait for PostgreSQL of this process, which then cannot use COPY."""
    set_wait_callback(_wait)


@contextmanager
def counting() -> Iterator[None]:
    """Count the silence over a whole block, whatever is tried in it."""
    _heard.at = time.monotonic()
    try:
        yield
    finally:
        _heard.at = None


def _wait(connection: Connection) -> None:
    since = _heard.at or time.monotonic()
    while (state := connection.poll()) != POLL_OK:
        waiting = select.poll()
        waiting.register(connection.fileno(), EVENTS[state])
        left = since + SECONDS - time.monotonic()
        if left <= 0 or not waiting.poll(1000 * left):
            message = f"the server was silent for {SECONDS:.0f} seconds"
            raise psycopg2.OperationalError(message)
        since = time.monotonic()
        if _heard.at is not None:
            _heard.at = since
