"""Measure the HTTP service under attack: a frozen store, and waiting connections.

Run it with ``python -m tests.benchmarks.serve_attacks``; it prints one JSON object. The
service is a process over the embedded PostgreSQL, with ``ulimit -n 1024``. To measure
another version of it, name its folder: ``--code /path/to/checkout``.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg2

from flows.stores.embedded import embedded_postgres
from tests.conftest import await_http, free_port
from tests.support.frozen import frozen

SCHEMA = (Path(__file__).parents[2] / "data" / "schema.sql").read_text("utf-8")
ROW = "INSERT INTO public.enterprises VALUES (1, 'Acme', now(), now())"
SERVER_PID = "SELECT pg_read_file('postmaster.pid')"
HEAD = "GET {} HTTP/1.1\r\nHost: localhost\r\n"
REQUEST = HEAD.format("/api/enterprises/1") + "\r\n"
WITH_FILES = 'ulimit -n 1024 && exec "$@"'
HOST = "127.0.0.1"
# A client that waits longer counts as unanswered.
PATIENCE = 60.0


@contextmanager
def service(url: str, code: str) -> Iterator[tuple[int, Path, subprocess.Popen[bytes]]]:
    """Serve a database; yield the port, the log and the process."""
    port = free_port()
    variables = {"DATABASE_URL": url, "STORAGE_MODE": "postgres", "PORT": str(port)}
    command = [sys.executable, "-m", "flows.cli", "serve"]
    with (
        tempfile.NamedTemporaryFile("wb") as log,
        subprocess.Popen(
            ["sh", "-c", WITH_FILES, "sh", *command],
            env=os.environ | variables | {"PYTHONPATH": code},
            cwd=code,
            stdout=subprocess.DEVNULL,
            stderr=log,
        ) as process,
    ):
        try:
            await_http(port, Path(log.name))
            yield port, Path(log.name), process
        finally:
            process.kill()


async def ask(port: int, request: str = REQUEST) -> int:
    """Send a request over a new connection; return its status, or 0 without one."""
    with suppress(OSError, TimeoutError, ValueError, IndexError):
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(request.encode())
                return await read_status(reader)
            finally:
                writer.close()
    return 0


async def read_status(reader: asyncio.StreamReader) -> int:
    """Read a whole answer; return its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    _, _, length = head.partition("content-length: ")
    await reader.readexactly(int(length.split("\r\n")[0]))
    return int(head.split()[1])


async def client(port: int, end: float, met: list[tuple[int, float]]) -> None:
    """Send requests over one connection, as a client that obeys Retry-After."""
    while time.monotonic() < end:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection(HOST, port)
            with closing(writer):
                while time.monotonic() < end:
                    began = time.monotonic()
                    status = 0
                    try:
                        async with asyncio.timeout(PATIENCE):
                            writer.write(REQUEST.encode())
                            status = await read_status(reader)
                    finally:
                        met.append((status, time.monotonic() - began))
                    await asyncio.sleep(0.05 if status == 200 else 1.0)


async def frozen_store(
    port: int, server: int, seconds: float, clients: int
) -> dict[str, Any]:
    """Send requests from many clients while the store is frozen a sixth of the time."""
    met: list[tuple[int, float]] = []
    end = time.monotonic() + seconds
    asking = [asyncio.create_task(client(port, end, met)) for _ in range(clients)]
    await asyncio.sleep(seconds / 3)
    with frozen(server, children=True):
        await asyncio.sleep(seconds / 6)
    await asyncio.gather(*asking, return_exceptions=True)
    return {
        "statuses": dict(Counter(str(status) for status, _ in met)),
        "seconds": percentiles([took for _, took in met]),
        "seconds_of_503": percentiles([took for s, took in met if s == 503]),
    }


def percentiles(times: list[float]) -> dict[str, float]:
    """Return the percentiles of times, if there are enough."""
    if len(times) < 2:
        return {}
    cuts = statistics.quantiles(times, n=1000)
    chosen = {"p50": cuts[499], "p95": cuts[949], "p99": cuts[989], "max": max(times)}
    return {name: round(value, 3) for name, value in chosen.items()}


async def waiting_connections(port: int, sent: str) -> dict[str, Any]:
    """Open 1,500 connections that send a text and wait; then ask as new clients."""
    waiting = [asyncio.create_task(hold(port, sent)) for _ in range(1500)]
    await asyncio.sleep(5)
    began = time.monotonic()
    statuses = await asyncio.gather(*[ask(port) for _ in range(20)])
    took = time.monotonic() - began
    await asyncio.sleep(max(0.0, 20 - took))
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return {
        "statuses": dict(Counter(map(str, statuses))),
        "seconds": round(took, 2),
    }


async def hold(port: int, sent: str) -> None:
    """Hold a connection open, and open another one if it is closed."""
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(sent.encode())
                await reader.read()
            finally:
                writer.close()
        await asyncio.sleep(1)


def stop_seconds(port: int, server: int, process: subprocess.Popen[bytes]) -> float:
    """Return the duration of a stop while the store is frozen and requests wait."""

    async def ask_many() -> None:
        asking = [asyncio.create_task(ask(port)) for _ in range(40)]
        await asyncio.sleep(1)
        process.send_signal(signal.SIGTERM)
        for each in asking:
            each.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    with frozen(server, children=True):
        asyncio.run(ask_many())
        began = time.monotonic()
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        return round(time.monotonic() - began, 1)


def main() -> None:
    """Run the benchmark and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--code", default=str(Path(__file__).parents[2]))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=200)
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    with embedded_postgres() as store:
        with closing(psycopg2.connect(store.url)) as connection, connection:
            cursor = connection.cursor()
            cursor.execute(SCHEMA + ROW)
            cursor.execute(SERVER_PID)
            server = int((cursor.fetchone() or ["0"])[0].split()[0])
        with service(store.url, arguments.code) as (port, _, process):
            results["frozen_store"] = asyncio.run(
                frozen_store(port, server, arguments.seconds, arguments.clients)
            )
            results["stop_seconds_frozen"] = stop_seconds(port, server, process)
        for kind, sent in (("idle", ""), ("half_sent", HEAD.format("/health"))):
            with service(store.url, arguments.code) as (port, log, _):
                results[kind] = asyncio.run(waiting_connections(port, sent))
                results[kind] |= {"log_bytes_in_25_s": log.stat().st_size}
    print(json.dumps(results, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
