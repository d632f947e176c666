"""Print the overhead of Prefect on the wall time of a migrate as JSON.

``python -m tests.benchmarks.prefect_overhead --rows 1000000`` runs the command with
``--no-prefect`` and with ``--prefect``, in turn, each in a separate process and into a
fresh table on a fresh endpoint. Prefect's server is already running: its start is not
counted, the import of Prefect is. Exit code 1: the overhead exceeds a tenth.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import Any

from flows.settings import Settings
from flows.stores.dynamodb.schema import create_table
from flows.stores.dynamodb.table import open_table
from flows.stores.embedded import embedded_postgres
from tests.benchmarks.endpoint import running_endpoint
from tests.benchmarks.generated_source import fill
from tests.support.prefect_server import running_server

WANTED = 0.1
KINDS = {"plain": "--no-prefect", "prefect": "--prefect"}


def migrate(kind: str, source: str, api: str, *options: str) -> dict[str, Any]:
    """Run the command once; return its result, and its duration by several clocks."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        endpoint = stack.enter_context(running_endpoint())
        create_table(open_table(Settings.isolated(dynamodb_endpoint=endpoint)))
        environment = {
            "DATABASE_URL": source,
            "DYNAMODB_ENDPOINT": endpoint,
            "RUNS_DIR": folder,
            "STATE_URL": f"sqlite:///{folder}/state.db",
            "PREFECT_API_URL": api,
            "PREFECT_HOME": f"{folder}/prefect",
        }
        command = ["-m", "flows.cli", "migrate", "--json", KINDS[kind], *options]
        begun, cpu = time.perf_counter(), cpu_of_children()
        done = subprocess.run(
            [sys.executable, *command],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            check=True,
        )
        wall, cpu = time.perf_counter() - begun, cpu_of_children() - cpu
    report = json.loads(done.stdout)
    return {
        "status": report["status"],
        "limit": report["limit"],
        "wall": round(wall, 1),
        "run": round(report["seconds"]["total"], 1),
        "driver_cpu": round(cpu, 1),
        "largest_process_mib": getrusage(RUSAGE_CHILDREN).ru_maxrss // 1024,
    }


def cpu_of_children() -> float:
    """Return the CPU seconds of ended commands, without their workers."""
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def compared(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the overhead of Prefect, as a share of the fastest plain run."""
    least = {
        kind: {clock: min(run[clock] for run in found) for clock in ("wall", "run")}
        for kind, found in runs.items()
    }
    plain, prefect = least["plain"], least["prefect"]
    shares = {
        clock: round(prefect[clock] / plain[clock] - 1, 3) for clock in ("wall", "run")
    }
    return {"overhead": shares, "wanted": WANTED, "met": shares["wall"] <= WANTED}


def main() -> None:
    """Run the benchmark and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--partition-rows", type=int, default=25_000)
    parser.add_argument("--workers", type=int, help="default: as the command does")
    parser.add_argument("--repeat", type=int, default=1, help="the fastest counts")
    arguments = parser.parse_args()
    options = ["--partition-rows", str(arguments.partition_rows)]
    if arguments.workers:
        options += ["--workers", str(arguments.workers)]
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(running_server(home))
        source = stack.enter_context(embedded_postgres())
        fill(source.url, arguments.rows)
        for _ in range(arguments.repeat):
            for kind, found in runs.items():
                found.append(migrate(kind, source.url, server.api, *options))
    result = {"rows": arguments.rows, "options": options, "seconds": runs}
    result |= compared(runs)
    print(json.dumps(result, indent=2))  # noqa: T201
    sys.exit(0 if result["met"] else 1)


if __name__ == "__main__":
    main()
