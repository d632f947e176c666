"""The proxy that the other tests depend on: each fault must behave as named."""

import json
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from http.client import HTTPConnection, IncompleteRead
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.fault_proxy import FaultProxy
from tests.support.faults import (
    black_hole,
    corrupt,
    delay,
    error,
    error_after,
    passing,
    read_part,
    reset_after,
    reset_before,
    truncate,
    write_part,
)


class Echo(BaseHTTPRequestHandler):
    """A store that answers each request with its own body."""

    protocol_version = "HTTP/1.1"
    bodies: list[bytes]

    def do_POST(self) -> None:
        """Record the body and send it back, with its checksum."""
        body = self.rfile.read(int(self.headers["content-length"]))
        self.bodies.append(body)
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-amz-crc32", str(zlib.crc32(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def applied() -> list[bytes]:
    """Return the list of bodies that reached the store."""
    return []


@pytest.fixture
def proxy(applied: list[bytes]) -> Iterator[FaultProxy]:
    """Run the store and a proxy in front of it."""
    handler = type("Handler", (Echo,), {"bodies": applied})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        with FaultProxy(f"http://127.0.0.1:{server.server_port}") as between:
            yield between
        server.shutdown()
        thread.join()


def connect(proxy: FaultProxy) -> "closing[HTTPConnection]":
    """Open a connection to the proxy."""
    return closing(HTTPConnection(urlsplit(proxy.url).netloc, timeout=10))


def ask(connection: HTTPConnection, content: Any, operation: str = "PutItem") -> Any:
    """Send a request; return status, stated checksum, and body."""
    headers = {"X-Amz-Target": f"DynamoDB_20120810.{operation}"}
    connection.request("POST", "/", json.dumps(content), headers)
    answer = connection.getresponse()
    body = answer.read()
    return answer.status, int(answer.headers["x-amz-crc32"]), body


def test_a_connection_serves_many_requests(proxy: FaultProxy) -> None:
    """A client must be able to keep its connection, as real ones do."""
    with connect(proxy) as connection:
        ports = set()
        for number in range(5):
            ask(connection, number)
            ports.add(connection.sock.getsockname()[1])

    assert len(ports) == 1
    assert [call.request.json for call in proxy.calls] == [0, 1, 2, 3, 4]


def test_connections_are_served_at_once(proxy: FaultProxy) -> None:
    """A slow answer to one client must not keep the others waiting."""
    proxy.add(delay(1))

    def one(number: int) -> int:
        with connect(proxy) as connection:
            return int(ask(connection, number)[0])

    begun = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(one, range(8)))

    assert statuses == [200] * 8
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(("fault", "reached"), [("before", 0), ("after", 1)])
def test_a_reset_is_a_reset(
    proxy: FaultProxy, applied: list[bytes], fault: str, reached: int
) -> None:
    """A client must receive RST, whether or not the store applied the request."""
    seen: list[int] = []
    resets = {
        "before": reset_before(),
        "after": reset_after(lambda: seen.append(len(applied))),
    }
    proxy.add(resets[fault])

    with connect(proxy) as connection, pytest.raises(ConnectionResetError):
        ask(connection, 1)

    assert len(applied) == reached
    assert seen == [1] * reached
    assert proxy.statuses("PutItem") == [None]


def test_damaged_answers_show_in_length_or_checksum(proxy: FaultProxy) -> None:
    """A truncated answer must be shorter than its header, a corrupt one as long."""
    proxy.add(truncate(0.5), times=1)
    proxy.add(corrupt(b"name"), times=1)
    with connect(proxy) as connection, pytest.raises(IncompleteRead):
        ask(connection, {"name": 1})
    with connect(proxy) as connection:
        status, stated, body = ask(connection, {"name": 1})

    assert (status, body) == (200, b'{"oame": 1}')
    assert stated == zlib.crc32(b'{"name": 1}')


