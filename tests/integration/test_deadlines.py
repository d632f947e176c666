"""Runs that are blocked or lack resources: they end, and can be resumed.

Processes are frozen as a virtual machine or a full disk freezes them: their sockets
stay open, but nothing answers.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest

from flows.stores.dynamodb.lease import LEASE
from flows.stores.dynamodb.table import EnterpriseTable
from tests.benchmarks.endpoint import MODULE, running_endpoint
from tests.support.expected_items import enterprises, expected_items
from tests.support.frozen import frozen
from tests.support.started_runs import (
    SECONDS,
    await_items,
    ended,
    environment_of,
    make_target,
    starting,
)
from tests.support.warm_command import Commands, Process

ROWS = 1_500
WRITE_UNITS = 150
# Long enough for the workers to start, and shorter than the load from then on.
DEADLINE = 25
# The command may exceed its deadline, and more so on a busy machine; a run that does
# not end takes all of SECONDS.
AT_MOST = DEADLINE + 30
LEASE_HELD = 5
# A partition takes less: after this time without a new session, the run is blocked.
SECONDS_WITHOUT_SESSION = 5
# The session that holds the snapshot comes first.
FIND_SESSIONS = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'enterprises %'
  AND application_name NOT LIKE '% watch' ORDER BY backend_start
"""


@pytest.fixture(scope="module")
def slow_endpoint() -> Iterator[str]:
    """Run an endpoint that accepts some hundred units per second; yield its URL."""
    with running_endpoint(write_units=WRITE_UNITS) as url:
        yield url


@pytest.fixture
def until_end() -> Iterator[ExitStack]:
    """Resume frozen processes at the end of the test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def target(slow_endpoint: str, table_name: str, database_url: str) -> EnterpriseTable:
    """Fill the source and create its target."""
    return make_target(slow_endpoint, table_name, database_url, ROWS)


@pytest.fixture
def environment(target: EnterpriseTable, database_url: str) -> dict[str, str]:
    """Return the environment of a run."""
    return environment_of(target, database_url)


@pytest.fixture
def start(
    environment: dict[str, str], commands: Commands, tmp_path: Path
) -> Iterator[Callable[..., Process]]:
    """Return a function that starts a run; leftover processes are killed."""
    with starting(commands, environment, tmp_path) as start:
        yield lambda *options: start(*arguments(*options))


def arguments(*options: str) -> list[str]:
    """Return the arguments of a run in small partitions."""
    return ["migrate", "--no-prefect", "--json", "--partition-rows", "100", *options]


def resumed(start: Callable[..., Process]) -> tuple[int, Any, str]:
    """Resume the run as soon as a leftover lease has expired."""
    end = time.monotonic() + SECONDS
    while True:
        found = ended(start("--resume", "last"))
        if found[0] != LEASE_HELD or time.monotonic() > end:
            return found


def await_sessions(url: str, least: int) -> list[int]:
    """Wait for sessions of the run; return their processes, the driver's first."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            cursor.execute(FIND_SESSIONS)
            if len(found := [pid for (pid,) in cursor]) >= least:
                return found
    pytest.fail("there is no such session")


def forkserver_of(process: Process) -> psutil.Process:
    """Return the fork server, whose children are the workers."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for child in psutil.Process(process.pid).children():
            if "forkserver" in " ".join(child.cmdline()) and child.children():
                return child
        time.sleep(0.05)
    pytest.fail("there are no workers")


def freeze_driver_session(_: Process, url: str, until_end: ExitStack) -> None:
    """Freeze the session that holds the snapshot for the proof."""
    until_end.enter_context(frozen(await_sessions(url, 1)[0]))


def freeze_worker_session(run: Process, url: str, until_end: ExitStack) -> None:
    """Freeze a session that reads a partition.

    A session lives for some milliseconds and may be done by then. So each following
    session is frozen too, until the run waits for one.
    """
    driver, *_ = await_sessions(url, 1)
    seen = {driver}
    end = time.monotonic() + SECONDS_WITHOUT_SESSION
    while run.poll() is None and time.monotonic() < end:
        for pid in {*await_sessions(url, 1)} - seen:
            seen.add(pid)
            with suppress(psutil.NoSuchProcess):
                until_end.enter_context(frozen(pid))
                end = time.monotonic() + SECONDS_WITHOUT_SESSION


def freeze_store(_: Process, __: str, until_end: ExitStack) -> None:
    """Freeze the endpoint."""
    (endpoint,) = (
        child.pid for child in psutil.Process().children() if MODULE in child.cmdline()
    )
    until_end.enter_context(frozen(endpoint))


def freeze_worker(run: Process, _: str, until_end: ExitStack) -> None:
    """Freeze a worker process."""
    until_end.enter_context(frozen(forkserver_of(run).children()[0].pid))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "workers"),
    [
        (freeze_driver_session, "1"),
        (freeze_worker_session, "1"),
        (freeze_worker_session, "2"),
        (freeze_store, "1"),
        (freeze_worker, "2"),
    ],
)
def test_a_run_ends_by_its_deadline_whatever_is_frozen(  # noqa: PLR0917
    start: Callable[..., Process],
    target: EnterpriseTable,
    database_url: str,
    until_end: ExitStack,
    fault: Callable[[Process, str, ExitStack], None],
    workers: str,
) -> None:
    """It ends with 4 soon after the deadline, and a later run proves all rows."""
    begun = time.monotonic()
    run = start("--workers", workers, "--deadline", str(DEADLINE))
    await_items(target, 100)
    fault(run, database_url, until_end)
    code, values, errors = ended(run)
    seconds = time.monotonic() - begun

    assert (code, values["status"]) == (4, "incomplete"), errors
    assert "deadline" in str(values)
    assert seconds < AT_MOST
    until_end.close()
    code, values, errors = resumed(start)
    assert (code, values["status"]) == (0, "proven"), errors
    assert enterprises(target.client, target.name) == expected_items(database_url)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGKILL, 4), (signal.SIGSTOP, 0)]
)
def test_a_run_whose_forkserver_is_gone_leaves_no_worker(
    start: Callable[..., Process],
    target: EnterpriseTable,
    number: signal.Signals,
    expected: int,
) -> None:
    """A killed fork server ends the run with 4; a frozen one does no harm."""
    run = start("--workers", "2", "--deadline", str(4 * DEADLINE))
    await_items(target, 100)
    forkserver = forkserver_of(run)
    processes = [forkserver, *forkserver.children()]
    forkserver.send_signal(number)
    code, values, errors = ended(run)

    _, alive = psutil.wait_procs(processes, timeout=20)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []
    assert code == expected, errors
    assert expected == 0 or "worker" in values["statement"]


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("ulimit -n 24", "Too many open files"),
        ("ulimit -v 700000", ""),
    ],
)
def test_a_run_that_wants_for_room_is_incomplete(
    environment: dict[str, str],
    target: EnterpriseTable,
    tmp_path: Path,
    limit: str,
    said: str,
) -> None:
    """With too few files or too little memory it ends with 4, a remedy and no lease."""
    command = [sys.executable, "-m", "flows.cli"]
    command += arguments("--workers", "2", "--deadline", str(DEADLINE))
    done = subprocess.run(
        ["bash", "-c", f'{limit} && exec "$@"', "bash", *command],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )

    assert done.returncode == 4, done.stderr
    assert "Traceback" not in done.stderr
    values = json.loads(done.stdout)
    assert values["status"] == "incomplete"
    assert said in str(values)
    assert "Use fewer --workers" in str(values)
    assert target.get_own(LEASE) is None
