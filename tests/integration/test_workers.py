"""Runs with worker processes: a lost worker or session must not lose any data.

The store is the benchmarks' endpoint, slow enough here to interrupt a run midway.
"""

import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest

from flows.settings import Settings
from flows.stores.dynamodb.table import EnterpriseTable
from tests.benchmarks.endpoint import read_consumption, running_endpoint
from tests.support.expected_items import enterprises, expected_items
from tests.support.started_runs import (
    await_items,
    ended,
    environment_of,
    make_target,
    starting,
)
from tests.support.warm_command import Commands, Process

ROWS = 2_400
WRITE_UNITS = 500
COMMAND = ["migrate", "--no-prefect", "--json"]
OPTIONS = ["--partition-rows", "200", "--workers", "2"]
# Resume with one process, which starts at once.
RESUME = ["--resume", "last", "--workers", "1"]


@pytest.fixture(scope="module")
def slow_endpoint() -> Iterator[str]:
    """Run an endpoint that accepts some hundred units per second; yield its URL."""
    with running_endpoint(write_units=WRITE_UNITS) as url:
        yield url


@pytest.fixture
def target(slow_endpoint: str, table_name: str, database_url: str) -> EnterpriseTable:
    """Fill the source and create its target."""
    return make_target(slow_endpoint, table_name, database_url, ROWS)


@pytest.fixture
def start(
    target: EnterpriseTable, database_url: str, commands: Commands, tmp_path: Path
) -> Iterator[Callable[..., Process]]:
    """Return a function that starts a run; leftover processes are killed."""
    with starting(commands, environment_of(target, database_url), tmp_path) as start:
        yield partial(start, *COMMAND, *OPTIONS)


def workers_of(process: Process) -> list[psutil.Process]:
    """Return the worker processes, which are children of the fork server."""
    (clean,) = (
        child
        for child in psutil.Process(process.pid).children()
        if "forkserver" in " ".join(child.cmdline())
    )
    workers: list[psutil.Process] = clean.children()
    return workers


def assert_proven(
    ending: tuple[int, Any, str], table: EnterpriseTable, url: str
) -> Any:
    """Assert that a run is proven and the table matches; return its ledger."""
    code, values, errors = ending
    assert (code, values["status"]) == (0, "proven"), (values, errors)
    assert enterprises(table.client, table.name) == expected_items(url)
    return values["ledger"]


UNDER_WAY = (
    "SELECT count(*) FROM enterprise_migration_partition"
    " WHERE attempts > 0 AND ledger IS NULL"
)


def test_two_workers_move_and_prove_all_side_by_side(
    start: Callable[..., Process],
    target: EnterpriseTable,
    database_url: str,
    tmp_path: Path,
) -> None:
    """Each row must be moved once, two partitions at a time, with the workers' logs."""
    run = start()
    await_items(target, 1)
    most = 0
    with closing(sqlite3.connect(tmp_path / "data/runs/state.db", timeout=30)) as state:
        while most < 2 and run.poll() is None:
            most = max(most, *state.execute(UNDER_WAY).fetchone())
            time.sleep(0.02)
    ending = ended(run)

    ledger = assert_proven(ending, target, database_url)
    assert ledger["written"] == ROWS
    assert all(f"partition {number}:" in ending[2] for number in range(1, 13))
    assert most == 2


@pytest.mark.slow
def test_a_killed_worker_leaves_a_run_that_resumes(
    start: Callable[..., Process],
    target: EnterpriseTable,
    database_url: str,
) -> None:
    """Without one of its workers a run must end as incomplete, with a remedy."""
    run = start()
    await_items(target, 500)
    workers = workers_of(run)
    workers[0].kill()

    code, values, errors = ended(run)

    assert (code, values["status"]) == (4, "incomplete")
    assert "worker process has died" in errors
    assert psutil.wait_procs(workers, timeout=5)[1] == []
    assert_proven(ended(start(*RESUME)), target, database_url)


