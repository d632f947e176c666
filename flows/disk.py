"""Room on disks: without it a run is incomplete, and says where and why."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.errors import Incomplete


@contextmanager
def needing_room(what: str, folder: Path, remedy: str) -> Iterator[None]:
    """Turn what hinders writing *what* in a *folder* into our error.

    Raises:
        Incomplete: the disk is full, or cannot be written to.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        message = f"{what} cannot be written to {folder}: {reason}."
        raise Incomplete(message, remedy) from None
