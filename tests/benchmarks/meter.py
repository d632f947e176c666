"""The cost of a process: CPU seconds with its children, wall seconds, peak memory."""

import json
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and its children, ended or alive."""
    ended = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    usages = [resource.getrusage(whose) for whose in ended]
    used = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    alive = [child.pid for child in multiprocessing.active_children()]
    return used + sum(_used_by(pid) for pid in alive if pid)


def peak_rss_mib() -> int:
    """Return the peak resident memory of this process alone."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: it includes the memory of the parent at the start.
        lines = status.read_text().splitlines()
        (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
        return int(peak) // 1024
    unit = 1024 * 1024 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit


class Meter:
    """Adds up the cost of its blocks."""

    def __init__(self) -> None:
        self.cpu = 0.0
        self.wall = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure a block."""
        cpu, wall = cpu_seconds(), time.perf_counter()
        try:
            yield
        finally:
            self.cpu += cpu_seconds() - cpu
            self.wall += time.perf_counter() - wall

    def report(self, rows: int, **more: Any) -> None:
        """Print the cost for that many rows as JSON."""
        figures = {
            "rows": rows,
            "cpu_seconds": round(self.cpu, 2),
            "wall_seconds": round(self.wall, 2),
            "peak_rss_mib": peak_rss_mib(),
        }
        print(json.dumps(figures | more))  # noqa: T201


def _used_by(pid: int) -> float:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    # The name, in brackets, may contain blanks; the times are fields 14 to 17.
    fields = stat.rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS
