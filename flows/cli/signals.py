"""How a command stops at Ctrl-C and SIGTERM: gracefully, or forced after seconds."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from flows.errors import Terminated

# A run stops within five seconds; its state is durable, so its exit may be forced.
CUT_OFF_SECONDS = 4.0


@contextmanager
def stopping_at_signals(cut_off: Callable[[int], int]) -> Iterator[None]:
    """Stop gracefully at SIGINT and SIGTERM, and in any case within five seconds.

    If a graceful stop takes longer, a thread calls *cut_off* with the signal. It
    returns the exit code.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: FrameType | None) -> None:
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    # After a forced exit, multiprocessing's tracker removes the semaphores, and warns
    # of each unless its interpreter ignores that warning.
    sys.warnoptions.append("ignore:resource_tracker")
    # No handler runs while libpq waits for PostgreSQL; the pipe is written even then.
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    former = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    watch = threading.Thread(target=_watch, args=[reading, cut_off], daemon=True)
    watch.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(former)
        os.close(writing)


def _watch(reading: int, cut_off: Callable[[int], int]) -> None:
    """End the process a few seconds after a signal, if it has not ended by then."""
    number = None
    while number not in {signal.SIGINT, signal.SIGTERM}:
        byte = os.read(reading, 1)
        if not byte:
            os.close(reading)
            return
        number = byte[0]
    time.sleep(CUT_OFF_SECONDS)
    os._exit(cut_off(number))
