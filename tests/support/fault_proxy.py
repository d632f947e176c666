"""A DynamoDB endpoint that fails on demand: a proxy with a script of faults.

It stands in front of a real endpoint, on loopback and without TLS::

    from tests.support.fault_proxy import FaultProxy
    from tests.support.faults import reset_after

    with FaultProxy(endpoint) as proxy:
        proxy.add(reset_after(), operation="PutItem", times=1)
        ...  # use proxy.url as DYNAMODB_ENDPOINT
        assert proxy.statuses("PutItem") == [None, 400]

A fault (see ``faults.py``) is a function of an :class:`Exchange`: it returns the
answer to send, or None to reset the connection. The stores behind the proxy must not
check signatures: a partly forwarded batch no longer matches its signature.
"""

import http.client
import json
import os
import socket
import socketserver
import struct
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import Any, Self, TypeAlias
from urllib.parse import urlsplit

Headers: TypeAlias = tuple[tuple[str, str], ...]

UPSTREAM_SECONDS = 60
ERROR_NAMESPACE = "com.amazonaws.dynamodb.v20120810#"
# Each hop sets these headers itself.
HOP_HEADERS = frozenset(
    {"connection", "content-length", "keep-alive", "transfer-encoding"}
)
CHECKSUM = "x-amz-crc32"
# With this, closing a socket sends RST at once instead of FIN.
RESET_AT_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Request:
    """One incoming request; ``number`` counts all of them from 1."""

    number: int
    method: str
    path: str
    headers: Headers
    body: bytes

    @property
    def operation(self) -> str:
        """Return the DynamoDB operation, such as ``PutItem``."""
        names = (value for name, value in self.headers if name == "x-amz-target")
        return next(names, "").rpartition(".")[2]

    @property
    def json(self) -> Any:
        """Return the body's content."""
        return json.loads(self.body)

    def with_json(self, content: Any) -> Self:
        """Return the request with a different body."""
        return replace(self, body=json.dumps(content).encode())


@dataclass(frozen=True)
class Answer:
    """One answer; of its body only the first ``sent`` bytes are sent, if set."""

    status: int
    headers: Headers
    body: bytes
    sent: int | None = None

    @property
    def json(self) -> Any:
        """Return the body's content."""
        return json.loads(self.body)

    def with_json(self, content: Any) -> Self:
        """Return the answer with a different body, and the checksum of that body."""
        body = json.dumps(content).encode()
        kept = tuple(pair for pair in self.headers if pair[0] != CHECKSUM)
        stamp = (CHECKSUM, str(zlib.crc32(body)))
        return replace(self, headers=(*kept, stamp), body=body)


