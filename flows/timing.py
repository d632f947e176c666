"""The durations of steps, and the deadline of a run."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from flows.errors import Incomplete


class Clock:
    """The clocks of this machine; those who wait take another one in tests."""

    def time(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)


SYSTEM_CLOCK = Clock()


class Stopwatch:
    """Adds up how many seconds each step takes.

    ``seconds`` is wall-clock time, ``cpu`` is the CPU time of the calling thread.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.cpu: dict[str, float] = defaultdict(float)

    @contextmanager
    def timing(self, step: str) -> Iterator[None]:
        """Add the time of the block to that of a step."""
        begun, begun_cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            self.seconds[step] += time.perf_counter() - begun
            self.cpu[step] += time.thread_time() - begun_cpu


def require_time(
    deadline: float | None, pause: float = 0.0, clock: Clock = SYSTEM_CLOCK
) -> None:
    """Raise if the deadline, in seconds since the epoch, would pass in the pause.

    Raises:
        Incomplete: the deadline has passed, or would pass during the pause.
    """
    if deadline is not None and clock.time() + pause >= deadline:
        message = "The deadline of the run has passed."
        raise Incomplete(message, "Resume or run again; nothing is lost.")
