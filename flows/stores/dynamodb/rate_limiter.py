"""The rates at which all workers of a run together write and read.

A rate starts low, which suits an on-demand table, and grows while nothing is throttled.
After a throttle it falls to what the table accepted, then grows again, slowly at first.
"""

import math
import multiprocessing
from multiprocessing.context import BaseContext

from flows.errors import Incomplete
from flows.stores.dynamodb.backoff import sleep_unless_stopped
from flows.timing import SYSTEM_CLOCK, Clock, require_time

# A new on-demand table accepts 4,000 write and 12,000 read units per second.
FIRST_RATE = 2_000.0
FIRST_READ_RATE = 6_000.0
# A page of a scan has up to 1 MB, at 4 KB per unit.
PAGE_UNITS = 256.0
# If throttling never ends, 25-item batches are rare, and single items 10 per second.
LEAST_RATE = 10.0
# Time that may be caught up after a pause; more would cause a peak at the table.
BURST_SECONDS = 0.05
FULL_GROWTH, CAREFUL_GROWTH = 1.0, 0.03
KEPT_SHARE = 0.9
PERIOD = 1.0


class RateLimiter:
    """Distributes units among all its copies, at most *cap* per second.

    The rate starts at *first*, and never falls below *least*. Processes share a limiter
    by inheriting it: it is passed to them when they start.
    """

    def __init__(
        self,
        cap: float | None = None,
        context: BaseContext | None = None,
        first: float = FIRST_RATE,
        least: float = LEAST_RATE,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._clock = clock
        context = context or multiprocessing.get_context("forkserver")
        self.cap = cap or math.inf
        self._least = min(least, self.cap)
        self._lock = context.Lock()
        now = self._clock.monotonic()
        self._rate = context.RawValue("d", min(first, self.cap))
        self._growth = context.RawValue("d", FULL_GROWTH)
        # When the next unit is due, and when the current period began.
        self._due = context.RawValue("d", now)
        self._since = context.RawValue("d", now)
        self._taken = context.RawValue("d", 0.0)
        self._taken_before = context.RawValue("d", 0.0)
        self._slowed = context.RawValue("d", -math.inf)
        self._stopped = context.RawValue("d", 0.0)

    @property
    def rate(self) -> float:
        """Return the present rate, in units per second."""
        return float(self._rate.value)

    @property
    def is_full(self) -> bool:
        """Return whether the next request must wait for the rate."""
        return bool(self._due.value > self._clock.monotonic())

    def stop(self) -> None:
        """Stop all copies: nothing more is sent."""
        self._stopped.value = 1.0

    def take(self, units: float, deadline: float | None = None) -> float:
        """Wait until *units* may be used; return the seconds of the wait.

        Raises:
            Incomplete: the run was stopped, or the deadline would pass during the wait.
        """
        with self._lock:
            now = self._clock.monotonic()
            self._turn(now)
            due = max(self._due.value, now - BURST_SECONDS)
            self._due.value = due + units / self._rate.value
        if due > now:
            require_time(deadline, due - now, self._clock)
            sleep_unless_stopped(due - now, self.raise_if_stopped, self._clock)
        self.raise_if_stopped()
        return float(max(0.0, due - now))

    def raise_if_stopped(self) -> None:
        """Raise if the run was stopped.

        Raises:
            Incomplete: the run was stopped.
        """
        if self._stopped.value:
            raise Incomplete("The run was stopped.")

    def correct(self, expected: float, consumed: float) -> None:
        """Replace the expected units of a request with those that it consumed."""
        with self._lock:
            self._taken.value += consumed
            self._due.value += (consumed - expected) / self._rate.value

    def slow_down(self, consumed: float = 0.0) -> None:
        """Lower the rate to what the table accepts; it accepted only *consumed* units.

        Refused units are not returned: otherwise no pause would follow.
        """
        with self._lock:
            now = self._clock.monotonic()
            self._turn(now)
            self._taken.value += consumed
            # Once per period: the requests under way were too fast for the same reason.
            if now - self._slowed.value < PERIOD:
                return
            self._slowed.value = now
            passed = PERIOD + now - self._since.value
            really = (self._taken_before.value + self._taken.value) / passed
            rate = KEPT_SHARE * min(self._rate.value, really)
            self._rate.value = max(self._least, rate)
            self._growth.value = CAREFUL_GROWTH

    def _turn(self, now: float) -> None:
        """Begin a new period, with a higher rate if the last one was used."""
        if now - self._since.value < PERIOD:
            return
        rate, taken = self._rate.value, self._taken.value
        if taken > rate * PERIOD / 2:
            self._rate.value = min(self.cap, rate * (1 + self._growth.value))
            self._growth.value = min(FULL_GROWTH, 2 * self._growth.value)
        self._since.value, self._taken_before.value = now, taken
        self._taken.value = 0.0


class Pages:
    """Limits the items of a page, so that no page takes more than its share.

    Several *readers* under one cap each request pages small enough that all of them get
    a page twice per second. The cost of an item is learned from the pages. Each page
    that times out halves the next ones, and each quick page doubles them again: *step*
    counts the halvings.
    """

    def __init__(self, limiter: RateLimiter | None, readers: int = 1) -> None:
        self._share = limiter.cap / readers / 2 if limiter else math.inf
        self._each = 1.0
        self._last = 1.0
        self.step = 0

    @property
    def limit(self) -> int | None:
        """Return how many items to request; None for a whole page."""
        if self._share >= PAGE_UNITS and not self.step:
            return None
        units = min(self._share, PAGE_UNITS) / 2**self.step
        return max(1, int(units / self._each))

    def shrink(self, step: int) -> None:
        """Halve the pages after one that was requested at this *step* timed out."""
        # Several readers time out at once: together they halve once.
        if step == self.step and self.limit != 1:
            self.step += 1

    def grow(self, step: int) -> None:
        """Double the pages after one that was requested at this *step* was quick."""
        if step == self.step > 0:
            self.step -= 1

    @property
    def units(self) -> float:
        """Return the expected cost of the next page."""
        return self._last if self.limit is None else max(1.0, self.limit * self._each)

    def learn(self, items: int, units: float) -> None:
        """Use the cost of a page as the expected cost of the next."""
        self._last = max(1.0, units)
        if items and units:
            self._each = units / items


def make_read_limiter(
    cap: float | None = None, clock: Clock = SYSTEM_CLOCK
) -> RateLimiter:
    """Create a limiter of reads, at most *cap* units per second."""
    return RateLimiter(cap, first=FIRST_READ_RATE, least=PAGE_UNITS, clock=clock)
