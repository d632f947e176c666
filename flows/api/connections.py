"""Connections: how many there are, and how long a client may keep one waiting.

uvicorn waits without end for a head, a body or a reader, and accepts connections until
the process has no file descriptor left.
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

# A whole request has to arrive in this time; a reader has to take a part of its answer.
CLIENT_SECONDS = 15.0
# The system reports a third of it as taken: one that reads 3 KB a second is alive.
SEND_BUFFER = 131_072
MOST_CONNECTIONS = 1000
LEAST_CONNECTIONS = 32
# Those of the store, the standard streams, the listening socket, the event loop.
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

    asyncio accepts all of them before it looks at the first one.
    """
    return min(LONGEST_BACKLOG, max(16, open_files() // 8))


def most_connections() -> int:
    """Return how many connections may be open at once.

    A backlog may have just been accepted while another one is being closed.
    """
    return min(MOST_CONNECTIONS, open_files() - OTHER_FILES - 2 * backlog())


def require_files() -> None:
    """Refuse to serve with so few file descriptors that the store would lack some.

    Raises:
        SettingsError: the limit is too low.
    """
    if most_connections() < LEAST_CONNECTIONS:
        message = f"This process may open only {open_files()} files (ulimit -n)."
        raise SettingsError(message, "Raise the limit, e.g. ulimit -n 1024.")


class LimitedConnection(H11Protocol):
    """A connection that is closed unless its client moves on.

    When too many are open, the one that has waited longest for its client makes room.
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
        """Stop to watch."""
        self._rest()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read a part of a request; its time began with its first part."""
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
        """Stop to wait for the client to read."""
        super().resume_writing()
        self._rest()
        self._watch()

    @property
    def waits(self) -> bool:
        """Return whether it waits for its client, and since when is ``since``."""
        return self._timer is not None

    @property
    def _awaits_client(self) -> bool:
        """Return whether it is the client's turn: to send, or to read."""
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
            # It reads slowly, but it reads.
            self._watch()
        elif left or not self._has_begun:
            self.transport.abort()
        else:
            detail = "The request did not arrive in time."
            self._refuse(problem_response(HTTPStatus.REQUEST_TIMEOUT, detail))

    @property
    def _has_begun(self) -> bool:
        """Return whether a part of a request is there, and nothing of its answer."""
        if self.cycle is not None and not self.cycle.response_complete:
            return not self.cycle.response_started
        return bool(self.conn.trailing_data[0])

    def _make_room(self) -> None:
        others = [c for c in self.connections if isinstance(c, LimitedConnection)]
        waiting = [each for each in others if each is not self and each.waits]
        if waiting:
            logger.warning("too many connections: one that only waits is closed")
            oldest = min(waiting, key=lambda each: each.since)
            # Now, since it is lost later: the next new one needs room for itself.
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
