"""How long a step takes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def timed(
    seconds: dict[str, float],
    step: str,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[None]:
    """Add the time of the block, by default on the wall, to a step's seconds."""
    begun = clock()
    try:
        yield
    finally:
        seconds[step] = seconds.get(step, 0.0) + clock() - begun
