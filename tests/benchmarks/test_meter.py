"""The meter counts the cost of the client only."""

import os
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

from tests.benchmarks.meter import Meter, cpu_seconds

ROOT = Path(__file__).parents[2]
BUSY = "import time\nwhile time.process_time() < 0.2: pass"
PEAK = "from tests.benchmarks.meter import peak_rss_mib\nprint(peak_rss_mib())"


def test_a_child_that_has_ended_is_counted() -> None:
    """The CPU of an ended child process must count for a block."""
    meter = Meter()

    with meter.running():
        subprocess.run([sys.executable, "-c", BUSY], check=True)

    assert meter.cpu >= 0.2
    assert meter.wall >= 0.2


def test_a_worker_that_lives_is_counted() -> None:
    """Workers that are still alive when a block ends must count for it."""
    before, deadline = cpu_seconds() - time.process_time(), time.monotonic() + 30
    worker = get_context("spawn").Process(target=sum, args=[range(10**11)])
    worker.start()
    try:
        used = 0.0
        while used < 0.2 and time.monotonic() < deadline:
            time.sleep(0.05)
            used = cpu_seconds() - time.process_time() - before
    finally:
        worker.kill()
        worker.join()

    assert used >= 0.2


def test_the_memory_of_the_parent_is_not_counted() -> None:
    """A small process started by a large one must count as small."""
    large = b"x" * 200 * 1024**2
    command = [sys.executable, "-c", PEAK]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    done = subprocess.run(command, env=environment, capture_output=True, check=True)

    assert int(done.stdout) < len(large) // 2 // 1024**2
