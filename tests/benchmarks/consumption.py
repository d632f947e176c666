"""The consumption of requests, second by second, and the available write units."""

import time
from collections import Counter, defaultdict
from typing import Any


class Consumption:
    """Counts of each second of the clock."""

    def __init__(self) -> None:
        self._seconds: dict[int, Counter[str]] = defaultdict(Counter)

    def add(self, **counts: float) -> None:
        """Add counts to the current second."""
        self._seconds[int(time.time())].update(counts)

    def clear(self) -> None:
        """Clear all counts."""
        self._seconds.clear()

    def asdict(self) -> dict[str, Any]:
        """Return the counts of each second with requests, and their sums."""
        total: Counter[str] = Counter()
        for counts in self._seconds.values():
            total.update(counts)
        seconds = [{"second": s, **counts} for s, counts in self._seconds.items()]
        return {"total": total, "seconds": seconds}


class TokenBucket:
    """Write units that arrive at a rate; units unused within a second are lost."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._there = rate or 0.0
        self._since = time.monotonic()

    def take(self, units: float) -> bool:
        """Take units, if that many are available."""
        if self._rate is None:
            return True
        now = time.monotonic()
        flown = (now - self._since) * self._rate
        # A write larger than a second's units must also pass eventually.
        most = max(self._rate, units)
        self._there, self._since = min(most, self._there + flown), now
        if units > self._there:
            return False
        self._there -= units
        return True
