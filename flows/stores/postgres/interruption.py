"""Interruption of waits for PostgreSQL that the server does not end by itself."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock, Timer

from psycopg2.extensions import connection as Connection  # noqa: N812


@contextmanager
def interrupting_at(connection: Connection, deadline: float | None) -> Iterator[None]:
    """Cut the connection at the *deadline*, in seconds since the epoch.

    A statement then fails as if the server had gone away. No timeout of libpq does so
    if the server's process is frozen and its machine is not.
    """
    if deadline is None:
        yield
        return
    lock, done = Lock(), False

    def cut() -> None:
        with lock, suppress(OSError):
            if not (done or connection.closed):
                # A duplicate handle: libpq closes the original.
                with socket.socket(fileno=os.dup(connection.fileno())) as same:
                    same.shutdown(socket.SHUT_RDWR)

    timer = Timer(max(0.0, deadline - time.time()), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        # The connection is closed next, and its handle may be reused.
        with lock:
            done = True