@pytest.mark.slow
def test_workers_end_with_their_driver(
    start: Callable[..., Process],
    target: EnterpriseTable,
    database_url: str,
) -> None:
    """After SIGKILL no writing process remains, and the run can be resumed."""
    run = start()
    await_items(target, 500)
    workers = workers_of(run)
    run.kill()
    run.communicate()

    assert workers
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    assert_proven(ended(start(*RESUME)), target, database_url)


def test_a_run_told_to_stop_stops_its_workers(
    start: Callable[..., Process],
    target: EnterpriseTable,
    database_url: str,
) -> None:
    """SIGTERM to the driver must stop all workers before the end, and lose nothing."""
    run = start()
    await_items(target, 500)
    workers = workers_of(run)
    run.send_signal(signal.SIGTERM)

    code, values, _ = ended(run)

    assert (code, values["status"]) == (4, "incomplete")
    assert psutil.wait_procs(workers, timeout=30)[1] == []
    assert len(enterprises(target.client, target.name)) < ROWS
    assert_proven(ended(start(*RESUME)), target, database_url)


@pytest.mark.slow
def test_the_cap_holds_over_all_workers(
    start: Callable[..., Process],
    target: EnterpriseTable,
    database_url: str,
) -> None:
    """Two workers together must never exceed the rate.

    A busy machine sends requests late and several at once, but none too early. Up to
    any second the table may have consumed the units of the cap and those of the
    requests that were pending at once.
    """
    begun = time.time()
    ending = ended(start("--max-write-units", "300"))

    assert_proven(ending, target, database_url)
    assert ending[1]["limit"] == "write cap"

    seconds = read_consumption(target.endpoint)["seconds"]
    units = {
        one["second"]: one["write_units"]
        for one in seconds
        if one["second"] >= begun and one.get("write_units")
    }
    first, last = min(units), max(units)
    under_way = 2 * Settings.isolated().senders * 25
    for second in units:
        total = sum(count for at, count in units.items() if at <= second)
        assert total <= 300 * 1.1 * (second - first + 1) + under_way
    assert sum(units.values()) >= ROWS
    # Two workers with separate limits would need half as long.
    assert last - first + 1 >= (ROWS - under_way) / 330


END_SESSIONS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'enterprises %%'
  AND state LIKE %s AND query LIKE %s
"""


def terminate(url: str, state: str = "%", query: str = "%", tries: int = 1) -> int:
    """End sessions of the program, by patterns; return their number."""
    count = 0
    with closing(psycopg2.connect(url)) as connection:
        # Each query must see the current sessions.
        connection.autocommit = True
        cursor = connection.cursor()
        for _ in range(tries):
            cursor.execute(END_SESSIONS, [state, query])
            (count,) = cursor.fetchone() or (0,)
            if count:
                break
            time.sleep(0.001)
    return int(count)


def test_a_lost_snapshot_is_said_and_gone_on_from(
    start: Callable[..., Process],
    target: EnterpriseTable,
    database_url: str,
) -> None:
    """If the session that holds it is ended, the run continues with a new one."""
    run = start()
    await_items(target, 500)
    # A session of a partition may be among them, between two of its statements.
    assert terminate(database_url, state="idle in transaction%") >= 1

    ending = ended(run)

    assert_proven(ending, target, database_url)
    assert ending[1]["resumed"]
    assert "resumes under a new snapshot" in ending[2]


@pytest.mark.slow
def test_a_killed_session_of_a_partition_is_opened_again(
    start: Callable[..., Process],
    target: EnterpriseTable,
    database_url: str,
) -> None:
    """A partition whose session is ended while it reads is read again."""
    run = start()
    killed = 0
    while not killed and run.poll() is None:
        killed = terminate(database_url, query="COPY (%", tries=200)

    ending = ended(run)

    assert_proven(ending, target, database_url)
    assert killed
    assert not ending[1]["resumed"]
