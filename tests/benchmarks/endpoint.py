"""A DynamoDB endpoint in memory, fast enough not to limit a benchmark.

It runs as a separate process::

    python -m tests.benchmarks.endpoint --port 8000 --write-units 3000

or, in a program, ``with running_endpoint() as url``. It differs from DynamoDB as
follows: it checks no signature, region or account; tables have the keys PK and SK, are
active at once, and keep one second of unused write units, not five minutes; reads are
always consistent, and reads and transactions are never throttled; attributes of items
are not checked, except keys and size, and numbers stay as they are written; and it
supports only the expressions of this program.

``GET /consumption`` returns the consumption and the requests, second by second, and the
CPU seconds of the endpoint itself, as JSON; ``DELETE /consumption`` clears the counts.
"""

import argparse
import asyncio
import gc
import itertools
import os
import subprocess
import sys
import time
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate
from pathlib import Path
from typing import Any

import orjson

from tests.benchmarks.operations import AnswerError, Operations

ROOT = Path(__file__).parents[2]
MODULE = "tests.benchmarks.endpoint"
READY = "ready "
BODY_BYTES = 16 * 1_048_576
TARGET = b"x-amz-target: dynamodb_20120810."
LENGTH = b"\r\ncontent-length:"
ERROR_TYPES = "com.amazonaws.dynamodb.v20120810#"
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 413: "Payload Too Large"}


class Connection(asyncio.Protocol):
    """A kept-alive connection: requests in sequence, and their answers."""

    def __init__(self, operations: Operations, delay: float) -> None:
        self._operations = operations
        self._delay = delay
        self._received = bytearray()
        self._needed = 0
        self._numbers = itertools.count(1)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport for the answers."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each complete request."""
        self._received += data
        while len(self._received) >= self._needed:
            end = self._received.find(b"\r\n\r\n") + 4
            if end < 4:
                return
            head = bytes(self._received[:end]).lower()
            self._needed = end + _content_length(head)
            if len(self._received) < self._needed:
                return
            original = bytes(self._received[:end])
            body = bytes(self._received[end : self._needed])
            del self._received[: self._needed]
            self._needed = 0
            self._send(*self._answer(original, head, body))

    def _answer(self, original: bytes, head: bytes, body: bytes) -> tuple[int, bytes]:
        if len(body) > BODY_BYTES:
            return 413, b""
        begin = head.find(TARGET) + len(TARGET)
        if begin < len(TARGET):
            return self._control(head)
        operation = original[begin : head.find(b"\r", begin)].strip().decode()
        try:
            return 200, self._operations.answer(operation, body)
        except AnswerError as error:
            error.body["__type"] = ERROR_TYPES + error.body["__type"]
            return 400, orjson.dumps(error.body)

    def _control(self, head: bytes) -> tuple[int, bytes]:
        consumption = self._operations.consumption
        if head.startswith(b"delete /consumption "):
            consumption.clear()
            return 200, b"{}"
        if head.startswith(b"get /consumption "):
            own = {"cpu_seconds": time.process_time()}
            return 200, orjson.dumps(consumption.asdict() | own)
        return 404, b"{}"

    def _send(self, status: int, body: bytes) -> None:
        if self._delay:
            loop = asyncio.get_running_loop()
            loop.call_later(self._delay, self._write, status, body)
        else:
            self._write(status, body)

    def _write(self, status: int, body: bytes) -> None:
        head = (
            f"HTTP/1.1 {status} {REASONS[status]}\r\n"
            f"Content-Type: application/x-amz-json-1.0\r\n"
            f"Content-Length: {len(body)}\r\n"
            f"Date: {formatdate(usegmt=True)}\r\n"
            f"x-amz-crc32: {zlib.crc32(body)}\r\n"
            f"x-amzn-RequestId: {id(self):026X}{next(self._numbers):026X}\r\n\r\n"
        )
        self._transport.write(head.encode() + body)


def _content_length(head: bytes) -> int:
    begin = head.find(LENGTH) + len(LENGTH)
    return int(head[begin : head.find(b"\r", begin)]) if begin >= len(LENGTH) else 0


async def serve(
    port: int, write_units: float | None = None, delay: float = 0.0
) -> None:
    """Serve forever, and print the URL."""
    operations = Operations(write_units)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(operations, delay), "127.0.0.1", port
    )
    sys.stdout.write(f"{READY}http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


def read_consumption(url: str) -> Any:
    """Return the consumption of an endpoint, and clear it there."""
    answers = []
    for method in ("GET", "DELETE"):
        request = urllib.request.Request(f"{url}/consumption", method=method)  # noqa: S310
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            answers.append(orjson.loads(answer.read()))
    return answers[0]


@contextmanager
def running_endpoint(
    *, write_units: float | None = None, delay: float = 0.0
) -> Iterator[str]:
    """Run the endpoint as a process for the duration of a block; yield its URL."""
    command = [sys.executable, "-m", MODULE, "--with-parent"]
    command += ["--delay", str(delay)]
    if write_units is not None:
        command += ["--write-units", str(write_units)]
    path = os.pathsep.join([str(ROOT), *sys.path])
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
        text=True,
    ) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line.startswith(READY):
                message = "the benchmarks' endpoint did not start"
                raise RuntimeError(message)
            yield line.removeprefix(READY).strip()
        finally:
            process.kill()


async def _with_parent(port: int, write_units: float | None, delay: float) -> None:
    """Serve until the input closes, which happens when the parent ends."""
    loop = asyncio.get_running_loop()
    ended = loop.run_in_executor(None, sys.stdin.read)
    serving = asyncio.ensure_future(serve(port, write_units, delay))
    await asyncio.wait([ended, serving], return_when=asyncio.FIRST_COMPLETED)


def main() -> None:
    """Run the endpoint until it is interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument(
        "--write-units", type=float, help="throttle at that many per second"
    )
    parser.add_argument("--delay", type=float, default=0.0, help="seconds per answer")
    parser.add_argument("--with-parent", action="store_true", help="end with the input")
    arguments = parser.parse_args()
    # Nothing here creates cycles, and traversing a million items takes long.
    gc.disable()
    run = _with_parent if arguments.with_parent else serve
    with suppress(KeyboardInterrupt):
        asyncio.run(run(arguments.port, arguments.write_units, arguments.delay))


if __name__ == "__main__":
    main()
