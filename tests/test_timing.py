"""How far a command is, as its lines and log say it."""

import logging
import pickle
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from flows.timing import Progress, describe_seconds, logging_progress
from tests.support.clock import TestClock

_shared: list[Progress] = []


def test_progress_says_rows_pace_and_time_left() -> None:
    """The pace is that of the last seconds, and the time left follows from it."""
    clock = TestClock()
    progress = Progress(clock)
    progress.begin("moving", total=10_000, done=1_000)
    assert progress.describe() == "moving: 1,000 of 10,000 rows"

    clock.now += 2
    progress.advance(3_000)

    said = "moving: 4,000 of 10,000 rows; 1,500 rows/s, about 4 s left"
    assert progress.describe() == said


def test_the_pace_forgets_what_was_long_ago() -> None:
    """After a fast begin, a slow minute must show as slow."""
    clock = TestClock()
    progress = Progress(clock)
    progress.begin("moving", total=1_000_000)
    progress.advance(100_000)
    for _ in range(60):
        clock.now += 1
        progress.advance(10)
        pace = progress.pace

    assert pace.startswith("10 rows/s")


def test_finished_partitions_are_counted_and_what_is_waited_for_is_named() -> None:
    """The log says how many partitions are finished, and what the requests wait for."""
    clock = TestClock()
    progress = Progress(clock)
    progress.waits_for = lambda: "the write cap"
    progress.begin("moving", total=50_000)
    clock.now += 1
    progress.finish_partition(1, 2, 25_000)

    assert progress.describe() == (
        "moving: 25,000 of 50,000 rows, 1 of 2 partitions; 25,000 rows/s,"
        " about 1 s left; waits for the write cap"
    )


def test_more_rows_than_expected_are_no_share() -> None:
    """A table that holds other items too has more items than the source has rows."""
    progress = Progress(TestClock())
    progress.begin("reading the table", total=100)
    progress.advance(150)

    assert progress.describe() == "reading the table: 150 rows"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.24, "0.2 s"),
        (59.99, "60 s"),
        (150, "2 min 30 s"),
        (7_500, "2 h 5 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_are_rounded(seconds: float, said: str) -> None:
    """Two units are enough: no one needs the seconds of an hour."""
    assert describe_seconds(seconds) == said


def _share(progress: Progress) -> None:
    _shared.append(progress)


def _advance(rows: int) -> None:
    _shared[0].advance(rows)


def test_worker_processes_count_rows_in_one_progress() -> None:
    """What a worker has done must show at the driver at once."""
    progress = Progress()
    progress.begin("moving", total=100)
    with ProcessPoolExecutor(2, get_context("forkserver"), _share, [progress]) as pool:
        list(pool.map(_advance, [10, 20, 30]))

    assert progress.done == 60


def test_a_progress_is_given_to_processes_only() -> None:
    """Its count cannot be shared with a process that was not started with it."""
    with pytest.raises(RuntimeError):
        pickle.dumps(Progress())


def test_the_log_has_each_phase(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where nobody watches, each phase must be logged as it begins, in words."""
    progress = Progress()
    with caplog.at_level(logging.INFO, "flows"), logging_progress(progress):
        for phase in ("planning", "moving"):
            progress.begin(phase, 5_000)
            end = time.monotonic() + 10
            while phase not in caplog.text and time.monotonic() < end:
                time.sleep(0.02)

    assert "planning: 0 of 5,000 rows" in caplog.messages
    assert caplog.messages[-1] == "moving: 0 of 5,000 rows"
