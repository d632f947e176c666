"""Migrate under a cap, and into a table that throttles; print each second as JSON.

``python -m tests.benchmarks.hold_rate --rows 60000`` migrates into the endpoint of the
benchmarks, which counts the units and requests of each second: with
``--max-write-units`` of 2,000, and with 3,000 available units per second, each with one
worker and with four.
"""

import argparse
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import mean
from typing import Any

from flows import pipeline
from flows.models import MigrateOptions
from flows.run.report import MigrationReport
from flows.settings import Settings, using
from flows.stores.dynamodb.schema import create_table
from flows.stores.dynamodb.table import open_table
from flows.stores.embedded import embedded_postgres
from tests.benchmarks.endpoint import read_consumption, running_endpoint
from tests.benchmarks.generated_source import fill

CAP = 2_000
TAKEN = 3_000
WORKERS = (1, 4)
PARTITIONS = 8
# The rate settles in the first two seconds, and the last two are incomplete.
SETTLED, TAIL = 2, 2


def rate_of(seconds: list[dict[str, Any]], rate: float) -> dict[str, Any]:
    """Return the units of the settled seconds, compared with a rate."""
    writing = sorted(
        (one for one in seconds if one.get("write_units", 0) > 1),
        key=lambda one: int(one["second"]),
    )
    units = [round(one["write_units"]) for one in writing]
    settled = units[SETTLED:-TAIL]
    return {
        "rate": rate,
        "units_by_second": units,
        "mean": round(mean(settled)),
        "mean_percent_off": round(100 * (mean(settled) / rate - 1), 1),
        "worst_percent_off": max(
            (round(100 * (one / rate - 1), 1) for one in settled), key=abs
        ),
        "requests_in_busiest_second": max(map(_requests, seconds)),
        "requests": sum(map(_requests, seconds)),
        "unprocessed": sum(one.get("unprocessed", 0) for one in seconds),
        "throttled": sum(one.get("throttled", 0) for one in seconds),
    }


def _requests(second: dict[str, Any]) -> int:
    """Count a second's requests, which are listed by the names of their operations."""
    return sum(count for name, count in second.items() if name[0].isupper())


def migrate(
    source: str, rows: int, workers: int, *, cap: int | None, taken: int | None
) -> dict[str, Any]:
    """Migrate once into a separate endpoint; return its counts of each second."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        endpoint = stack.enter_context(running_endpoint(write_units=taken))
        settings = Settings.isolated(
            database_url=source,
            dynamodb_endpoint=endpoint,
            runs_dir=folder,
            state_url=f"sqlite:///{folder}/state.db",
        )
        create_table(open_table(settings))
        stack.enter_context(using(settings))
        read_consumption(endpoint)
        report: MigrationReport = pipeline.migrate(
            MigrateOptions(
                partition_rows=rows // PARTITIONS,
                workers=workers,
                max_write_units=cap,
            )
        )
        seconds = read_consumption(endpoint)["seconds"]
    verdict = {"workers": workers, "status": report.status, "limit": report.limit}
    return verdict | rate_of(seconds, float(cap or taken or 0))


def main() -> None:
    """Run all four and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=60_000)
    rows = parser.parse_args().rows
    with embedded_postgres() as source:
        fill(source.url, rows)
        capped, throttled = (
            [migrate(source.url, rows, workers, **how) for workers in WORKERS]
            for how in ({"cap": CAP, "taken": None}, {"cap": None, "taken": TAKEN})
        )
    print(json.dumps({"rows": rows, "capped": capped, "throttled": throttled}))  # noqa: T201


if __name__ == "__main__":
    main()
