"""``enterprises serve`` in a separate process, and a client of it."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from flows.settings import Settings
from tests.conftest import free_port

SECONDS = 60
# The limit applies to the process alone, which replaces the shell.
WITH_FILES = 'ulimit -n {} && exec "$@"'


@dataclass(frozen=True)
class Served:
    """A service in a separate process."""

    process: subprocess.Popen[str]
    client: httpx.Client
    started: dict[str, str]
    log: Path


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """Return the variables that name the store of these settings."""
    return {
        "STORAGE_MODE": settings.storage_mode,
        "AWS_REGION": settings.aws_region or "",
        "DYNAMODB_ENDPOINT": settings.dynamodb_endpoint or "",
        "DYNAMODB_ENTERPRISE_TABLE": settings.dynamodb_enterprise_table,
        "PORT": str(free_port()),
    } | more


@contextmanager
def served(
    variables: dict[str, str], *options: str, files: int = 1024
) -> Iterator[Served]:
    """Run ``enterprises serve`` until the end of the block."""
    command = [sys.executable, "-m", "flows.cli", "serve", "--json", *options]
    # A file: an unread pipe would block a service that logs much.
    with (
        tempfile.NamedTemporaryFile("w+") as log,
        subprocess.Popen(
            ["sh", "-c", WITH_FILES.format(files), "sh", *command],
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            started = json.loads(process.stdout.readline())
            with httpx.Client(
                base_url=started["url"], timeout=SECONDS, trust_env=False
            ) as client:
                await_health(client)
                yield Served(process, client, started, Path(log.name))
        finally:
            process.kill()


def await_health(client: httpx.Client) -> None:
    """Wait until the service answers; a worker may bind its port later."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            assert client.get("/health").status_code == 200
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("the service does not answer")
