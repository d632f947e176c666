"""Validate clean rows and their items, and print the times as JSON.

``python -m tests.benchmarks.validate_rows``: processor time in microseconds per row,
of rows and items together, in partitions of 25,000 and 100,000 rows, without the start.
"""

import argparse
import csv
import json
import platform
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from flows.settings import ID_NAMESPACE
from flows.transform import transform_enterprises
from validation.report import ValidationReport
from validation.validate import validate_enterprises, validate_items

SAMPLE = Path(__file__).parents[2] / "data" / "sample" / "enterprises.csv"
TEXT = pd.ArrowDtype(pa.string())


def clean_rows(count: int) -> pd.DataFrame:
    """Create valid rows with the sample's names, numbered so that none repeats."""
    with SAMPLE.open(encoding="utf-8", newline="") as file:
        names = [row["name"] for row in csv.DictReader(file)]
    visible = [name.strip() for name in names if name.strip().isprintable()]
    named = islice(cycle([name for name in visible if name]), count)
    rows = {
        "source_id": [str(number) for number in range(1, count + 1)],
        "enterprise_name": [f"{name} {n}"[:255] for n, name in enumerate(named)],
        "created_date": [
            f"20{n % 20:02}-01-05 12:34:{n % 60:02}.{n % 999 + 1:03}789+00"
            for n in range(count)
        ],
        "updated_date": ["2024-02-29 00:00:00+00"] * count,
    }
    return pd.DataFrame(rows, dtype=object)


def measured(judge: Callable[[], Any], rows: int, repeats: int) -> float:
    """Return the lowest processor time of some calls, in microseconds per row."""
    taken = []
    for _ in range(repeats):
        begun = time.process_time()
        judge()
        taken.append(time.process_time() - begun)
    return round(min(taken) / rows * 1e6, 3)


def judged(count: int, repeats: int, *, arrow: bool) -> dict[str, float]:
    """Validate a partition of that many rows and its items."""
    rows = clean_rows(count)
    items = transform_enterprises(rows)
    if arrow:
        rows, items = rows.astype(TEXT), items.astype(TEXT)
    assert validate_enterprises(rows).success

    def judge_items() -> ValidationReport:
        return validate_items(items, namespace=ID_NAMESPACE)

    assert judge_items().success
    taken = {
        "rows": measured(lambda: validate_enterprises(rows), count, repeats),
        "items": measured(judge_items, count, repeats),
    }
    return taken | {"together": round(sum(taken.values()), 3)}


def main() -> None:
    """Run the benchmark and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[25_000, 100_000])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    begun = time.process_time()
    judged(1, 1, arrow=False)
    result: dict[str, Any] = {
        "start_cpu_seconds": round(time.process_time() - begun, 2)
    }
    for name, arrow in (("objects", False), ("arrow", True)):
        result[name] = {
            f"{rows}": judged(rows, arguments.repeats, arrow=arrow)
            for rows in arguments.rows
        }
    result["unit"] = "microseconds of processor time a row"
    machine = {"python": platform.python_version(), "machine": platform.machine()}
    print(json.dumps(result | machine, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
