"""What a command shows while it works: lines that renew themselves, or a log."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from threading import Event, Lock, Thread
from typing import Any, TextIO

from flows.timing import Progress, logging_progress

RENEW_SECONDS = 0.25
# Line by line: some terminals keep what is cleared to the end of the screen.
ERASE = "\r\x1b[K"
ONE_UP = "\x1b[1A"


def is_watched() -> bool:
    """Return whether standard error is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


@contextmanager
def showing_progress() -> Iterator[Progress]:
    """Yield a progress that is shown on a terminal, or logged elsewhere."""
    progress = Progress()
    if not is_watched():
        with logging_progress(progress):
            yield progress
        return
    lines, ended = _Lines(sys.stderr), Event()

    def renew() -> None:
        begun = time.monotonic()
        while not ended.wait(RENEW_SECONDS):
            lines.show(_describe(progress, time.monotonic() - begun))

    thread = Thread(target=renew, daemon=True)
    thread.start()
    try:
        with redirect_stderr(lines):
            yield progress
    finally:
        ended.set()
        thread.join()
        lines.show([])


def _describe(progress: Progress, elapsed: float) -> list[str]:
    """Return one line of what is done, and one of what is waited for."""
    phase = progress.phase[:1].upper() + progress.phase[1:]
    facts = filter(None, (progress.counted, progress.pace))
    said = f"{phase}: {', '.join(facts)}".removesuffix(": ")
    waits = progress.waits_for()
    return [f"{said} [{elapsed:.0f} s]", *([f"  waits for {waits}"] if waits else [])]


class _Lines:
    """The last lines of a terminal, which are renewed below whatever else is printed.

    The cursor stays visible, since a forced exit could not show it again.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = Lock()
        self._shown: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def show(self, lines: list[str]) -> None:
        """Replace the lines; a terminal that is gone shows nothing."""
        with self._lock, suppress(OSError, ValueError):
            columns = os.get_terminal_size(self._stream.fileno()).columns or 80
            fitting = [line[: columns - 1] for line in lines]
            self._stream.write(self._erase() + "\n".join(fitting))
            self._stream.flush()
            self._shown = fitting

    def write(self, text: str) -> int:
        """Print a text above the lines, which are shown again below it."""
        with self._lock:
            written = self._stream.write(self._erase() + text)
            self._shown = []
            return written

    def _erase(self) -> str:
        if not self._shown:
            return ""
        return ERASE + (ONE_UP + ERASE) * (len(self._shown) - 1)
