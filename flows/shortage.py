"""What a process runs short of beside disks: memory, file handles, processes."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from flows.errors import Incomplete

SHORT = {errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN}
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
    except (MemoryError, OSError, RuntimeError) as error:
        # A thread that cannot be started is a RuntimeError without a number.
        short = isinstance(error, MemoryError) or "start new thread" in str(error)
        if not short and getattr(error, "errno", None) not in SHORT:
            raise
        reason = getattr(error, "strerror", None) or "not enough memory or threads"
        message = f"The system refuses this process more resources: {reason}."
        raise Incomplete(message, FEWER) from None
