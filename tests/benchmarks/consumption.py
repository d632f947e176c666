"""What requests consume, second by second, and the write units there are to have."""

import time
from collections import Counter, defaultdict
from typing import Any


class Consumption:
    """Counts of each second of the clock, as a test reads them."""

    def __init__(self) -> None:
        self._seconds: dict[int, Counter[str]] = defaultdict(Counter)

    def add(self, **counts: float) -> None:
        """Add counts to the present second."""
        self._seconds[int(time.time())].update(counts)

    def clear(self) -> None:
        """Forget all counts."""
        self._seconds.clear()

    def asdict(self) -> dict[str, Any]:
        """Return the counts of each second in which something came, and their sums."""
        total: Counter[str] = Counter()
        for counts in self._seconds.values():
            total.update(counts)
        seconds = [{"second": s, **counts} for s, counts in self._seconds.items()]
        return {"total": total, "seconds": seconds}


class TokenBucket:
    """Write units that flow in at a rate; what is not used within a second is lost."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._there = rate or 0.0
        self._since = time.monotonic()

    def take(self, units: float) -> bool:
        """Take units, if there are as many."""
        if self._rate is None:
            return True
        now = time.monotonic()
        flown = (now - self._since) * self._rate
        # Something larger than a second's units must pass at some time, too.
        most = max(self._rate, units)
        self._there, self._since = min(most, self._there + flown), now
        if units > self._there:
            return False
        self._there -= units
        return True
