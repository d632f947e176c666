"""Migrate generated rows twice, and print what it took as JSON.

``python -m tests.benchmarks.migrate_rows --rows 20000`` moves them into the endpoint of
the benchmarks, with ``--store dynamodb-local`` into AWS's own emulator. PostgreSQL is
the embedded one; the table is fresh in the first run.
"""

import argparse
import json
import platform
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from flows import pipeline
from flows.models import MigrateOptions
from flows.report import MigrationReport
from flows.settings import Settings, using
from flows.stores.dynamodb import open_table
from flows.stores.embedded import embedded_postgres
from flows.stores.tables import create_table
from tests.benchmarks.endpoint import running_endpoint
from tests.benchmarks.generated_source import fill


@contextmanager
def running_dynamodb_local(folder: Path) -> Iterator[str]:
    """Run AWS's own emulator, which the tests have fetched; yield its URL."""
    from tests.conftest import await_http, free_port, running_java, simulator

    port, log = free_port(), folder / "dynamodb-local.log"
    with running_java(simulator() / "emulator", port, log):
        await_http(port, log)
        yield f"http://127.0.0.1:{port}"


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
    parser.add_argument("--store", choices=["memory", "dynamodb-local"])
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        local = arguments.store == "dynamodb-local"
        target = running_dynamodb_local(folder) if local else running_endpoint()
        endpoint = stack.enter_context(target)
        source = stack.enter_context(embedded_postgres())
        fill(source.url, arguments.rows)
        settings = Settings.isolated(
            database_url=source.url,
            dynamodb_endpoint=endpoint,
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
