"""The log is bounded: whoever sends much that is refused does not fill the disk."""

import logging
import time

WINDOW_SECONDS = 10.0
LINES = 50
# What begins alike is alike: asyncio writes addresses of objects at the end.
_BEGINNING = 40
_MOST_KINDS = 1000


class LogLimit(logging.Filter):
    """Lets 50 lines of a kind pass in 10 seconds, and says how many did not.

    Lines of requests that were served (``extra={"served": True}``) all pass: there are
    as many as the store answers.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[tuple[str, int, str], list[float]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line passes."""
        if getattr(record, "served", False):
            return True
        if len(self._kinds) > _MOST_KINDS:
            self._kinds.clear()
        kind = record.name, record.levelno, str(record.msg)[:_BEGINNING]
        now = time.monotonic()
        began, count = self._kinds.get(kind, (now, 0))
        if now - began >= WINDOW_SECONDS:
            if count > LINES:
                left = count - LINES
                record.msg = f"{record.getMessage()} ({left:.0f} more like it before)"
                record.args = None
            began, count = now, 0
        self._kinds[kind] = [began, count + 1]
        return count < LINES