@dataclass(frozen=True)
class Exchange:
    """The input of a fault: the request, the endpoint behind, and a clock."""

    request: Request
    target: str
    closed: threading.Event

    def forward(self, request: Request | None = None) -> Answer:
        """Send a request to the real endpoint, by default the one that came in."""
        asked = request or self.request
        host = urlsplit(self.target).netloc
        upstream = http.client.HTTPConnection(host, timeout=UPSTREAM_SECONDS)
        with closing(upstream):
            upstream.putrequest(
                asked.method, asked.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in asked.headers:
                upstream.putheader(name, value)
            upstream.putheader("content-length", str(len(asked.body)))
            upstream.endheaders(asked.body)
            answer = upstream.getresponse()
            return Answer(answer.status, _headers(answer.headers), answer.read())

    def wait(self, seconds: float | None) -> None:
        """Wait, but not beyond the end of the proxy."""
        self.closed.wait(seconds)


Fault: TypeAlias = Callable[[Exchange], Answer | None]


@dataclass(frozen=True)
class Call:
    """A recorded call: ``status`` is None if the proxy reset the connection."""

    request: Request
    time: float
    status: int | None
    faulty: bool

    @property
    def operation(self) -> str:
        """Return the DynamoDB operation."""
        return self.request.operation


@dataclass
class Rule:
    """When a fault is played: on all or some of the matching requests.

    It starts with the ``first`` one and takes ``every`` n-th from there, at most
    ``times`` of them, and none later than ``seconds`` after the first it took.
    """

    fault: Fault
    operation: str | None = None
    when: Callable[[Request], bool] | None = None
    first: int = 1
    every: int = 1
    times: int | None = None
    seconds: float | None = None
    met: int = 0
    played: int = 0
    begun: float | None = None

    def takes(self, request: Request) -> bool:
        """Return whether to play the fault on this request, and count it."""
        if self.operation not in {None, request.operation}:
            return False
        if self.when is not None and not self.when(request):
            return False
        self.met += 1
        if self.met < self.first or (self.met - self.first) % self.every:
            return False
        now = time.monotonic()
        if self.begun is None:
            self.begun = now
        late = self.seconds is not None and now - self.begun > self.seconds
        if late or (self.times is not None and self.played >= self.times):
            return False
        self.played += 1
        return True


class FaultProxy:
    """The proxy: a context manager with the ``url`` to use and the ``calls`` it saw."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._rules: list[Rule] = []
        self._calls: list[Call] = []
        self._errors: list[Exception] = []
        self._count = 0
        self._server = _Server(self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}
        )

    @property
    def url(self) -> str:
        """Return the endpoint to use instead of the real one."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    @property
    def calls(self) -> list[Call]:
        """Return the calls answered or reset so far, in order of arrival."""
        with self._lock:
            return sorted(self._calls, key=lambda call: call.request.number)

    def calls_of(self, operation: str) -> list[Call]:
        """Return the calls of one operation."""
        return [call for call in self.calls if call.operation == operation]

    def statuses(self, operation: str) -> list[int | None]:
        """Return how the calls of one operation ended, None for a reset."""
        return [call.status for call in self.calls_of(operation)]

    def add(
        self,
        fault: Fault,
        *,
        operation: str | None = None,
        when: Callable[[Request], bool] | None = None,
        first: int = 1,
        every: int = 1,
        times: int | None = None,
        seconds: float | None = None,
    ) -> Rule:
        """Add a rule to the script; of several that match, the first one is played.

        Without any of *first*, *every*, *times* and *seconds* it never expires.
        """
        rule = Rule(fault, operation, when, first, every, times, seconds)
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Clear the script: from here on all requests pass."""
        with self._lock:
            self._rules.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._server.shutdown()
        self._thread.join()
        self._server.drop_connections()
        self._server.server_close()
        if self._errors:
            raise self._errors[0]

    def play(self, request: Request) -> Answer | None:
        """Answer one request by the script."""
        arrived = time.monotonic()
        with self._lock:
            self._count += 1
            request = replace(request, number=self._count)
            rule = next((rule for rule in self._rules if rule.takes(request)), None)
        exchange = Exchange(request, self._target, self._closed)
        try:
            answer = rule.fault(exchange) if rule else exchange.forward()
        except (OSError, http.client.HTTPException):
            # The real endpoint is unavailable, and so is this one.
            answer = None
        except Exception as error:
            # A broken fault must fail the test, not only its thread.
            self._errors.append(error)
            raise
        status = answer.status if answer else None
        call = Call(request, arrived, status, rule is not None)
        with self._lock:
            self._calls.append(call)
        return answer


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, proxy: FaultProxy) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.proxy = proxy
        self.open: set[socket.socket] = set()

    def drop_connections(self) -> None:
        """Wake the threads that wait for a next request."""
        for connection in list(self.open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Connection(socketserver.StreamRequestHandler):
    """One client connection, kept alive from request to request."""

    server: _Server
    disable_nagle_algorithm = True

    def handle(self) -> None:
        self.server.open.add(self.connection)
        try:
            # The client may disconnect at any time.
            with suppress(OSError):
                while request := self._read():
                    if not self._send(self.server.proxy.play(request)):
                        break
        finally:
            self.server.open.discard(self.connection)

    def _read(self) -> Request | None:
        line = self.rfile.readline().decode("latin-1")
        if not line.strip():
            return None
        method, path, _ = line.split(maxsplit=2)
        headers = http.client.parse_headers(self.rfile)
        body = self.rfile.read(int(headers.get("content-length", "0")))
        return Request(0, method, path, _headers(headers), body)

    def _send(self, answer: Answer | None) -> bool:
        """Send an answer; return False when the connection ended with it."""
        if answer is None:
            self._reset()
            return False
        length = ("content-length", str(len(answer.body)))
        lines = [f"HTTP/1.1 {answer.status} {http.client.responses[answer.status]}"]
        lines += [f"{name}: {value}" for name, value in (*answer.headers, length)]
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        self.wfile.write(head + answer.body[: answer.sent])
        return answer.sent is None

    def _reset(self) -> None:
        linger = (socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        self.connection.setsockopt(*linger)
        # Bypass Python's count of users, which would keep it open for them.
        os.close(self.connection.detach())


def json_answer(status: int, content: Any) -> Answer:
    """Create an answer in DynamoDB's form."""
    headers = (("content-type", "application/x-amz-json-1.0"),)
    return Answer(status, headers, b"").with_json(content)


def error_answer(
    code: str, status: int, message: str | None = None, **more: Any
) -> Answer:
    """Create an error in DynamoDB's form."""
    said = message or f"{code}, as scripted"
    content = {"__type": ERROR_NAMESPACE + code, "message": said, **more}
    return json_answer(status, content)


def _headers(found: http.client.HTTPMessage) -> Headers:
    pairs = ((name.lower(), value) for name, value in found.items())
    return tuple(pair for pair in pairs if pair[0] not in HOP_HEADERS)
