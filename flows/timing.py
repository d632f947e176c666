"""The durations of steps, the deadline of a run, and how far a command is."""

import logging
import multiprocessing
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from itertools import pairwise
from math import ceil
from threading import Event, Thread
from typing import Any

from flows.errors import Incomplete

logger = logging.getLogger(__name__)

# The rate of a progress is that of these seconds, sampled this often.
RATE_SECONDS, SAMPLE_SECONDS = 15.0, 0.5
LOG_SECONDS = 10.0
MINUTE = 60
UNITS = ((86_400, "d"), (3_600, "h"), (MINUTE, "min"), (1, "s"))
# Below this many seconds, tenths are shown.
EXACT = 10


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


class Progress:
    """How far a command is: its phase, and how many of its rows are done.

    The command's process begins the phases. Its worker processes inherit the object
    when they start, and only count rows.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        context = multiprocessing.get_context("forkserver")
        self._shared = context.Lock(), context.RawValue("q", 0)
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque()
        # The rows of the source, 0 while they are not known.
        self.rows = 0
        self.waits_for: Callable[[], str | None] = lambda: None
        self.begin("starting")

    def __reduce__(self) -> Any:
        """Give a worker process the count alone."""
        return _share_progress, self._shared

    @property
    def done(self) -> int:
        """Return how many rows of the phase are done."""
        return int(self._shared[1].value)

    def begin(self, phase: str, total: int = 0, done: int = 0) -> None:
        """Begin a phase of *total* rows, 0 if unknown, of which some are *done*."""
        lock, count = self._shared
        with lock:
            self.phase, self.total, count.value = phase, total, done
        # How many partitions are finished, if the phase has any.
        self.finished = ""
        self._samples.clear()
        self._samples.append((self._clock.monotonic(), done))
        self.changed()

    def advance(self, rows: int) -> None:
        """Count rows as done."""
        lock, count = self._shared
        with lock:
            count.value += rows

    def finish_partition(self, finished: int, partitions: int, done: int) -> None:
        """Record how many partitions are finished, and at least *done* rows done."""
        lock, count = self._shared
        with lock:
            # Workers of other machines do not share the count.
            count.value = max(count.value, done)
        self.finished = f"{finished:,} of {partitions:,} partitions"
        self.changed()

    def changed(self) -> None:
        """React to the begin of a phase and to the end of a partition."""

    @property
    def counted(self) -> str:
        """Return how many rows are done, of all if those are known, or nothing."""
        done = self.done
        if done <= self.total > 0:
            return f"{done:,} of {self.total:,} rows"
        return f"{done:,} rows" if done else ""

    @property
    def pace(self) -> str:
        """Return the rows per second and the time left, as far as they are known."""
        rate, left = self._measure_rate(), self.total - self.done
        paces = [f"{rate:,.0f} rows/s"] if rate >= 1 else []
        if paces and left > 0:
            paces.append(f"about {describe_seconds(ceil(left / rate))} left")
        return ", ".join(paces)

    def describe(self) -> str:
        """Return phase, rows, pace, and what the command waits for, as a sentence."""
        waits = self.waits_for()
        counts = ", ".join(filter(None, (self.counted, self.finished)))
        done = ": ".join(filter(None, (self.phase, counts)))
        parts = (done, self.pace, f"waits for {waits}" if waits else "")
        return "; ".join(filter(None, parts))

    def _measure_rate(self) -> float:
        """Return how many rows per second were done in the last seconds."""
        now, done, samples = self._clock.monotonic(), self.done, self._samples
        while len(samples) > 1 and samples[1][0] <= now - RATE_SECONDS:
            samples.popleft()
        since, before = samples[0]
        if now - samples[-1][0] >= SAMPLE_SECONDS:
            samples.append((now, done))
        return (done - before) / (now - since) if now > since else 0.0


def _share_progress(*shared: Any) -> Progress:
    progress = Progress.__new__(Progress)
    progress._shared = shared  # noqa: SLF001
    return progress


@contextmanager
def logging_progress(progress: Progress) -> Iterator[None]:
    """Log each phase as it begins, and every ten seconds how far it is."""
    ended = Event()

    def log() -> None:
        phase, next_at = "", 0.0
        while not ended.wait(SAMPLE_SECONDS):
            if progress.phase != phase or time.monotonic() >= next_at:
                phase, next_at = progress.phase, time.monotonic() + LOG_SECONDS
                logger.info("%s", progress.describe())

    # The caller's context identifies the run of the lines.
    thread = Thread(target=copy_context().run, args=[log], daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def describe_seconds(seconds: float | None) -> str:
    """Return a duration in one or two units, e.g. ``40 s`` or ``2 h 5 min``."""
    if seconds is None:
        return "-"
    if seconds < MINUTE:
        return f"{round(seconds, 1 if seconds < EXACT else None):g} s"
    pairs = pairwise(UNITS)
    (unit, name), (part, part_name) = next(p for p in pairs if seconds >= p[0][0])
    whole, rest = divmod(int(seconds), unit)
    left = rest // part
    return f"{whole} {name} {left} {part_name}" if left else f"{whole} {name}"
