"""What a process runs short of beside disks: memory, file handles, processes."""

import errno
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flows.errors import Incomplete

SHORT = {errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN}
# Of a RuntimeError when a thread is started, and of an ImportError.
WITHOUT_NUMBER = ("start new thread", "failed to map segment")
FEWER = (
    "Use fewer --workers or --partition-rows, or allow more (ulimit -n, -u, -v, or the"
    " container's limits). Then run again, or resume."
)


@contextmanager
def translated_shortage() -> Iterator[None]:
    """Turn what the system refuses to a process into our error.

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
    """Report a shortage that ends a thread in one line, without a traceback."""
    threading.excepthook = _end_thread


def _end_thread(ended: threading.ExceptHookArgs) -> None:
    if is_shortage(ended.exc_value):
        sys.stderr.write(f"{_message(ended.exc_value)}\n")
    else:
        threading.__excepthook__(ended)


def _message(error: BaseException | None) -> str:
    reason = getattr(error, "strerror", None) or "not enough memory or threads"
    return f"The system refuses this process more resources: {reason}."
