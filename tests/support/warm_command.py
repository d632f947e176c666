"""The command in separate processes, forked from one with all imports.

Each is a real process: it can be killed, stopped and frozen. The four seconds of
imports are spent only once, instead of some forty times.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any


@dataclass
class Process:
    """A running command; its names are those of ``subprocess.Popen``."""

    pid: int
    returncode: int | None = None
    _ending: Any = field(kw_only=True)
    _output: IO[str] = field(kw_only=True)
    _errors: IO[str] = field(kw_only=True)

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        try:
            return self.wait(timeout=0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; return the exit code, or the negative signal number."""
        if self.returncode is None:
            if not select.select([self._ending], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            # It stays available for another waiting thread.
            self.returncode = int(self._ending.recv(100, socket.MSG_PEEK))
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; return its output."""
        self.wait(timeout)
        texts = []
        for file in (self._output, self._errors):
            file.seek(0)
            texts.append(file.read())
        return texts[0], texts[1]

    def send_signal(self, number: int) -> None:
        """Send a signal, if the command is still running."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the command."""
        self.send_signal(signal.SIGKILL)


class Commands:
    """Starts commands by requests to the process with all imports."""

    def __init__(self, control: socket.socket, kept: ExitStack) -> None:
        self._control = control
        self._kept = kept

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path
    ) -> Process:
        """Start ``enterprises`` with these arguments."""
        output, errors = self._new_file(), self._new_file()
        json.dump([list(arguments), dict(environment), str(folder)], output)
        output.seek(0)
        ours, theirs = socket.socketpair()
        self._kept.enter_context(ours)
        with theirs:
            handles = [theirs.fileno(), output.fileno(), errors.fileno()]
            socket.send_fds(self._control, [b"1"], handles)
        pid = int(ours.recv(100))
        return Process(pid, _ending=ours, _output=output, _errors=errors)

    def _new_file(self) -> IO[str]:
        file = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        return self._kept.enter_context(file)


@contextmanager
def warm_commands() -> Iterator[Commands]:
    """Start a process that imports all modules of ``migrate`` and forks itself."""
    ours, theirs = socket.socketpair()
    with ours, subprocess.Popen([sys.executable, __file__], stdin=theirs):
        theirs.close()
        with ExitStack() as kept:
            yield Commands(ours, kept)
        # The process ends when no requester is left.
        ours.close()


def become_a_command() -> None:
    """Fork for each request; return only in the child, as the command to run."""
    control = socket.socket(fileno=os.dup(0))
    control.settimeout(0.02)
    running: dict[int, socket.socket] = {}
    while True:
        try:
            asked, handles, _, _ = socket.recv_fds(control, 1, 3)
        except TimeoutError:
            _tell_of_ended(running)
            continue
        if not asked:
            sys.exit()
        ending, output, errors = handles
        pid = os.fork()
        if pid == 0:
            _take_place(output, errors)
            return
        running[pid] = socket.socket(fileno=ending)
        running[pid].send(str(pid).encode())
        os.close(output)
        os.close(errors)


def _tell_of_ended(running: dict[int, socket.socket]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with running.pop(pid) as asker:
            asker.send(str(os.waitstatus_to_exitcode(status)).encode())


def _take_place(output: int, errors: int) -> None:
    """Turn this process into the command requested in the file of its output."""
    with open(output, encoding="utf-8", closefd=False) as file:
        arguments, environment, folder = json.load(file)
    os.ftruncate(output, 0)
    os.lseek(output, 0, os.SEEK_SET)
    for handle, place in [
        (os.open(os.devnull, os.O_RDONLY), 0),
        (output, 1),
        (errors, 2),
    ]:
        os.dup2(handle, place)
    os.closerange(3, 256)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.argv = ["enterprises", *arguments]


if __name__ == "__main__":
    import great_expectations  # noqa: F401

    import validation.suites  # noqa: F401
    from flows import pipeline  # noqa: F401
    from flows.cli import app

    become_a_command()
    app.main()
