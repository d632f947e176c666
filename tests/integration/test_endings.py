"""Endings of stopped commands: one JSON object, the right code, the next command."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from flows.stores.dynamodb.table import EnterpriseTable
from tests.support.warm_command import Commands

pytestmark = pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)

SECONDS = 120
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


@pytest.fixture
def locked(source: str, table: EnterpriseTable) -> Iterator[psycopg2.extensions.cursor]:
    """Hold a lock that blocks all reads of the source; yield the holder's cursor."""
    assert table.name
    with closing(psycopg2.connect(source)) as holder, holder.cursor() as cursor:
        cursor.execute("LOCK TABLE public.enterprises")
        yield cursor


def await_waiting(cursor: psycopg2.extensions.cursor, processes: int) -> None:
    """Wait until that many sessions wait for the lock."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        cursor.execute(WAITING)
        if cursor.fetchone() == (processes,):
            return
        time.sleep(0.1)
    pytest.fail(f"{processes} sessions were to wait for the lock")


READING = (["validate"], ["plan"], ["reconcile"])


@pytest.mark.parametrize(
    ("number", "ending"),
    [(signal.SIGINT, (130, "interrupted")), (signal.SIGTERM, (4, "incomplete"))],
)
def test_what_only_reads_is_not_resumed(
    number: signal.Signals,
    ending: tuple[int, str],
    locked: psycopg2.extensions.cursor,
    commands: Commands,
    tmp_path: Path,
) -> None:
    """A command that records no run must not suggest a writing command as the next."""
    processes = [
        commands.start([*words, "--json"], os.environ, tmp_path) for words in READING
    ]
    await_waiting(locked, len(processes))
    for process in processes:
        process.send_signal(number)

    for process in processes:
        output, errors = process.communicate(SECONDS)
        (line,) = output.splitlines()
        values = json.loads(line)
        assert (process.returncode, values["status"]) == ending, errors
        assert values["next"] is None
        assert "resume" not in (output + errors).lower()


@pytest.mark.usefixtures("table")
def test_a_command_that_is_cut_off_leaves_no_warning(
    locked: psycopg2.extensions.cursor, tmp_path: Path
) -> None:
    """Standard error may contain only the message of the command."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "flows.cli", "reconcile"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        await_waiting(locked, 1)
        process.send_signal(signal.SIGINT)
        # The process of multiprocessing shares standard error, so wait for its end too.
        output, errors = process.communicate(timeout=SECONDS)

    assert (process.returncode, output) == (130, "")
    lines = [line for line in errors.splitlines() if " INFO " not in line]
    assert lines == ["enterprises: interrupted."]


@pytest.mark.usefixtures("source", "table")
def test_ctrl_c_while_workers_start_shows_no_traceback(tmp_path: Path) -> None:
    """Ctrl-C reaches every process of the run; only the command may report it."""
    options = ["--no-prefect", "--workers", "2", "--partition-rows", "1"]
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "flows.cli", "migrate", *options],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr
        begun = ""
        while " INFO run " not in begun:
            begun = process.stderr.readline()
        # Now the process that forks the workers imports, which takes seconds.
        time.sleep(1)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=SECONDS)

    run_id = begun.split("run ")[1].split(":")[0]
    command = f"enterprises migrate --resume {run_id} --partition-rows 1 --workers 2"
    assert process.returncode == 130
    assert [line for line in errors.splitlines() if " INFO " not in line] == [
        "enterprises: interrupted.",
        f"Resume with: {command}",
    ]
