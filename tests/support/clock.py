"""A clock that only sleeps advance."""

from flows.timing import Clock


class TestClock(Clock):
    """Shows the same time on all its faces, and sleeps at once."""

    __test__ = False

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def time(self) -> float:
        """Return the time."""
        return self.now

    def monotonic(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Advance the time."""
        self.now += seconds
