"""Processes that are frozen, as in a paused virtual machine."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil


@contextmanager
def frozen(pid: int, *, children: bool = False) -> Iterator[None]:
    """Freeze a process, and all that it started, for the duration of a block.

    Sessions that end in the meantime are skipped.
    """
    process = psutil.Process(pid)
    started = process.children(recursive=True) if children else []
    for each in (process, *started):
        with suppress(psutil.NoSuchProcess):
            each.suspend()
    try:
        yield
    finally:
        for each in (process, *started):
            with suppress(psutil.NoSuchProcess):
                each.resume()
