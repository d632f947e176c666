"""Retries: growing pauses between requests, and limits of the total wait."""

import logging
import random
import time
from collections.abc import Callable

from flows.errors import Incomplete, StoreFault, Unreachable
from flows.stores.dynamodb.faults import TimedOut

logger = logging.getLogger(__name__)

UNREACHABLE_PATIENCE = 60.0
SLOW_PATIENCE = 300.0
# Interval in which a wait checks whether its run was stopped.
LOOK_SECONDS = 0.1
# Longer than a request may take, and the name of its host before it, so that those
# between two faults were answered.
QUIET_SECONDS = 60.0
TELL_SECONDS = 60.0


class Backoff:
    """Waits between tries: full jitter, growing from 0.1 to 5 seconds.

    The random wait spreads workers that failed together; growing it keeps requests
    few while everything is refused. *raise_if_stopped* ends a wait of a run that was
    stopped.
    """

    def __init__(
        self,
        deadline: float | None,
        raise_if_stopped: Callable[[], object] = lambda: None,
    ) -> None:
        self._deadline = deadline
        self._raise_if_stopped = raise_if_stopped
        self._ended = 0.0
        self.reset()

    def reset(self) -> None:
        """Begin anew, after a success."""
        self._tries = 0
        self._tell_at = TELL_SECONDS

    def wait(self, fault: StoreFault | None = None) -> None:
        """Wait before the next try, and log long waits.

        Raises:
            Incomplete: the deadline would pass, the run was stopped, or *fault* says
                that the store has been out of reach for a minute, or silent for five.
        """
        now = time.monotonic()
        # After so long without a fault it is another one.
        if now - self._ended > QUIET_SECONDS:
            self.reset()
        if self._tries == 0:
            self._since = now
        away = now - self._since
        if isinstance(fault, Unreachable) and away > UNREACHABLE_PATIENCE:
            raise Incomplete(fault.message, fault.remedy)
        if isinstance(fault, TimedOut) and away > SLOW_PATIENCE:
            message = f"No answer came for {away:.0f} s: {fault.message}"
            raise Incomplete(message, "Run again when the store is less busy.")
        if away > self._tell_at:
            self._tell_at *= 2
            reason = fault.message if fault else "what is sent comes back, or is lost"
            logger.warning("waiting for the store, for %.0f s now: %s", away, reason)
        self._tries += 1
        # The exponent is bounded: 2 to the number of tries outgrows a float in an hour.
        longest = min(5.0, 0.1 * 2 ** min(self._tries, 6))
        pause = random.uniform(0, longest)  # noqa: S311
        require_time(self._deadline, pause)
        sleep_unless_stopped(pause, self._raise_if_stopped)
        self._ended = time.monotonic()


def sleep_unless_stopped(
    seconds: float, raise_if_stopped: Callable[[], object]
) -> None:
    """Sleep, and call *raise_if_stopped* ten times per second."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, LOOK_SECONDS))
        raise_if_stopped()


def require_time(deadline: float | None, pause: float = 0.0) -> None:
    """Raise if the deadline, in seconds since the epoch, would pass in the pause.

    Raises:
        Incomplete: the deadline passed, or would while pausing.
    """
    if deadline is not None and time.time() + pause >= deadline:
        message = "The deadline of the run has come."
        raise Incomplete(message, "Resume or run again; nothing is lost.")
