"""Runs in processes of their own that are killed, stopped and told to end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from expected_items import enterprises, expected_items, fill
from fault_proxy import FaultProxy
from faults import black_hole, delay, passing
from target_table import open_at

from flows.stores.dynamodb import EnterpriseTable
from flows.stores.tables import create_table

ROWS = 400
LEASE_SECONDS = 15
WRITES = {"BatchWriteItem", "PutItem", "UpdateItem", "DeleteItem"}


@dataclass
class Migration:
    """A source, its target behind a proxy, and processes that migrate between them."""

    source: str
    table: EnterpriseTable
    proxy: FaultProxy
    folder: Path

    def start(
        self, *options: str, endpoint: str | None = None
    ) -> subprocess.Popen[str]:
        """Start a run; the proxy is its endpoint unless another is given."""
        environment = os.environ | {
            "DATABASE_URL": self.source,
            "DYNAMODB_ENDPOINT": endpoint or self.proxy.url,
            "DYNAMODB_ENTERPRISE_TABLE": self.table.name,
            "AWS_REGION": "eu-west-1",
            "LEASE_SECONDS": str(LEASE_SECONDS),
            "PYTHONWARNINGS": "ignore",
        }
        command = [sys.executable, "-m", "flows.cli", "migrate", "--no-prefect"]
        return subprocess.Popen(
            [*command, "--partition-rows", "100", "--json", *options],
            env=environment,
            cwd=self.folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *options: str, endpoint: str | None = None) -> tuple[int, Any]:
        """Run to the end; return the exit code and the JSON."""
        with self.start(*options, endpoint=endpoint) as process:
            output, errors = process.communicate(timeout=120)
        assert "Traceback" not in errors, errors
        return process.returncode, json.loads(output)

    def assert_proven(self, code: int, values: Any) -> None:
        """Assert that a run is proven and the table is the source exactly."""
        assert (code, values["status"]) == (0, "proven"), values
        assert values["ledger"]["read"] == ROWS
        found = enterprises(self.table.client, self.table.name)
        assert found == expected_items(self.source)


@pytest.fixture
def migration(
    database_url: str, dynamodb_local: str, table_name: str, tmp_path: Path
) -> Iterator[Migration]:
    """Fill a source, make its target, and put a proxy before that."""
    fill(database_url, ROWS)
    table = open_at(dynamodb_local, table_name)
    create_table(table)
    with FaultProxy(dynamodb_local) as proxy:
        yield Migration(database_url, table, proxy, tmp_path)


def signalling(process: list[subprocess.Popen[str]], number: int) -> Callable[[], None]:
    """Return a function that signals the process and waits until it is so."""

    def send() -> None:
        process[0].send_signal(number)
        if number == signal.SIGKILL:
            process[0].wait()

    return send


@pytest.mark.parametrize(
    ("operation", "first"),
    [
        ("TransactWriteItems", 1),
        ("BatchWriteItem", 1),
        ("BatchWriteItem", 7),
        ("BatchWriteItem", 16),
        ("Scan", 2),
    ],
)
def test_a_killed_run_resumes_to_proven(
    migration: Migration, operation: str, first: int
) -> None:
    """SIGKILL in the lease, the batches or the proof loses nothing and doubles nothing.

    The request at which it dies is applied. The resume waits for the dead run's lease.
    """
    victim: list[subprocess.Popen[str]] = []
    kill = signalling(victim, signal.SIGKILL)

    def apply_and_kill(exchange: Any) -> None:
        exchange.forward()
        kill()

    migration.proxy.add(apply_and_kill, operation=operation, first=first, times=1)
    with migration.start() as process:
        victim.append(process)
        process.communicate(timeout=120)
    migration.proxy.clear()
    begun = time.monotonic()

    code, values = migration.run("--resume", "last")

    assert process.returncode == -signal.SIGKILL
    migration.assert_proven(code, values)
    # What its last partition had brought is found there by the resume, equal.
    ledger = values["ledger"]
    assert ledger["written"] + ledger["unchanged"] == ROWS
    assert ledger["unchanged"] <= 100
    assert time.monotonic() - begun < LEASE_SECONDS + 40


@pytest.mark.parametrize(
    ("number", "code", "hang"),
    [
        (signal.SIGTERM, 4, False),
        (signal.SIGINT, 130, False),
        (signal.SIGTERM, 4, True),
        (signal.SIGINT, 130, True),
    ],
)
def test_a_run_that_is_told_to_stop_stops_and_resumes(
    migration: Migration, number: int, code: int, *, hang: bool
) -> None:
    """SIGTERM and Ctrl-C end a run within five seconds, even if its request hangs."""
    told: list[float] = []
    victim: list[subprocess.Popen[str]] = []

    def tell(exchange: Any) -> Any:
        told.append(time.monotonic())
        victim[0].send_signal(number)
        return black_hole()(exchange) if hang else exchange.forward()

    migration.proxy.add(tell, operation="BatchWriteItem", first=5, times=1)
    with migration.start() as process:
        victim.append(process)
        _, errors = process.communicate(timeout=120)
    seconds = time.monotonic() - told[0]
    migration.proxy.clear()

    resumed = migration.run("--resume", "last")

    assert process.returncode == code, errors
    assert seconds < 5
    assert "Traceback" not in errors
    migration.assert_proven(*resumed)


def test_a_second_run_is_refused_until_the_lease_of_a_dead_one_ends(
    migration: Migration, dynamodb_local: str
) -> None:
    """Two runs at once: one ends with 5; after a SIGKILL a third takes over in time."""
    migration.proxy.add(delay(60), operation="BatchWriteItem", first=3)
    with migration.start() as holder:
        while len(migration.proxy.calls_of("BatchWriteItem")) < 2:
            time.sleep(0.1)
        second = migration.run(endpoint=dynamodb_local)
        holder.kill()
        holder.communicate()
    killed = time.monotonic()
    while (third := migration.run(endpoint=dynamodb_local))[0] == 5:
        assert time.monotonic() - killed < LEASE_SECONDS + 20

    assert second[0] == 5
    assert second[1]["error"]["code"] == "LeaseHeld"
    assert "holds the lease" in second[1]["error"]["message"]
    migration.assert_proven(*third)


def test_a_run_that_slept_past_its_lease_writes_no_more(
    migration: Migration, dynamodb_local: str
) -> None:
    """SIGSTOP past the lease, another run to its end, SIGCONT: no write, exit 4."""
    victim: list[subprocess.Popen[str]] = []
    stop = signalling(victim, signal.SIGSTOP)
    migration.proxy.add(passing(stop), operation="BatchWriteItem", first=3, times=1)
    with migration.start() as process:
        victim.append(process)
        while len(migration.proxy.calls_of("BatchWriteItem")) < 3:
            time.sleep(0.1)
        while (other := migration.run(endpoint=dynamodb_local))[0] == 5:
            time.sleep(1)
        migration.assert_proven(*other)
        calls = len(migration.proxy.calls)
        process.send_signal(signal.SIGCONT)
        output, errors = process.communicate(timeout=60)

    after = {call.operation for call in migration.proxy.calls[calls:]}
    assert process.returncode == 4, errors
    assert json.loads(output)["status"] == "incomplete"
    assert "has run out" in output
    # The lease is its own affair: renewing it and giving it back are refused by owner.
    assert not after & {"BatchWriteItem", "PutItem"}
    migration.assert_proven(0, other[1])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small tmpfs")
def test_a_full_disk_is_named_and_the_run_resumes(
    migration: Migration, tmp_path: Path
) -> None:
    """With 64 KB for the state a run ends with 4 and the path; with room it resumes."""
    folder = tmp_path / "data"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        code, values = migration.run()
        remount = ["mount", "-o", "remount,size=64m", str(folder)]
        subprocess.run(remount, check=True)
        resumed = migration.run("--resume", "last")
    finally:
        subprocess.run(["umount", str(folder)], check=True)

    assert code == 4
    assert "data/runs" in json.dumps(values)
    migration.assert_proven(*resumed)
