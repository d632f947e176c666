"""Disturb a run in each of its phases, and print its end as JSON.

``python -m tests.benchmarks.disturb_runs`` starts ``migrate --deadline 20`` into
DynamoDB Local with two workers and waits for a phase. Then another session locks or
rewrites the table, or a part of the run is frozen or killed. Meanwhile an application
reads the table five times per second. ``--only alter --phase proof`` runs one case.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import psutil
import psycopg2

from flows.settings import Settings
from flows.stores.dynamodb.lease import LEASE
from flows.stores.dynamodb.schema import create_table
from flows.stores.dynamodb.table import EnterpriseTable, open_table
from flows.stores.embedded import embedded_postgres
from tests.conftest import await_http, free_port, running_java, simulator
from tests.support.expected_items import fill
from tests.support.started_runs import reading_meanwhile

ROWS = 1_500
DEADLINE = 20
GIVE_UP_SECONDS = 120
COMMAND = [sys.executable, "-m", "flows.cli", "migrate", "--no-prefect", "--json"]
# The load takes five seconds, and the proof four.
PACE = ["--partition-rows", "100", "--max-write-units", "300"]
PACE += ["--max-read-units", "60", "--workers", "2"]
PHASES = ("planning", "extraction", "loading", "proof", "report")
# The sessions of the run, the one with the snapshot first.
SESSIONS = """
SELECT pid FROM pg_stat_activity
WHERE application_name LIKE 'enterprises %' AND application_name NOT LIKE '% watch'
  AND datname = current_database() ORDER BY backend_start
