"""Compare what two checkouts do: the same commands, the same JSON, the same table.

Run it with ``python -m tests.benchmarks.compare_checkouts BEFORE AFTER``, the folders
of two checkouts, each with its ``.venv``. Both use one embedded PostgreSQL with the
sample, and separate tables. It prints one JSON object, and exits with 1 if anything
other than run ids, times and durations differs.
"""

import argparse
import difflib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from flows.demo.stores import embedded_stores
from flows.settings import Settings
from flows.stores.dynamodb.table import open_table

COMMANDS = (
    "create-table",
    "validate",
    "plan --sample 5000",
    "migrate --no-prefect --run-id one --partition-rows 1000",
    "migrate --no-prefect --run-id two --allow-quarantined 7",
    "migrate --no-prefect --run-id three --allow-quarantined 7 --since last",
    "reconcile",
    "reconcile --sample 100",
    "reconcile --repair",
    "validate --target",
    "quarantine list",
    "quarantine show one",
    "cutover declare --yes",
    "migrate --no-prefect --run-id four",
    "cutover revoke --yes",
    "iam-policy",
    "demo",
)
# What two runs of one checkout do not have in common either.
VARYING = (
    (r"\d{8}T\d{6}Z-[0-9a-f]{6}", "RUN"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?", "TIME"),
    (r"LSN [0-9A-F]+/[0-9A-F]+", "LSN"),
    (r"\b127\.0\.0\.1:\d+", "ADDRESS"),
)
# Durations, and what depends on how busy the machine is.
MEASURED = {"seconds", "limit", "throttles", "retries", "fault"}


def main() -> None:
    """Run the comparison and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    arguments = parser.parse_args()
    with embedded_stores() as stores:
        found = [
            run_commands(checkout.resolve(), stores.settings, f"Compared{number}")
            for number, checkout in enumerate((arguments.before, arguments.after))
        ]
    before, after = found
    different = {
        name: list(difflib.unified_diff(before[name], after[name], lineterm="", n=0))
        for name in before
        if before[name] != after[name]
    }
    counts = {"compared": len(before), "items": len(before["items"])}
    print(json.dumps({**counts, "different": different}, indent=2))  # noqa: T201
    sys.exit(bool(different))


def run_commands(
    checkout: Path, settings: Settings, table: str
) -> dict[str, list[str]]:
    """Run all commands of a checkout; return what each printed, and the items."""
    with tempfile.TemporaryDirectory() as folder:
        url = settings.database_url
        environment = os.environ | {
            "PYTHONPATH": str(checkout),
            "DATABASE_URL": url.get_secret_value() if url else "",
            "DYNAMODB_ENDPOINT": str(settings.dynamodb_endpoint),
            "AWS_REGION": "us-east-1",
            "DYNAMODB_ENTERPRISE_TABLE": table,
            "STATE_URL": f"sqlite:///{folder}/state.db",
            "RUNS_DIR": folder,
        }
        python = checkout / ".venv" / "bin" / "python"
        printed = {}
        for command in COMMANDS:
            words = [str(python), "-m", "flows.cli", *command.split(), "--json"]
            done = subprocess.run(
                words,
                env=environment,
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
            values = json.loads(done.stdout)
            lines = json.dumps(without_measures(values), indent=1, sort_keys=True)
            for text in (folder, table):
                lines = lines.replace(text, "HERE")
            for pattern, name in VARYING:
                lines = re.sub(pattern, name, lines)
            printed[command] = [f"exit {done.returncode}", *lines.splitlines()]
        target = settings.model_copy(update={"dynamodb_enterprise_table": table})
        items = [item for page in open_table(target).scan() for item in page]
        texts = (json.dumps(item, sort_keys=True) for item in items)
        return printed | {"items": sorted(texts)}


def without_measures(values: Any) -> Any:
    """Return plain values without durations."""
    if isinstance(values, dict):
        kept = {k: v for k, v in values.items() if k not in MEASURED}
        return {name: without_measures(value) for name, value in kept.items()}
    if isinstance(values, list):
        return [without_measures(value) for value in values]
    return values


if __name__ == "__main__":
    main()
