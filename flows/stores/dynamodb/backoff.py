"""Retries: growing pauses between requests, and limits of the total wait."""

import logging
import math
import random
from collections.abc import Callable, Iterator
from types import TracebackType

from flows.errors import Ambiguous, Incomplete, NotApplied, StoreFault, Unreachable
from flows.stores.dynamodb.faults import TimedOut
from flows.timing import SYSTEM_CLOCK, Clock, require_time

logger = logging.getLogger(__name__)

UNREACHABLE_SECONDS = 60.0
SLOW_SECONDS = 300.0
# Interval in which a wait checks whether its run was stopped.
STOP_CHECK_SECONDS = 0.1
# Longer than a request and the lookup of its host may take: all requests between two
# faults were answered.
QUIET_SECONDS = 60.0
WARN_SECONDS = 60.0


class Backoff:
    """Waits between tries: full jitter, growing to *longest* seconds.

    The random wait spreads workers that failed together; growing it keeps requests
    few while everything is refused. *raise_if_stopped* ends a wait of a run that was
    stopped. After *patience* seconds a fault is raised again.
    """

    def __init__(
        self,
        deadline: float | None = None,
        raise_if_stopped: Callable[[], object] = lambda: None,
        *,
        longest: float = 5.0,
        patience: float = math.inf,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._clock = clock
        self._deadline = deadline
        self._raise_if_stopped = raise_if_stopped
        self._longest = longest
        self._patience = patience
        self._ended = 0.0
        self.reset()

    def attempts(self, *passing: type[StoreFault]) -> Iterator["Attempt"]:
        """Yield attempts, with pauses between them, until one succeeds.

        ``for attempt in backoff.attempts(): with attempt: ...``. Faults after which a
        request may be sent again, and those that are *passing* here, end the block.

        Raises:
            Incomplete: see ``wait``.
        """
        while True:
            attempt = Attempt(self, (NotApplied, Ambiguous, *passing))
            yield attempt
            if attempt.succeeded:
                return

    def reset(self) -> None:
        """Start again after a success."""
        self._tries = 0
        self._warn_at = WARN_SECONDS

    def wait(self, fault: StoreFault | None = None) -> None:
        """Wait before the next try, and log long waits.

        Raises:
            Incomplete: the deadline would pass, the run was stopped, or *fault* shows
                that the store has been unreachable for a minute, or silent for five.
        """
        now = self._clock.monotonic()
        # A fault after this long without one starts a new series.
        if now - self._ended > QUIET_SECONDS:
            self.reset()
        if self._tries == 0:
            self._since = now
        away = now - self._since
        if isinstance(fault, Unreachable) and away > UNREACHABLE_SECONDS:
            raise Incomplete(fault.message, fault.remedy)
        if isinstance(fault, TimedOut) and away > SLOW_SECONDS:
            message = f"No answer came for {away:.0f} s: {fault.message}"
            raise Incomplete(message, "Run again when the store is less busy.")
        if away > self._warn_at:
            self._warn_at *= 2
            reason = fault.message if fault else "requests are unprocessed, or lost"
            logger.warning("waiting for the store for %.0f s: %s", away, reason)
        self._tries += 1
        # The exponent is bounded: 2 to the number of tries outgrows a float in an hour.
        longest = min(self._longest, 0.1 * 2 ** min(self._tries, 6))
        pause = random.uniform(0, longest)  # noqa: S311
        if fault and away + pause > self._patience:
            raise fault
        require_time(self._deadline, pause, self._clock)
        sleep_unless_stopped(pause, self._raise_if_stopped, self._clock)
        self._ended = self._clock.monotonic()


class Attempt:
    """One attempt: a fault that may pass ends its block after a pause."""

    def __init__(self, backoff: Backoff, passing: tuple[type[StoreFault], ...]) -> None:
        self._backoff = backoff
        self._passing = passing
        self.succeeded = False

    def __enter__(self) -> None:
        """Begin the try."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """Wait after a fault that may pass, and hide it; raise any other error.

        Raises:
            Incomplete: see ``Backoff.wait``.
        """
        self.succeeded = error is None
        if not isinstance(error, self._passing):
            return False
        self._backoff.wait(error)
        return True


def sleep_unless_stopped(
    seconds: float,
    raise_if_stopped: Callable[[], object],
    clock: Clock = SYSTEM_CLOCK,
) -> None:
    """Sleep, and call *raise_if_stopped* ten times per second."""
    end = clock.monotonic() + seconds
    while (left := end - clock.monotonic()) > 0:
        clock.sleep(min(left, STOP_CHECK_SECONDS))
        raise_if_stopped()
