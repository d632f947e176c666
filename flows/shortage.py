"""Shortages of a process other than disk space: memory, file handles, processes."""

import errno
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flows.errors import Incomplete

SHORT = {errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN}
# Parts of the texts of a RuntimeError on thread start, and of an ImportError.
WITHOUT_NUMBER = ("start new thread", "failed to map segment")
FEWER = (
    "Use fewer --workers or --partition-rows, or raise the limits (ulimit -n, -u, -v,"
    " or those of the container). Then run again, or resume."
)


@contextmanager
def translating_shortage() -> Iterator[None]:
    """Translate a shortage of system resources into our error.

    Raises:
        Incomplete: memory, file handles, threads or processes are exhausted.
    """
    try:
        yield
    except (MemoryError, OSError, RuntimeError, ImportError) as error:
        if not is_shortage(error):
            raise
        raise Incomplete(_message(error), FEWER) from None


def is_shortage(error: BaseException | None) -> bool:
    """Return whether the system has refused this process memory, files or threads."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) in SHORT:
        return True
    return any(said in str(error) for said in WITHOUT_NUMBER)


def report_shortage_of_threads() -> None:
    """Report a shortage that ends a thread on one line, without a traceback."""
    threading.excepthook = _end_thread


def _end_thread(ended: threading.ExceptHookArgs) -> None:
    if is_shortage(ended.exc_value):
        sys.stderr.write(f"{_message(ended.exc_value)}\n")
    else:
        threading.__excepthook__(ended)


def _message(error: BaseException | None) -> str:
    reason = getattr(error, "strerror", None) or "not enough memory or threads"
    return f"The system refuses this process more resources: {reason}."
