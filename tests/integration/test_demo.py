"""The demo, as its users run it: proven, and without network access."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.terminal import Terminal

SECONDS = 120

# The demo starts a Prefect server.
pytestmark = pytest.mark.xdist_group("prefect")

# Every Python process of the demo loads this, including its stores and Prefect server.
LISTEN = """
import os, sys

HERE = {None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0"}

def listen(event, arguments):
    if event == "socket.getaddrinfo":
        where = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        where = arguments[1][0]
    else:
        return
    where = where.decode() if isinstance(where, bytes) else where
    with open(os.environ["ASKED"], "a") as file:
        file.write("here\\n" if where in HERE else f"{where}\\n")

sys.addaudithook(listen)
"""


def test_the_demo_is_proven_and_asks_nobody(tmp_path: Path) -> None:
    """Neither Prefect, nor Great Expectations, nor a store may use a network."""
    asked, code = tmp_path / "asked", tmp_path / "code"
    code.mkdir()
    (code / "sitecustomize.py").write_text(LISTEN, "utf-8")
    # If CI is set, some programs avoid the network by themselves. Coverage of moto
    # takes minutes.
    left_out = {"CI", "COVERAGE_PROCESS_CONFIG"}
    environment = {k: text for k, text in os.environ.items() if k not in left_out}
    paths = [str(code), *filter(None, sys.path)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "flows.cli", "demo", "--json"],
        env=environment | {"ASKED": str(asked), "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert values["status"] == "proven"
    assert values["ledger"]["read"] == 5_000
    assert values["ledger"]["quarantined"] == 7
    assert set(asked.read_text("utf-8").split()) == {"here"}


@pytest.mark.slow
def test_the_mapped_demo_is_proven(tmp_path: Path) -> None:
    """Both entities arrive, and each row of a documented reason is in quarantine."""
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "flows.cli",
            "demo",
            "--mapped",
            "--json",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert values["status"] == "proven"
    assert values["ledger"]["read"] == 5_000
    ledgers = {name: one["ledger"] for name, one in values["entities"].items()}
    counts = {name: (one["read"], one["quarantined"]) for name, one in ledgers.items()}
    assert counts == {"enterprise": (1_000, 12), "product": (4_000, 13)}


def find_servers(demo: psutil.Process) -> list[psutil.Process]:
    """Return the Prefect servers that a demo has started."""
    found = []
    for child in demo.children(recursive=True):
        with suppress(psutil.Error):
            if "prefect.server.api.server:create_app" in child.cmdline():
                found.append(child)
    return found


def test_an_interrupted_demo_leaves_no_server(tmp_path: Path) -> None:
    """Ctrl-C while Prefect's server starts must end it with the command."""
    demo = psutil.Popen(
        [sys.executable, "-W", "ignore", "-m", "flows.cli", "demo"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    end = time.monotonic() + SECONDS
    while not (servers := find_servers(demo)):
        assert demo.poll() is None
        assert time.monotonic() < end, "no server is started"
        time.sleep(0.05)
    demo.send_signal(signal.SIGINT)

    assert demo.wait(SECONDS) == 130
    _, left = psutil.wait_procs(servers, timeout=10)
    assert left == []


@pytest.mark.slow
def test_the_demo_says_what_it_starts(tmp_path: Path) -> None:
    """On a terminal each part has a mark once it is there, and the verdict is first."""
    with Terminal("demo", folder=tmp_path) as terminal:
        assert terminal.wait(SECONDS) == 0
        lines = [line for line in terminal.screen.history if line]

    assert lines[0] == "Starting what the demo needs on this machine:"
    marks = {line for line in lines if line.startswith("  \N{CHECK MARK} ")}
    assert marks == {
        "  \N{CHECK MARK} PostgreSQL, with 5,000 sample rows",
        "  \N{CHECK MARK} DynamoDB (moto's server)",
        "  \N{CHECK MARK} Prefect's server",
    }
    assert "Moving: " in terminal.received
    verdict = lines.index("Migrating the sample:") + 1
    assert lines[verdict].startswith("Proven: 4,993 of 5,000 rows proven equal")
    assert "  enterprises init" in lines
