"""A limit on log lines, so that refused requests cannot fill the disk."""

import logging
import time

WINDOW_SECONDS = 10.0
LINES = 50
# Lines that begin alike are of one kind: asyncio writes object addresses at the end.
_BEGINNING = 40
_MOST_KINDS = 1000


class LogLimit(logging.Filter):
    """Passes 50 lines of a kind per 10 seconds, and logs how many it dropped.

    All lines of served requests (``extra={"served": True}``) pass: there are only as
    many as the store answers.
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
                record.msg = f"{record.getMessage()} ({left:.0f} similar dropped)"
                record.args = None
            began, count = now, 0
        self._kinds[kind] = [began, count + 1]
        return count < LINES
