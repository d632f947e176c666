"""Connections: limits on their number and on how long a client keeps one waiting.

uvicorn waits without limit for a head, a body or a reader, and accepts connections
until the process has no file descriptor left.
"""

import asyncio
import logging
import resource
import socket
from functools import cache
from http import HTTPStatus

from fastapi import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from flows.api.problems import problem_response
from flows.errors import SettingsError

logger = logging.getLogger(__name__)

# A whole request must arrive in this time; a reader must take a part of its answer.
CLIENT_SECONDS = 15.0
# The system reports when a third of it is read: 3 KB per second keep a reader alive.
SEND_BUFFER = 131_072
MOST_CONNECTIONS = 1000
LEAST_CONNECTIONS = 32
# Files of the store, the standard streams, the listening socket, the event loop.
OTHER_FILES = 96
LONGEST_BACKLOG = 2048


@cache
def open_files() -> int:
    """Return how many files this process may have open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = OTHER_FILES + MOST_CONNECTIONS + 2 * LONGEST_BACKLOG
    return enough if files == resource.RLIM_INFINITY else min(files, enough)


def backlog() -> int:
    """Return how many connections may wait to be accepted.

    asyncio accepts all of them before it serves the first one.
    """
    return min(LONGEST_BACKLOG, max(16, open_files() // 8))


def most_connections() -> int:
    """Return how many connections may be open at once.

    A backlog may have just been accepted while another one is being closed.
    """
    return min(MOST_CONNECTIONS, open_files() - OTHER_FILES - 2 * backlog())


def require_files() -> None:
    """Refuse to serve if the limit on open files leaves too few for the store.

    Raises:
        SettingsError: the limit is too low.
    """
    if most_connections() < LEAST_CONNECTIONS:
        message = f"This process may open only {open_files()} files (ulimit -n)."
        raise SettingsError(message, "Raise the limit, e.g. ulimit -n 1024.")


class LimitedConnection(H11Protocol):
    """A connection that is closed if its client makes no progress.

    If too many are open, the one that has waited longest for its client is closed.
    """

    client_seconds = CLIENT_SECONDS
    _timer: asyncio.TimerHandle | None = None
    since = 0.0
    _unsent = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Watch the new connection, and make room for it."""
        super().connection_made(transport)
        connected = transport.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._watch()
        if len(self.connections) > most_connections():
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching."""
        self._rest()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read a part of a request, whose time limit starts with its first part."""
        if self.timeout_keep_alive_task is not None:
            self._rest()
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the answer to be read."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Stop waiting for the client to read."""
        super().resume_writing()
        self._rest()
        self._watch()

    @property
    def waits(self) -> bool:
        """Return whether it waits for its client; ``since`` is when that began."""
        return self._timer is not None

    @property
    def _awaits_client(self) -> bool:
        """Return whether it is the client's turn to send or to read."""
        cycle = self.cycle
        if cycle is None or self.flow.write_paused:
            return True
        return cycle.response_complete or cycle.more_body

    def _watch(self) -> None:
        if not self._awaits_client:
            self._rest()
        elif self._timer is None:
            self.since = self.loop.time()
            self._unsent = self.transport.get_write_buffer_size()
            self._timer = self.loop.call_later(self.client_seconds, self._expire)

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        left = self.transport.get_write_buffer_size()
        if 0 < left < self._unsent:
            # The client reads slowly, but makes progress.
            self._watch()
        elif left or not self._has_begun:
            self.transport.abort()
        else:
            detail = "The request did not arrive in time."
            self._refuse(problem_response(HTTPStatus.REQUEST_TIMEOUT, detail))

    @property
    def _has_begun(self) -> bool:
        """Return whether a part of a request has arrived and no answer has started."""
        if self.cycle is not None and not self.cycle.response_complete:
            return not self.cycle.response_started
        return bool(self.conn.trailing_data[0])

    def _make_room(self) -> None:
        others = [c for c in self.connections if isinstance(c, LimitedConnection)]
        waiting = [each for each in others if each is not self and each.waits]
        if waiting:
            logger.warning("too many connections: the longest waiting one is closed")
            oldest = min(waiting, key=lambda each: each.since)
            # At once: connection_lost may be called after the next one is made.
            self.connections.discard(oldest)
            oldest.transport.abort()
            return
        logger.warning("too many connections: a new one is refused")
        detail = "The service has too many connections."
        status = HTTPStatus.SERVICE_UNAVAILABLE
        self._refuse(problem_response(status, detail, headers={"Retry-After": "1"}))

    def _refuse(self, answer: Response) -> None:
        """Answer without the application, and close."""
        status = HTTPStatus(answer.status_code)
        headers = [*answer.raw_headers, (b"connection", b"close")]
        lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
        lines += [name + b": " + value for name, value in headers]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(answer.body)]))
        self.transport.close()
