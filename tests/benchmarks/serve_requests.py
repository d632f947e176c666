"""Measure GET by id over HTTP: both stores, and a plain FastAPI and boto3 handler.

Run it with ``python -m tests.benchmarks.serve_requests``; it prints one JSON object.
Each service is a separate process with one worker, and the same threads send the
requests. The stores are the embedded PostgreSQL and DynamoDB Local. The three are
measured in turns, so that a busy machine slows all of them.
"""

import argparse
import http.client
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2

from flows.settings import Settings
from flows.stores.dynamodb.schema import create_table
from flows.stores.dynamodb.table import open_table
from flows.stores.embedded import embedded_postgres
from tests.conftest import await_http, free_port, running_java, simulator

PATH = "/api/enterprises"
SCHEMA = (Path(__file__).parents[2] / "data" / "schema.sql").read_text("utf-8")
ROW = "INSERT INTO public.enterprises VALUES (1, 'Acme', now(), now())"
STAMP = "2024-01-05T12:34:56.789Z"
ITEM = {"PK": "ENT#1", "SK": "METADATA", "id": "1", "entity_type": "enterprise"}
ITEM |= {"name": "Acme", "createdAt": STAMP, "updatedAt": STAMP}
# A handler of one day's work: no checks, no conditions, no log, boto3's client.
PLAIN = """
import os
import boto3
from fastapi import FastAPI, HTTPException

app = FastAPI()
table = boto3.resource(
    "dynamodb",
    region_name="eu-west-1",
    endpoint_url=os.environ["DYNAMODB_ENDPOINT"],
    aws_access_key_id="dummy",
    aws_secret_access_key="dummy",
).Table(os.environ["DYNAMODB_ENTERPRISE_TABLE"])


@app.get("/api/enterprises/{enterprise_id}")
def get(enterprise_id: str):
    key = {"PK": f"ENT#{enterprise_id}", "SK": "METADATA"}
    item = table.get_item(Key=key).get("Item")
    if item is None:
        raise HTTPException(404)
    names = ("id", "name", "createdAt", "updatedAt")
    return {name: item[name] for name in names}
"""


@contextmanager
def process(command: list[str], port: int, **variables: str) -> Iterator[None]:
    """Run a service for the duration of a block."""
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        env=os.environ | variables | {"PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as running:
        try:
            await_http(port, Path(os.devnull))
            yield
        finally:
            running.terminate()


def ask(port: int, count: int, times: list[float]) -> None:
    """Send requests over one connection; add the duration of each, in seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for _ in range(count):
        began = time.perf_counter()
        connection.request("GET", f"{PATH}/1")
        answer = connection.getresponse()
        answer.read()
        times.append(time.perf_counter() - began)
        if answer.status != http.client.OK:
            raise RuntimeError(answer.status)
    connection.close()


def measured(port: int, requests: int, clients: int) -> tuple[float, list[float]]:
    """Return the seconds of all requests together, and of each one."""
    times: list[float] = []
    began = time.perf_counter()
    threads = [
        threading.Thread(target=ask, args=[port, requests // clients, times])
        for _ in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began, times


def summary(rounds: list[tuple[float, list[float]]]) -> dict[str, float]:
    """Return requests per second and latencies over all rounds."""
    times = [each for _, some in rounds for each in some]
    return {
        "requests_per_second": round(len(times) / sum(s for s, _ in rounds), 1),
        "median_ms": round(1000 * statistics.median(times), 2),
        "p99_ms": round(1000 * statistics.quantiles(times, n=100)[98], 2),
    }


def start_services(stack: ExitStack) -> dict[str, int]:
    """Start both stores and the three services; return their ports."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    dynamodb = free_port()
    log = folder / "dynamodb-local.log"
    stack.enter_context(running_java(simulator() / "emulator", dynamodb, log))
    source = stack.enter_context(embedded_postgres())
    with closing(psycopg2.connect(source.url)) as connection, connection:
        connection.cursor().execute(SCHEMA + ROW)
    await_http(dynamodb, log)
    endpoint = f"http://127.0.0.1:{dynamodb}"
    target = open_table(Settings.isolated(dynamodb_endpoint=endpoint))
    create_table(target)
    target.create({**ITEM})
    (folder / "plain.py").write_text(PLAIN, "utf-8")
    variables = {
        "DATABASE_URL": source.url,
        "DYNAMODB_ENDPOINT": endpoint,
        "DYNAMODB_ENTERPRISE_TABLE": target.name,
        "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]),
    }
    ports = {name: free_port() for name in ("postgres", "dynamodb", "plain")}
    for mode in ("postgres", "dynamodb"):
        command = ["flows.cli", "serve"]
        running = process(command, ports[mode], **variables, STORAGE_MODE=mode)
        stack.enter_context(running)
    plain = ["uvicorn", "plain:app", "--no-access-log", "--port", str(ports["plain"])]
    stack.enter_context(process(plain, ports["plain"], **variables))
    return ports


def main() -> None:
    """Run the benchmark and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    with ExitStack() as stack:
        ports = start_services(stack)
        rounds: dict[str, list[tuple[float, list[float]]]] = {
            name: [] for name in ports
        }
        for port in ports.values():
            measured(port, 200, arguments.clients)
        for _ in range(arguments.rounds):
            for name, port in ports.items():
                done = measured(port, arguments.requests, arguments.clients)
                rounds[name].append(done)
        results = {name: summary(some) for name, some in rounds.items()}
    results |= {"requests": arguments.requests * arguments.rounds}
    results |= {"clients": arguments.clients, "python": platform.python_version()}
    print(json.dumps(results | {"machine": platform.machine()}, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
