"""Runs in separate processes that are killed, stopped, frozen, or out of disk space.

Each time a later run must bring the table to the source exactly, with nothing counted
twice. Processes start slowly and leases expire slowly, so tests run them in parallel.
"""

import json
import os
import shlex
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from flows.models import Ledger
from flows.stores.dynamodb.lease import LEASE
from flows.stores.dynamodb.origin import ORIGIN
from flows.stores.dynamodb.schema import create_table
from flows.stores.dynamodb.table import OWN_PARTITION, EnterpriseTable
from tests.support.expected_items import all_items, enterprises, expected_items, fill
from tests.support.fault_proxy import Answer, Call, Exchange, Fault, FaultProxy, Request
from tests.support.faults import black_hole, passing, reset_after
from tests.support.small_disk import fill_up, small_disk
from tests.support.target_table import open_at
from tests.support.warm_command import Commands, Process

ROWS = 100
# Two partitions of two batches each.
OPTIONS = ["--no-prefect", "--json", "--partition-rows", "50"]
LEASE_SECONDS = 15
# A run stops within five (``tests.benchmarks.stop_seconds``); a busy machine may take
# longer. A run that ignores the signal would never end.
STOP_SECONDS = 30
PROCESS_SECONDS = 120
RESUME = ("--resume", "last")
WRITES = {
    "BatchWriteItem",
    "DeleteItem",
    "PutItem",
    "TransactWriteItems",
    "UpdateItem",
}


@dataclass
class Ended:
    """How a process ended, and when."""

    code: int
    output: str
    errors: str
    time: float

    @property
    def json(self) -> Any:
        """Return the JSON that it printed."""
        return json.loads(self.output)

    def __str__(self) -> str:
        return f"exit {self.code}\n{self.output}\n{self.errors}"