def test_errors_have_the_form_of_dynamodb(
    proxy: FaultProxy, applied: list[bytes]
) -> None:
    """An error must carry status, type and checksum; only a late one was applied."""
    proxy.add(error("ThrottlingException"), times=1)
    proxy.add(error_after("InternalServerError", 500), times=1)
    with connect(proxy) as connection:
        answers = [ask(connection, number) for number in range(2)]

    found = [(status, json.loads(body)["__type"]) for status, _, body in answers]
    assert found == [
        (400, "com.amazonaws.dynamodb.v20120810#ThrottlingException"),
        (500, "com.amazonaws.dynamodb.v20120810#InternalServerError"),
    ]
    assert all(zlib.crc32(body) == stated for _, stated, body in answers)
    assert applied == [b"1"]


def test_a_part_of_a_batch_goes_through(
    proxy: FaultProxy, applied: list[bytes]
) -> None:
    """The rest of a batch must come back in the store's own form."""
    puts = [{"PutRequest": {"Item": {"PK": {"S": str(n)}}}} for n in range(3)]
    keys = [{"PK": {"S": str(number)}} for number in range(3)]
    read = {"Keys": keys, "ConsistentRead": True}
    proxy.add(write_part(2), operation="BatchWriteItem")
    proxy.add(read_part(0), operation="BatchGetItem")
    with connect(proxy) as connection:
        puts_asked = {"RequestItems": {"T": puts}}
        written = json.loads(ask(connection, puts_asked, "BatchWriteItem")[2])
        keys_asked = {"RequestItems": {"T": read}}
        found = json.loads(ask(connection, keys_asked, "BatchGetItem")[2])

    assert [json.loads(body) for body in applied] == [
        {"RequestItems": {"T": puts[:2]}},
    ]
    assert written["UnprocessedItems"] == {"T": puts[2:]}
    assert found == {"Responses": {"T": []}, "UnprocessedKeys": {"T": read}}


def test_a_rule_takes_the_requests_it_names(proxy: FaultProxy) -> None:
    """Operation, first, every, times and the first matching rule must decide."""
    late = proxy.add(error("Late"), operation="PutItem", first=2, every=3, times=2)
    proxy.add(error("Once", 500), when=lambda request: request.json == 4, times=1)
    with connect(proxy) as connection:
        statuses = [ask(connection, number)[0] for number in range(12)]
        other = ask(connection, 4, "GetItem")[0]

    assert statuses == [200, 400, 200, 200, 400, *[200] * 7]
    assert (late.met, late.played, other) == (13 - 1, 2, 500)


def test_a_rule_can_end_by_time(proxy: FaultProxy) -> None:
    """A timed throttle must begin with its first call, and then end."""
    proxy.add(error("ThrottlingException"), seconds=0.3)
    time.sleep(0.4)
    with connect(proxy) as connection:
        first = ask(connection, 1)[0]
        time.sleep(0.4)
        then = ask(connection, 2)[0]

    assert (first, then) == (400, 200)


def test_a_black_hole_ends_with_the_proxy(proxy: FaultProxy) -> None:
    """No answer must come back, and the end of the test must not wait for one."""
    proxy.add(black_hole())
    with connect(proxy) as connection:
        connection.timeout = 0.2
        with pytest.raises(TimeoutError):
            ask(connection, 1)


def test_a_broken_fault_fails_the_test(proxy: FaultProxy) -> None:
    """An error in a test's own callback must reach the test, not only the log."""

    def use() -> None:
        with FaultProxy(proxy.url) as second, connect(second) as connection:
            second.add(passing(lambda: 1 // 0))
            with suppress(ConnectionError):
                ask(connection, 1)

    with pytest.raises(ZeroDivisionError):
        use()


def test_nothing_is_left_open(proxy: FaultProxy) -> None:
    """The end of a proxy must close the connections that clients keep open."""
    with FaultProxy(proxy.url) as second:
        host, port = str(urlsplit(second.url).hostname), urlsplit(second.url).port
        client = socket.create_connection((host, port or 0), timeout=5)
        time.sleep(0.1)
    with client:
        assert client.recv(1) == b""
