"""Migrate generated rows twice, and print the figures as JSON.

``python -m tests.benchmarks.migrate_rows --rows 20000`` moves them into the endpoint of
the benchmarks, or with ``--store dynamodb-local`` into AWS's own emulator. PostgreSQL
is the embedded one; the table is fresh in the first run. With ``--runner dask`` two
worker processes of Dask migrate once, and ``--kill-worker`` kills one of them halfway::

    python -m tests.benchmarks.migrate_rows --rows 300000 --runner dask --kill-worker
"""

import argparse
import json
import logging
import os
import platform
import resource
import signal
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from flows import pipeline
from flows.models import MigrateOptions
from flows.run.report import MigrationReport
from flows.settings import Settings, using
from flows.stores.dynamodb.schema import create_table
from flows.stores.dynamodb.table import open_table
from flows.stores.embedded import embedded_postgres
from tests.benchmarks.endpoint import read_consumption, running_endpoint
from tests.benchmarks.generated_source import fill
from tests.benchmarks.meter import cpu_seconds

if TYPE_CHECKING:
    from distributed import LocalCluster

WORKERS = 2


@contextmanager
def running_dynamodb_local(folder: Path) -> Iterator[str]:
    """Run AWS's own emulator, fetched by the tests; yield its URL."""
    from tests.conftest import await_http, free_port, running_java, simulator

    port, log = free_port(), folder / "dynamodb-local.log"
    with running_java(simulator() / "emulator", port, log):
        await_http(port, log)
        yield f"http://127.0.0.1:{port}"


@contextmanager
def running_dask(settings: Settings) -> Iterator["LocalCluster"]:
    """Run worker processes with these settings in their environment."""
    from distributed import LocalCluster

    values = {
        "DATABASE_URL": settings.database_url,
        "DYNAMODB_ENDPOINT": settings.dynamodb_endpoint,
        "AWS_REGION": settings.aws_region,
        "STATE_URL": settings.state_url,
    }
    plain = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in values.items()
    }
    with LocalCluster(
        n_workers=WORKERS,
        threads_per_worker=1,
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
        env=plain,
    ) as made:
        yield made


def kill_half_way(workers: "LocalCluster", endpoint: str, rows: int) -> float:
    """Kill a worker once half of the rows are written; return the number written."""
    written = 0.0
    while written < rows / 2:
        time.sleep(0.05)
        seconds = read_consumption(endpoint)["seconds"]
        written += sum(second.get("write_units", 0) for second in seconds)
    os.kill(workers.workers[0].pid, signal.SIGKILL)
    return written


def measured(partition_rows: int, **options: Any) -> dict[str, Any]:
    """Migrate once; return verdict, ledger, times and peak memory."""
    cpu, wall = cpu_seconds(), time.perf_counter()
    report: MigrationReport = pipeline.migrate(
        MigrateOptions(partition_rows=partition_rows, **options)
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    values = report.asdict()
    return {
        "status": values["status"],
        "ledger": values["ledger"],
        "seconds": values["seconds"],
        "capacity": values["capacity"],
        "wall_seconds": round(time.perf_counter() - wall, 1),
        "client_cpu_seconds": round(cpu_seconds() - cpu, 1),
        "peak_rss_mib": round(peak / 1024),
    }


def main() -> None:
    """Run the benchmark and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--partition-rows", type=int, default=25_000)
    parser.add_argument("--store", choices=["memory", "dynamodb-local"])
    parser.add_argument("--runner", choices=["local", "dask"], default="local")
    parser.add_argument("--kill-worker", action="store_true")
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
            aws_region="us-east-1",
            runs_dir=folder,
            state_url=f"sqlite:///{folder}/state.db",
        )
        create_table(open_table(settings))
        if arguments.runner == "dask":
            runs = {"dask": on_dask(settings, arguments)}
        else:
            stack.enter_context(using(settings))
            first = measured(arguments.partition_rows)
            runs = {"first": first, "again": measured(arguments.partition_rows)}
    machine = {"python": platform.python_version(), "machine": platform.machine()}
    print(json.dumps({"rows": arguments.rows} | runs | machine, indent=2))  # noqa: T201


def on_dask(settings: Settings, arguments: argparse.Namespace) -> dict[str, Any]:
    """Migrate once with workers of Dask; return the figures, and the killed worker."""
    endpoint = str(settings.dynamodb_endpoint)
    with running_dask(settings) as workers, ThreadPoolExecutor(1) as aside:
        address = {"dask_scheduler_address": workers.scheduler_address}
        half_way = (workers, endpoint, arguments.rows)
        killing = arguments.kill_worker and aside.submit(kill_half_way, *half_way)
        with using(settings.model_copy(update=address)):
            found = measured(arguments.partition_rows, runner="dask")
        killed = {"one_killed_after_rows": killing.result()} if killing else {}
    return found | {"workers": WORKERS} | killed


if __name__ == "__main__":
    main()
