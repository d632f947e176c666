"""Processes that stand still, as those of a paused virtual machine do."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil


@contextmanager
def frozen(pid: int, *, children: bool = False) -> Iterator[None]:
    """Freeze a process, and all that it started, for the length of a block.

    A session that ends at that moment is not there to be frozen, or is gone by the end.
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
