"""Runs in separate processes, on a target that is slow enough to disturb them."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psycopg2

from flows.stores.dynamodb.schema import create_table
from flows.stores.dynamodb.table import EnterpriseTable
from tests.support.expected_items import enterprises, fill
from tests.support.target_table import open_at
from tests.support.warm_command import Commands, Process

# A run that does not end takes the whole time.
SECONDS = 120


def make_target(endpoint: str, name: str, url: str, rows: int) -> EnterpriseTable:
    """Fill the source with rows and create the table for them."""
    fill(url, rows)
    table = open_at(endpoint, name)
    create_table(table)
    return table


def environment_of(table: EnterpriseTable, url: str) -> dict[str, str]:
    """Return the environment of a run from the source into the table."""
    return os.environ | {
        "DATABASE_URL": url,
        "DYNAMODB_ENDPOINT": table.endpoint,
        "DYNAMODB_ENTERPRISE_TABLE": table.name,
        "AWS_REGION": "eu-west-1",
        "LEASE_SECONDS": "15",
    }


@contextmanager
def starting(
    commands: Commands, environment: dict[str, str], folder: Path
) -> Iterator[Callable[..., Process]]:
    """Yield a function that starts a command; kill running commands at the end."""
    started: list[Process] = []

    def start(*arguments: str, **variables: str) -> Process:
        process = commands.start(arguments, environment | variables, folder)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def ended(process: Process) -> tuple[int, Any, str]:
    """Wait for the end; return the exit code, the JSON and the log."""
    output, errors = process.communicate(timeout=SECONDS)
    assert "Traceback" not in errors, errors
    return process.returncode or 0, json.loads(output), errors


def await_items(table: EnterpriseTable, least: int) -> None:
    """Wait until this number of enterprises has arrived."""
    end = time.monotonic() + SECONDS
    while len(enterprises(table.client, table.name)) < least:
        assert time.monotonic() < end, "nothing arrives"
        time.sleep(0.2)


@contextmanager
def reading_meanwhile(url: str) -> Iterator[list[float]]:
    """Read the table as an application does; yield the duration of each read."""
    waits: list[float] = []
    done = Event()

    def read() -> None:
        with closing(psycopg2.connect(url)) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            while not done.wait(0.2):
                begun = time.monotonic()
                cursor.execute("SELECT FROM enterprises LIMIT 1")
                waits.append(time.monotonic() - begun)

    thread = Thread(target=read)
    thread.start()
    try:
        yield waits
    finally:
        done.set()
        thread.join()
