"""Measure the program beside its alternatives, and print ratios as JSON.

``make bench`` runs it with 100,000, 300,000 and 1,000,000 rows; a quick look is
``make bench ROWS=20000``, a part of it ``python -m tests.benchmarks.side_by_side --only
load --rows 20000``. PostgreSQL is the embedded one, DynamoDB the endpoint beside this
module, both in separate processes whose CPU is not counted. README.md has the rest.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from flows.settings import Settings
from flows.stores.dynamodb.schema import create_table
from flows.stores.dynamodb.table import open_table
from flows.stores.embedded import embedded_postgres
from tests.benchmarks.awswrangler_environment import awswrangler_python
from tests.benchmarks.endpoint import read_consumption, running_endpoint
from tests.benchmarks.generated_source import fill
from tests.benchmarks.mapped import fill_shops, write_mapping_file
from tests.benchmarks.plot import draw
from tests.benchmarks.summary import as_markdown, machine, summarise

ROOT = Path(__file__).parents[2]
SIZES = (100_000, 300_000, 1_000_000)
PARTS = {
    "load": ("load_by_program", "load_by_batch_writer", "load_by_put_df"),
    "extract": ("extract_by_program", "extract_by_read_sql"),
    "whole": ("whole_by_program", "whole_by_script"),
    "reconcile": ("reconcile_by_program", "reconcile_by_merge"),
    "mapped": (
        "mapped_by_program",
        "mapped_by_script",
        "mapped_reconcile_by_program",
        "mapped_reconcile_by_script",
    ),
}
# The reconciling contenders use the items of the program's migration.
MOVED = {"whole_by_program", "reconcile_by_program", "reconcile_by_merge"}
MAPPED = {
    "mapped_by_program",
    "mapped_reconcile_by_program",
    "mapped_reconcile_by_script",
}
SAMPLE_SECONDS = 0.1


@dataclass(frozen=True)
class Bench:
    """Both stores, the folder of one size, and the measurements."""

    database_url: str
    endpoint: str
    folder: Path
    options: Mapping[str, str]
    repeat: int
    # The Python with awswrangler, or None and the reason why it is missing.
    wrangler: tuple[str | None, str]

    def measure(self, contender: str) -> dict[str, Any]:
        """Measure one contender repeatedly, and return the figures of the cheapest run.

        Other processes on the machine can only increase the cost.
        """
        python: str | None = sys.executable
        if contender == "load_by_put_df":
            python, reason = self.wrangler
            if python is None:
                return {"contender": contender, "unavailable": reason}
        tries = [self._run(contender, str(python)) for _ in range(self.repeat)]
        return min(tries, key=lambda figures: figures.get("cpu_seconds", 0.0))

    def drop_moved(self, contender: str) -> None:
        """Drop the items that the program has moved: a million take a gigabyte."""
        self._drop_table(contender)

    def _run(self, contender: str, python: str) -> dict[str, Any]:
        """Run one contender in a separate process, into a separate table."""
        writes = contender.startswith(("load", "whole", "mapped_by"))
        if writes:
            self._make_table(contender)
        before = read_consumption(self.endpoint)["cpu_seconds"]
        with (self.folder / f"{contender}.log").open("w+") as log:
            process = subprocess.Popen(
                [python, "-m", "tests.benchmarks.contenders", contender],
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment(contender),
                cwd=self.folder,
            )
            peak = _watch(process)
            said = process.stdout.read() if process.stdout else b""
            if process.returncode != 0:
                log.seek(0)
                return {"contender": contender, "failed": log.read()[-2000:]}
        if writes and contender not in MOVED | MAPPED:
            self._drop_table(contender)
        figures = {"contender": contender} | json.loads(said.splitlines()[-1])
        figures["peak_rss_mib"] = max(peak, figures["peak_rss_mib"])
        used = read_consumption(self.endpoint)["cpu_seconds"] - before
        return figures | {"endpoint_cpu_seconds": round(used, 2)}

    def _make_table(self, contender: str) -> None:
        table = open_table(self._settings(contender))
        if not create_table(table):
            self._drop_table(contender)
            create_table(table)

    def _drop_table(self, contender: str) -> None:
        table = open_table(self._settings(contender))
        table.client.delete_table(TableName=table.name)

    def _settings(self, contender: str) -> Settings:
        return Settings.isolated(
            aws_region="us-east-1",
            dynamodb_endpoint=self.endpoint,
            dynamodb_enterprise_table=_table_name(contender),
        )

    def _environment(self, contender: str) -> dict[str, str]:
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("AWS_", "PG"))}
        return kept | {
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": self.database_url,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "dummy",
            "AWS_SECRET_ACCESS_KEY": "dummy",
            "AWS_ENDPOINT_URL_DYNAMODB": self.endpoint,
            "WR_DYNAMODB_ENDPOINT_URL": self.endpoint,
            "DYNAMODB_ENDPOINT": self.endpoint,
            "DYNAMODB_ENTERPRISE_TABLE": _table_name(contender),
            "RUNS_DIR": str(self.folder),
            "STATE_URL": f"sqlite:///{self.folder}/state.db",
            "ITEMS_FILE": str(self.folder / "items.parquet"),
            "MIGRATE_OPTIONS": json.dumps(self.options),
            **self._mapping(contender),
        }

    def _mapping(self, contender: str) -> dict[str, str]:
        """Return the setting of the contenders that move the mapped table."""
        if not contender.startswith("mapped"):
            return {}
        return {"MAPPING_FILE": str(write_mapping_file(self.folder))}


def measure_size(bench: Bench, rows: int, parts: Sequence[str]) -> list[dict[str, Any]]:
    """Measure all contenders of some parts with that many rows."""
    _say(f"{rows} rows: filling the source")
    fill(bench.database_url, rows)
    if "mapped" in parts:
        fill_shops(bench.database_url, rows)
    if "load" in parts:
        _require_done(replace(bench, repeat=1).measure("make_items"))
    figures = []
    for contender in _in_order(parts):
        _say(f"{rows} rows: {contender}")
        figures.append({"asked": rows} | bench.measure(contender))
    for moved, first in ((MOVED, "whole_by_program"), (MAPPED, "mapped_by_program")):
        if moved.intersection(_in_order(parts)):
            bench.drop_moved(first)
    return figures


def main() -> None:
    """Run the benchmark, and print one JSON object; fail if a contender failed."""
    arguments = _parse_arguments()
    options = dict(option.split("=", 1) for option in arguments.options)
    runs = []
    with ExitStack() as stack:
        wrangler: tuple[str | None, str] = (None, "not asked for")
        if "load" in arguments.only:
            wrangler = awswrangler_python()
        source = stack.enter_context(embedded_postgres())
        endpoint = stack.enter_context(running_endpoint(delay=arguments.delay))
        for rows in arguments.rows:
            folder = Path(tempfile.mkdtemp(prefix="enterprises-bench-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stores = (source.url, endpoint, folder)
            bench = Bench(*stores, options, arguments.repeat, wrangler)
            runs += measure_size(bench, rows, arguments.only)
    result = {"machine": machine(), "rows": arguments.rows}
    result |= {"options": options, "repeat": arguments.repeat}
    result |= summarise(runs) | {"runs": runs}
    text = json.dumps(result, indent=2)
    if arguments.output:
        arguments.output.write_text(f"{text}\n", "utf-8")
    if arguments.plot:
        arguments.plot.write_text(draw(result), "utf-8")
    _say(f"done\n\n{as_markdown(result)}\n")
    print(text)  # noqa: T201
    ran = [run for run in runs if "unavailable" not in run]
    sys.exit(any(run.get("rows") != run["asked"] for run in ran))


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--options", nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument("--repeat", type=int, default=1, help="count the cheapest")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds per answer")
    parser.add_argument("--output", type=Path, help="write the JSON here as well")
    parser.add_argument("--plot", type=Path, help="draw the rates here, as SVG")
    arguments = parser.parse_args()
    arguments.rows.sort()
    return arguments


def _in_order(parts: Sequence[str]) -> list[str]:
    wanted = [one for part, names in PARTS.items() if part in parts for one in names]
    if "reconcile" in parts and "whole" not in parts:
        wanted.insert(wanted.index("reconcile_by_program"), "whole_by_program")
    return wanted


def _table_name(contender: str) -> str:
    if contender in MAPPED:
        return "Mapped"
    return "Moved" if contender in MOVED else contender


def _watch(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process; return the peak memory, in MiB, of it and its children.

    Shared pages are counted for each process.
    """
    peak, client = 0, psutil.Process(process.pid)
    while process.poll() is None:
        try:
            family = [client, *client.children(recursive=True)]
            peak = max(peak, sum(one.memory_info().rss for one in family))
        except psutil.NoSuchProcess:
            pass
        time.sleep(SAMPLE_SECONDS)
    return peak // 1024**2


def _require_done(figures: dict[str, Any]) -> None:
    if "failed" in figures:
        raise RuntimeError(figures["failed"])


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


if __name__ == "__main__":
    main()
