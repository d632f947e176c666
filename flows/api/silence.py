"""Silence: how long a request waits for a PostgreSQL that does not answer.

libpq waits without limit for a server that hangs: its timeouts are enforced by the
server, or apply only to a broken network.
"""

import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_READ, POLL_WRITE, set_wait_callback
from psycopg2.extensions import connection as Connection  # noqa: N812

# More than the statement_timeout of a session.
SECONDS = 6.0
EVENTS = {POLL_READ: select.POLLIN, POLL_WRITE: select.POLLOUT}


class _Heard(threading.local):
    """When this thread last heard from the server, or began to wait for it."""

    at: float | None = None


_heard = _Heard()


def limit() -> None:
    """Limit every wait for PostgreSQL in this process, which then cannot use COPY."""
    set_wait_callback(_wait)


@contextmanager
def counting() -> Iterator[None]:
    """Count the silence over a whole block, across all attempts in it."""
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
