"""What the process that forks the workers loads first: how it ends without traces.

Ctrl-C reaches the whole group. While that process still imports, Python's own handler
would print where. Afterwards multiprocessing has it ignore the signal.
"""

import signal
import sys
from types import TracebackType


def _report(
    kind: type[BaseException], error: BaseException, _: TracebackType | None
) -> None:
    # Want of memory has many forms, and the driver may be gone: it says what follows.
    sys.stderr.write(f"A worker process could not begin ({kind.__name__}: {error}).\n")


sys.excepthook = _report
signal.signal(signal.SIGINT, signal.SIG_DFL)
# Blocked by the driver until here.
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
