"""The first module of the process that forks the workers: it ends without tracebacks.

Ctrl-C reaches the whole process group. While that process still imports, Python's
handler would print a traceback. Afterwards multiprocessing makes it ignore the signal.
"""

import signal
import sys
from types import TracebackType


def _report(
    kind: type[BaseException], error: BaseException, _: TracebackType | None
) -> None:
    # A lack of memory raises various errors. The driver, unless it is gone, says more.
    sys.stderr.write(f"A worker process could not start ({kind.__name__}: {error}).\n")


sys.excepthook = _report
signal.signal(signal.SIGINT, signal.SIG_DFL)
# The driver has blocked the signal until here.
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
