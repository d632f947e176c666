"""A hot standby of the tests' PostgreSQL, set up as by an administrator."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg2

from tests.conftest import free_port
from tests.support.source_database import SourceDatabase

SECONDS = 60
BINARIES = "SELECT setting FROM pg_config WHERE name = 'BINDIR'"


@dataclass(frozen=True)
class Standby:
    """A standby and its primary, both by their URLs."""

    url: str
    primary: str

    def source(self, database: str) -> str:
        """Return the URL of a database of the primary on this standby."""
        self.follow()
        return urlsplit(self.url)._replace(path=urlsplit(database).path).geturl()

    def follow(self) -> None:
        """Wait until the standby has replayed everything from the primary."""
        primary = SourceDatabase(self.primary)
        # The changes of VACUUM are sent with the next commit.
        primary.run("SELECT pg_logical_emit_message(true, 'followed', '')")
        written = primary.ask("SELECT pg_current_wal_flush_lsn()")
        here = f"SELECT pg_last_wal_replay_lsn() >= '{written}'"
        await_true(lambda: bool(SourceDatabase(self.url).ask(here)))


@contextmanager
def running_standby(primary: str, **settings: object) -> Iterator[Standby]:
    """Copy a server and follow it, with these settings, for the duration of a block."""
    server = SourceDatabase(primary)
    data, programs = (Path(server.ask(q)) for q in ("SHOW data_directory", BINARIES))
    asked = parse_qs(urlsplit(primary).query)
    socket, port = asked["host"][0], free_port()
    folder = data.with_name(f"standby-{port}")
    owner = owner_of(data)
    folder.mkdir(mode=0o700)
    try:
        if owner:
            os.chown(folder, owner["user"], owner["group"])
        at = ["-h", socket, "-p", asked["port"][0], "-U", "postgres"]
        copy = [str(programs / "pg_basebackup"), *at, "-D", str(folder), "-R"]
        copy += ["-c", "fast"]
        subprocess.run(copy, check=True, capture_output=True, cwd="/", **owner)
        # The replay of the primary's changes does not wait for readers here.
        options: dict[str, object]
        options = {"unix_socket_directories": socket, "max_standby_streaming_delay": 0}
        options |= {"listen_addresses": "", "port": port} | settings
        given = [f"--{name}={value}" for name, value in options.items()]
        command = [str(programs / "postgres"), "-D", str(folder), *given]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, cwd="/", **quiet, **owner) as process:
            try:
                url = f"postgresql://postgres@/postgres?host={socket}&port={port}"
                await_true(lambda: is_up(url))
                yield Standby(url, primary)
            finally:
                # Fast shutdown: it does not wait for open sessions.
                process.send_signal(signal.SIGINT)
    finally:
        rmtree(folder)


def owner_of(data: Path) -> dict[str, Any]:
    """Return the user for a server's programs, if it is another one."""
    found = data.stat()
    if found.st_uid == os.geteuid():
        return {}
    return {"user": found.st_uid, "group": found.st_gid, "extra_groups": []}


def is_up(url: str) -> bool:
    """Return whether a server answers."""
    try:
        return bool(SourceDatabase(url).ask("SELECT pg_is_in_recovery()"))
    except psycopg2.OperationalError:
        return False


def await_true(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, or fail."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "the standby does not follow"
        time.sleep(0.05)
