"""Migrate generated rows into DynamoDB Local twice, and print what it took as JSON.

Run it with ``make bench ROWS=100000``, or ``python -m tests.benchmarks.migrate_rows``.
PostgreSQL is the embedded one; the table is fresh in the first run.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg2

from flows import pipeline
from flows.demo import COPY_SAMPLE
from flows.models import MigrateOptions
from flows.report import MigrationReport
from flows.settings import Settings, using
from flows.stores.dynamodb import open_table
from flows.stores.embedded import embedded_postgres
from flows.stores.tables import create_table
from tests.conftest import await_http, free_port, running_java, simulator

DATA = Path(__file__).parents[2] / "data"


def fill(url: str, rows: int) -> None:
    """Fill the source with generated rows, all of them valid."""
    command = [sys.executable, str(DATA / "generate_sample.py"), "--clean"]
    with (
        subprocess.Popen(
            [*command, "--rows", str(rows)], stdout=subprocess.PIPE
        ) as made,
        closing(psycopg2.connect(url)) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute((DATA / "schema.sql").read_text("utf-8"))
        cursor.copy_expert(COPY_SAMPLE, made.stdout)


def measured(partition_rows: int) -> dict[str, Any]:
    """Migrate once; return verdict, ledger, times and the peak memory so far."""
    cpu, wall = time.process_time(), time.perf_counter()
    report: MigrationReport = pipeline.migrate(
        MigrateOptions(partition_rows=partition_rows)
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    values = report.asdict()
    return {
        "status": values["status"],
        "ledger": values["ledger"],
        "seconds": values["seconds"],
        "capacity": values["capacity"],
        "wall_seconds": round(time.perf_counter() - wall, 1),
        "client_cpu_seconds": round(time.process_time() - cpu, 1),
        "peak_rss_mib": round(peak / 1024),
    }


def main() -> None:
    """Run the benchmark and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--partition-rows", type=int, default=25_000)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        log = folder / "dynamodb-local.log"
        stack.enter_context(running_java(simulator() / "emulator", port, log))
        source = stack.enter_context(embedded_postgres())
        fill(source.url, arguments.rows)
        await_http(port, log)
        settings = Settings.isolated(
            database_url=source.url,
            dynamodb_endpoint=f"http://127.0.0.1:{port}",
            runs_dir=folder,
            state_url=f"sqlite:///{folder}/state.db",
        )
        create_table(open_table(settings))
        stack.enter_context(using(settings))
        first = measured(arguments.partition_rows)
        second = measured(arguments.partition_rows)
    machine = {"python": platform.python_version(), "machine": platform.machine()}
    result = {"rows": arguments.rows, "first": first, "again": second} | machine
    print(json.dumps(result, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
