"""Disk space: a run without it is incomplete, and reports the folder and the reason."""

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.errors import Incomplete, SettingsError

# What to do if a file cannot grow, by the error's number.
NO_ROOM = {
    errno.EFBIG: "Raise the limit of file sizes (ulimit -f), then run again.",
    errno.ENOSPC: "Make room on the disk, then run again.",
    errno.EDQUOT: "Make room within the quota, then run again.",
}


def make_room_error(error: OSError) -> Incomplete | None:
    """Return the error to raise if a file cannot grow; None for any other error."""
    remedy = NO_ROOM.get(error.errno or 0)
    if remedy is None:
        return None
    return Incomplete(f"A file cannot be written: {error.strerror}.", remedy)


def require_writable(folder: Path) -> None:
    """Create the folder of the runs, or refuse it before anything is written.

    Raises:
        SettingsError: no file can be created in the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or type(error).__name__
        message = f"RUNS_DIR={folder} cannot be written to: {reason}."
        remedy = "Set RUNS_DIR to a folder in which files can be created."
        raise SettingsError(message, remedy) from None


@contextmanager
def needing_room(what: str, folder: Path, remedy: str) -> Iterator[None]:
    """Translate a failure to write *what* to a *folder* into our error.

    Raises:
        Incomplete: the disk is full, or cannot be written to.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        message = f"{what} cannot be written to {folder}: {reason}."
        if error.errno == errno.EFBIG:
            remedy = NO_ROOM[errno.EFBIG]
        raise Incomplete(message, remedy) from None
