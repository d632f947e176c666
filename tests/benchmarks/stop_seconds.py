"""Stop a run, and print the seconds until its end as JSON.

``python -m tests.benchmarks.stop_seconds`` starts the command into the endpoint of the
benchmarks, which accepts some hundred units per second, and sends it SIGTERM or SIGINT
while one process or two workers load its partitions.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from flows.stores.embedded import embedded_postgres
from tests.benchmarks.endpoint import running_endpoint
from tests.benchmarks.generated_source import fill

ROWS = 3_000
WRITE_UNITS = 500
PARTITION_ROWS = 250
SIGNALS = (signal.SIGTERM, signal.SIGINT)
COMMAND = [sys.executable, "-m", "flows.cli"]
MIGRATE = [*COMMAND, "migrate", "--no-prefect", "--json"]
LOADED = b"INFO partition"


def seconds_to_stop(environment: dict[str, str], workers: int, number: int) -> float:
    """Start a run, stop it once a partition is loaded, and time its end."""
    subprocess.run([*COMMAND, "create-table"], env=environment, check=True)
    options = ["--partition-rows", str(PARTITION_ROWS), "--workers", str(workers)]
    with subprocess.Popen(
        [*MIGRATE, *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as run:
        _await_loading(run.stderr)
        run.send_signal(number)
        signalled = time.monotonic()
        # Until no process holds its output any more, including the workers.
        output, errors = run.communicate()
        seconds = time.monotonic() - signalled
    if b"proven" in output or b"--resume" not in output + errors:
        message = "the run was not stopped half way"
        raise AssertionError(message)
    return seconds


def _await_loading(log: IO[bytes] | None) -> None:
    for line in log or ():
        if LOADED in line:
            return


def main() -> None:
    """Stop runs, and print the duration of each stop."""
    found: list[dict[str, Any]] = []
    with ExitStack() as stack:
        source = stack.enter_context(embedded_postgres())
        fill(source.url, ROWS)
        for number in SIGNALS:
            for workers in (1, 2):
                with running_endpoint(write_units=WRITE_UNITS) as endpoint:
                    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                    environment = os.environ | {
                        "DATABASE_URL": source.url,
                        "DYNAMODB_ENDPOINT": endpoint,
                        "AWS_REGION": "eu-west-1",
                        "STATE_URL": f"sqlite:///{folder / 'state.db'}",
                        "RUNS_DIR": str(folder),
                    }
                    seconds = seconds_to_stop(environment, workers, number)
                name = signal.Signals(number).name
                found.append({"signal": name, "workers": workers, "seconds": seconds})
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