"""


@dataclass
class Scene:
    """A running migration and its surroundings."""

    url: str
    process: subprocess.Popen[bytes]
    runs: Path
    table: EnterpriseTable
    java: int
    undo: list[Callable[[], object]] = field(default_factory=list)

    def sessions(self) -> list[int]:
        """Return the process ids of the run's sessions, the driver's first."""
        with closing(psycopg2.connect(self.url)) as connection:
            cursor = connection.cursor()
            cursor.execute(SESSIONS)
            return [pid for (pid,) in cursor]

    def items(self) -> int:
        """Return how many items of enterprises have arrived."""
        pages = self.table.client.get_paginator("scan").paginate(
            TableName=self.table.name, Select="COUNT"
        )
        return sum(page["Count"] for page in pages)

    def child(self, *, forkserver: bool) -> int:
        """Wait for the process that forks the workers, or for a worker."""
        end = time.monotonic() + GIVE_UP_SECONDS
        while time.monotonic() < end:
            for child in psutil.Process(self.process.pid).children():
                workers = child.children()
                if workers and "forkserver" in " ".join(child.cmdline()):
                    return int(child.pid if forkserver else workers[0].pid)
            time.sleep(0.02)
        message = "there are no workers"
        raise AssertionError(message)

    def freeze(self, number: int) -> None:
        """Stop a process until the case is over."""
        os.kill(number, signal.SIGSTOP)
        self.undo.append(lambda: _signal(number, signal.SIGCONT))

    def execute(self, statement: str) -> None:
        """Run a statement in a session of an administrator, in parallel."""

        def work() -> None:
            with closing(psycopg2.connect(self.url)) as connection:
                connection.autocommit = not statement.startswith("LOCK")
                connection.cursor().execute(statement)
                connection.commit()

        thread = Thread(target=work)
        thread.start()
        self.undo.append(thread.join)


DISTURBANCES: dict[str, Callable[[Scene], None]] = {
    "alter": lambda s: s.execute("ALTER TABLE enterprises ADD COLUMN note text"),
    "lock": lambda s: s.execute("LOCK TABLE enterprises IN ACCESS EXCLUSIVE MODE"),
    "truncate": lambda s: s.execute("TRUNCATE enterprises"),
    "vacuum full": lambda s: s.execute("VACUUM FULL enterprises"),
    "driver's backend frozen": lambda s: s.freeze(s.sessions()[0]),
    "worker's backend frozen": lambda s: s.freeze(_worker_session(s)),
    "DynamoDB Local frozen": lambda s: s.freeze(s.java),
    "worker frozen": lambda s: s.freeze(s.child(forkserver=False)),
    "worker killed": lambda s: os.kill(s.child(forkserver=False), signal.SIGKILL),
    "forkserver frozen": lambda s: s.freeze(s.child(forkserver=True)),
    "forkserver killed": lambda s: os.kill(s.child(forkserver=True), signal.SIGKILL),
}
# The phases in which a part exists and can be disturbed.
WORKERS_ONLY = ("extraction", "loading")
ABSENT = {
    "worker's backend frozen": ("extraction",),
    "worker frozen": WORKERS_ONLY,
    "worker killed": WORKERS_ONLY,
    "forkserver frozen": WORKERS_ONLY,
    "forkserver killed": WORKERS_ONLY,
}


def _signal(number: int, what: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(number, what)


def _worker_session(scene: Scene) -> int:
    """Wait for a session of a worker: it lasts for milliseconds."""
    with closing(psycopg2.connect(scene.url)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        while True:
            cursor.execute(SESSIONS)
            pids = [pid for (pid,) in cursor]
            if len(pids) > 1:
                return int(pids[-1])


def _await_phase(scene: Scene, phase: str) -> None:
    """Wait until the run is in the phase."""
    there: dict[str, Callable[[], bool]] = {
        "planning": lambda: bool(scene.sessions()),
        "extraction": lambda: scene.table.get_own(LEASE) is not None,
        # The origin and the lease are items too.
        "loading": lambda: scene.items() > 200,
        "proof": lambda: scene.items() >= ROWS + 2,
        "report": lambda: any(scene.runs.glob("*/quarantine.csv")),
    }
    end = time.monotonic() + GIVE_UP_SECONDS
    while not there[phase]():
        if scene.process.poll() is not None or time.monotonic() > end:
            items = scene.items()
            message = f"the run never came to its {phase}: {items} items are there"
            raise AssertionError(message)
        time.sleep(0.01)


def disturb(name: str, phase: str, url: str, endpoint: str, java: int) -> Any:
    """Disturb one run, and resume it; return the results of both."""
    table = open_table(
        Settings.isolated(
            dynamodb_endpoint=endpoint,
            dynamodb_enterprise_table=f"Disturbed-{uuid4().hex}",
            aws_region="eu-west-1",
        )
    )
    create_table(table)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        environment = os.environ | {
            "DATABASE_URL": url,
            "DYNAMODB_ENDPOINT": endpoint,
            "DYNAMODB_ENTERPRISE_TABLE": table.name,
            "AWS_REGION": table.region,
            "STATE_URL": f"sqlite:///{folder}/state.db",
            "RUNS_DIR": folder,
            "LEASE_SECONDS": "15",
        }
        log = stack.enter_context(tempfile.TemporaryFile())
        begun = time.monotonic()
        process = subprocess.Popen(
            [*COMMAND, *PACE, "--deadline", str(DEADLINE)],
            env=environment,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        scene = Scene(url, process, Path(folder), table, java)
        waits = stack.enter_context(reading_meanwhile(url))
        try:
            _await_phase(scene, phase)
            at = time.monotonic() - begun
            DISTURBANCES[name](scene)
            output, _ = process.communicate(timeout=GIVE_UP_SECONDS)
            seconds = time.monotonic() - begun
        finally:
            process.kill()
            for undo in scene.undo:
                undo()
        ended = json.loads(output)
        resumed = None
        if ended.get("status") == "incomplete":
            resumed = _resume(environment, folder)
    return {
        "disturbed": name,
        "phase": phase,
        "at": round(at, 1),
        "exit_code": process.returncode,
        "seconds": round(seconds, 1),
        "longest_select": round(max(waits, default=0.0), 2),
        "said": ended.get("statement") or ended.get("error", {}).get("message"),
        "resumed_exit_code": resumed,
    }


def _resume(environment: dict[str, str], folder: str) -> int:
    """Resume a stopped run once its lease is available; return its exit code."""
    resume = [*COMMAND, "--resume", "last", "--allow-empty"]
    end = time.monotonic() + GIVE_UP_SECONDS
    while True:
        done = subprocess.run(
            resume, env=environment, cwd=folder, capture_output=True, check=False
        )
        held = 5
        if done.returncode != held or time.monotonic() > end:
            return done.returncode
        time.sleep(2)


def main() -> None:
    """Disturb runs, and print the result of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=DISTURBANCES)
    parser.add_argument("--phase", choices=PHASES)
    asked = parser.parse_args()
    cases = [
        (name, phase)
        for name in DISTURBANCES
        for phase in ABSENT.get(name, PHASES)
        if asked.only in {None, name} and asked.phase in {None, phase}
    ]
    found = []
    for name, phase in cases:
        with ExitStack() as stack:
            # New stores for each case: a frozen one may be damaged.
            source = stack.enter_context(embedded_postgres())
            fill(source.url, ROWS)
            log = Path(stack.enter_context(tempfile.TemporaryDirectory()), "log")
            port = free_port()
            stack.enter_context(running_java(simulator() / "emulator", port, log))
            await_http(port, log)
            java = next(
                one.pid
                for one in psutil.process_iter(["cmdline"])
                if str(port) in (one.info["cmdline"] or ()) and one.name() == "java"
            )
            endpoint = f"http://127.0.0.1:{port}"
            found.append(disturb(name, phase, source.url, endpoint, java))
            sys.stderr.write(json.dumps(found[-1]) + "\n")
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