@dataclass
class Migration:
    """A source, a separate target behind a proxy, and runs between them in a folder."""

    source: str
    table: EnterpriseTable
    proxy: FaultProxy
    folder: Path
    commands: Commands
    processes: list[Process] = field(default_factory=list)

    def start(self, *options: str, endpoint: str = "") -> Process:
        """Start a run, by default through the proxy."""
        settings = {
            "DATABASE_URL": self.source,
            "DYNAMODB_ENDPOINT": endpoint or self.proxy.url,
            "DYNAMODB_ENTERPRISE_TABLE": self.table.name,
            "AWS_REGION": "eu-west-1",
            "LEASE_SECONDS": str(LEASE_SECONDS),
            # Send sequentially, so that the content of the nth request is known.
            "SENDERS": "1",
        }
        arguments = ["migrate", *OPTIONS, *options]
        process = self.commands.start(arguments, os.environ | settings, self.folder)
        self.processes.append(process)
        return process

    def run(self, *options: str, endpoint: str = "") -> Ended:
        """Run to the end."""
        return ended(self.start(*options, endpoint=endpoint))

    def signal(self, number: int) -> float:
        """Signal the most recently started process; return the time."""
        process = self.processes[-1]
        process.send_signal(number)
        if number == signal.SIGKILL:
            process.wait()
        return time.monotonic()

    def found(self) -> dict[str, Any]:
        """Return whether the table's items are right, and the internal items."""
        items = all_items(self.table.client, self.table.name)
        expected = expected_items(self.source)
        return {
            "right": enterprises(self.table.client, self.table.name) == expected,
            "own": sorted(sk for pk, sk in items if pk == OWN_PARTITION),
        }

    def close(self) -> None:
        """Kill the processes that a failed test has left."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.communicate()


def ended(process: Process) -> Ended:
    """Wait for the end of a process."""
    output, errors = process.communicate(timeout=PROCESS_SECONDS)
    assert "Traceback" not in errors + output
    return Ended(process.returncode, output, errors, time.monotonic())


@pytest.fixture
def new_migration(
    database_url: str, dynamodb_local: str, commands: Commands, tmp_path: Path
) -> Callable[[], Any]:
    """Fill a source, and return a function that creates targets for it."""
    fill(database_url, ROWS)

    @contextmanager
    def make() -> Iterator[Migration]:
        name = f"Test-{uuid.uuid4().hex}"
        table = open_at(dynamodb_local, name)
        create_table(table)
        folder = tmp_path / name
        folder.mkdir()
        with FaultProxy(dynamodb_local) as proxy:
            migration = Migration(database_url, table, proxy, folder, commands)
            try:
                yield migration
            finally:
                migration.close()

    return make


@pytest.fixture
def migration(new_migration: Callable[[], Any]) -> Iterator[Migration]:
    """Create one target."""
    with new_migration() as made:
        yield made


def proven(*, written: int) -> dict[str, Any]:
    """Return the expected end of a resumed run, and the expected table."""
    ledger = Ledger(read=ROWS, written=written, unchanged=ROWS - written)
    return {
        "code": 0,
        "status": "proven",
        "ledger": asdict(ledger),
        "right": True,
        "own": [ORIGIN],
    }


def outcome(migration: Migration, run: Ended) -> dict[str, Any]:
    """Return how a run ended, and the state of the table."""
    said = run.json
    report = {"code": run.code, "status": said["status"], "ledger": said.get("ledger")}
    return report | migration.found()


@dataclass(frozen=True)
class Kill:
    """The point where a run is killed, and the rows its resume counts as written."""

    operation: str
    nth: int
    # Before the request is applied, after it, or while it is in transit.
    when: str = "after"
    written: int = ROWS
    resumes: bool = True


KILLS = {
    "before anything": Kill("DescribeTable", 1, "before"),
    "before the first write": Kill("TransactWriteItems", 1, "before"),
    "in the lease": Kill("TransactWriteItems", 1),
    "in the middle": Kill("BatchWriteItem", 3, written=75),
    "with a batch on its way": Kill("BatchWriteItem", 2, "on its way", written=50),
    "before the last checkpoint": Kill("BatchWriteItem", 4, written=50),
    "in the reconciliation": Kill("Scan", 2),
    "and not resumed": Kill("BatchWriteItem", 3, written=25, resumes=False),
}


def kill_and_go_on(new_migration: Callable[[], Any], point: Kill) -> dict[str, Any]:
    """Kill a run at one point and run again; return how the second run ended."""
    with new_migration() as migration:
        killed: list[float] = []

        def kill() -> None:
            killed.append(migration.signal(signal.SIGKILL))

        faults: dict[str, Fault] = {
            "before": lambda _: kill(),
            "after": reset_after(kill),
            "on its way": passing(kill),
        }
        migration.proxy.add(
            faults[point.when], operation=point.operation, first=point.nth, times=1
        )
        assert migration.run().code == -signal.SIGKILL
        options = RESUME if point.resumes else ()
        while (run := migration.run(*options)).code == 5:
            assert not point.resumes, "a resume waits by itself"
            time.sleep(1)
        tries = [c.time for c in migration.proxy.calls_of("TransactWriteItems")]
        late = [time for time in tries if time > killed[0] + LEASE_SECONDS + 2]
        return outcome(migration, run) | {"refused after its end": late[:-1]}


@pytest.mark.slow
def test_a_run_killed_anywhere_is_gone_on_with(
    new_migration: Callable[[], Any],
) -> None:
    """The next run after SIGKILL at any point loses nothing and repeats nothing.

    It waits no longer than the lease of the dead run.
    """
    with ThreadPoolExecutor(len(KILLS)) as pool:
        runs = {
            name: pool.submit(kill_and_go_on, new_migration, point)
            for name, point in KILLS.items()
        }
    ends = {name: run.result() for name, run in runs.items()}

    assert ends == {
        name: proven(written=point.written) | {"refused after its end": []}
        for name, point in KILLS.items()
    }


def is_enterprise(request: Request) -> bool:
    """Return whether a request concerns enterprises, not the internal items."""
    return b"ENT#" in request.body


@dataclass
class Stop:
    """A sequence of runs of one migration, each stopped by a signal."""

    migration: Migration
    signalled: float = 0.0

    def run(
        self, number: int, operation: str, first: int, *options: str, hang: bool = False
    ) -> Ended:
        """Run, and signal at the *first* request of an operation on enterprises.

        The request is applied; with *hang*, it and every later request hang.
        """
        self.signalled = 0.0
        proxy, fault = self.migration.proxy, Exchange.forward
        if hang:
            fault = black_hole()

        def tell(exchange: Exchange) -> Answer | None:
            self.signalled = self.migration.signal(number)
            return fault(exchange)

        proxy.clear()
        proxy.add(tell, operation=operation, first=first, when=is_enterprise, times=1)
        proxy.add(fault, when=lambda _: self.signalled > 0)
        return self.migration.run(*options)

    def wait_for_postgresql(self, number: int) -> Ended:
        """Signal a run that waits for a lock in PostgreSQL."""
        with closing(psycopg2.connect(self.migration.source)) as holder:
            cursor = holder.cursor()
            cursor.execute("LOCK TABLE public.enterprises")
            process = self.migration.start()
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while cursor.execute(waits) or cursor.fetchone() == (0,):
                time.sleep(0.1)
            self.signalled = self.migration.signal(number)
            return ended(process)


@pytest.mark.slow
def test_a_run_told_to_stop_stops_and_is_gone_on_with(migration: Migration) -> None:
    """SIGTERM and Ctrl-C end a run within seconds, whatever it waits for.

    Its JSON contains the command that resumes it with its options, and that works.
    """
    stop = Stop(migration)
    ends, seconds = [], []
    for run in (
        lambda: stop.wait_for_postgresql(signal.SIGINT),
        lambda: stop.run(signal.SIGTERM, "BatchWriteItem", 3, *RESUME),
        lambda: stop.run(signal.SIGTERM, "PutItem", 5, *RESUME, hang=True),
        lambda: stop.run(signal.SIGINT, "PutItem", 5, *RESUME),
    ):
        ends.append(run())
        seconds.append(ends[-1].time - stop.signalled)
    migration.proxy.clear()
    puts = [c for c in migration.proxy.calls_of("PutItem") if is_enterprise(c.request)]
    applied = [call for call in puts if call.status == HTTPStatus.OK]

    nexts = [run.json["next"] for run in ends]
    _, _, *pasted = shlex.split(nexts[-1])
    last = migration.run(*pasted)

    assert [run.code for run in ends] == [130, 4, 4, 130], "\n".join(map(str, ends))
    assert max(seconds) < STOP_SECONDS
    # The first run has not begun: there is nothing to resume.
    command = f"enterprises migrate --resume {last.json['run_id']} --partition-rows 50"
    assert nexts == [None, command, command, command]
    assert "resume" not in ends[0].errors.lower()
    assert [command in run.errors + run.output for run in ends[1:]] == [True] * 3
    statuses = ["interrupted", "incomplete", "incomplete", "interrupted"]
    assert [run.json["status"] for run in ends] == statuses
    assert ["SIGTERM" in run.output for run in ends[1:3]] == [True] * 2
    assert ends[1].json["ledger"] == asdict(Ledger(read=50, written=50))
    # Put one by one: 4 and 5, or one more until the signal arrives.
    assert 9 <= len(applied) <= 10
    # Already in the table: these, and 25 of the batch.
    assert outcome(migration, last) == proven(written=ROWS - 25 - len(applied))


@pytest.mark.slow
def test_a_run_that_slept_past_its_lease_writes_no_more(
    migration: Migration, dynamodb_local: str
) -> None:
    """One run at a time: a second is refused with the holder, a third takes it over.

    When the first wakes up, it writes nothing and ends as incomplete.
    """
    stopped: list[float] = []

    def freeze() -> None:
        stopped.append(migration.signal(signal.SIGSTOP))

    # Freeze it in its last partition, where it holds no lock on the state.
    migration.proxy.add(passing(freeze), operation="BatchWriteItem", first=3, times=1)
    first = migration.start("--run-id", "sleeper")
    while not stopped and first.poll() is None:
        time.sleep(0.1)
    second = migration.run(endpoint=dynamodb_local)
    while (third := migration.run(endpoint=dynamodb_local)).code == 5:
        time.sleep(1)
    took = third.time - stopped[0]
    before = all_items(migration.table.client, migration.table.name)
    first.send_signal(signal.SIGCONT)
    awake = time.monotonic()
    woken = ended(first)

    assert second.code == 5, str(second)
    assert second.json["error"]["code"] == "LeaseHeld"
    assert "Run sleeper@" in second.json["error"]["message"]
    assert outcome(migration, third) == proven(written=25)
    assert took < LEASE_SECONDS + 45
    assert (woken.code, woken.json["status"]) == (4, "incomplete"), str(woken)
    assert "has expired" in woken.output
    assert woken.time - awake < STOP_SECONDS
    assert [c for c in migration.proxy.calls if c.time > awake and writes(c)] == []
    assert all_items(migration.table.client, migration.table.name) == before


def writes(call: Call) -> bool:
    """Return whether a call writes anything but the lease."""
    key = call.request.json.get("Key", {})
    return call.operation in WRITES and key.get("SK") != {"S": LEASE}


def test_a_run_without_room_is_incomplete_until_there_is_some(
    migration: Migration,
) -> None:
    """A run that a full disk ends at its start, middle or end can be resumed.

    Each time the path is named, and finished work is not repeated.
    """
    folder = migration.folder / "data" / "runs"
    ballast = folder / "ballast"
    fault = passing(lambda: fill_up(ballast))
    migration.proxy.add(fault, operation="BatchWriteItem", first=3, times=1)
    # The first scan checks that the table has no enterprise; the second is the proof.
    migration.proxy.add(fault, operation="Scan", first=2, times=1)
    with small_disk(folder) as resize:
        fill_up(ballast)
        at_start = migration.run()
        ballast.unlink()
        # Enough room for the records of half of the rows.
        resize("160k")
        in_middle = migration.run(*RESUME)
        ballast.unlink()
        at_end = migration.run(*RESUME)
        ballast.unlink()
        resize("16m")
        last = migration.run(*RESUME)

    for run in (at_start, in_middle, at_end):
        assert (run.code, run.json["status"]) == (4, "incomplete"), str(run)
        assert str(Path("data", "runs")) in run.output
        assert "Make room" in run.output
    assert in_middle.json["ledger"] == asdict(Ledger(read=50, written=50))
    assert outcome(migration, last) == proven(written=50)
