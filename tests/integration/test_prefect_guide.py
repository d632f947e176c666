"""The commands of the guide's section on schedules, in two terminals."""

import os
import pty
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Thread

import httpx
import pytest

from flows.stores.dynamodb.table import EnterpriseTable
from tests.conftest import free_port
from tests.support.prefect_server import ROOT, await_true, found
from tests.support.started_runs import environment_of

SECONDS = 300
FULL = "migrate-enterprises/migrate-enterprises"


@dataclass
class Terminal:
    """A shell on a pseudo-terminal, what it printed, and its keyboard."""

    process: subprocess.Popen[bytes]
    keyboard: int
    printed: list[bytes] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Return what was printed so far."""
        return b"".join(self.printed).decode("utf-8", "replace")

    def read(self) -> None:
        """Keep what is printed, until no process has the terminal open."""
        try:
            while part := os.read(self.keyboard, 65_536):
                self.printed.append(part)
        except OSError:
            return


@contextmanager
def shell(commands: str, environment: dict[str, str]) -> Iterator[Terminal]:
    """Run commands in a shell until one fails; press Ctrl-C at the end."""
    keyboard, screen = pty.openpty()
    with subprocess.Popen(
        # With job control, Ctrl-C reaches only the command in the foreground.
        ["bash", "-emc", commands],
        env=environment,
        cwd=ROOT,
        pass_fds=[screen],
        preexec_fn=partial(os.login_tty, screen),  # noqa: PLW1509 - takes no lock
    ) as process:
        os.close(screen)
        terminal = Terminal(process, keyboard)
        reader = Thread(target=terminal.read, daemon=True)
        reader.start()
        try:
            yield terminal
        finally:
            while process.poll() is None:
                os.write(keyboard, b"\x03")
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
            reader.join(5)
            os.close(keyboard)


def shown_terminals() -> list[str]:
    """Return the two blocks of the section."""
    text = (ROOT / "flows" / "README.md").read_text("utf-8")
    section = text.split("## On a schedule")[1].split("\n## ")[0]
    return re.findall(r"^```bash\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.xdist_group("prefect")
@pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)
def test_the_guide_deploys_and_runs_without_a_question(
    source: str, table: EnterpriseTable, tmp_path: Path
) -> None:
    """With an empty home of Prefect, each command must end without an answer.

    A question would wait for ever, since nobody types.
    """
    port = str(free_port())
    first, second = (block.replace("4200", port) for block in shown_terminals())
    environment = environment_of(table, source) | {
        "PREFECT_HOME": str(tmp_path / "home"),
        "PREFECT_SERVER_API_PORT": port,
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "RUNS_DIR": str(tmp_path / "runs"),
        "STATE_URL": f"sqlite:///{tmp_path}/state.db",
        "TERM": "xterm",
    }
    try:
        with shell(first, environment) as one:
            await_true(
                lambda: "started!" in one.text or one.process.poll() is not None,
                seconds=SECONDS,
            )
            assert one.process.poll() is None, one.text
            with shell(second, environment) as two:
                await_true(lambda: two.process.poll() is not None, seconds=SECONDS)
            api = f"http://127.0.0.1:{port}/api"
            with httpx.Client(base_url=api, timeout=30) as client:
                deployments = found(client, "deployments")
                runs = found(client, "flow_runs", sort="START_TIME_ASC")
    finally:
        subprocess.run(
            [ROOT / ".venv/bin/prefect", "server", "stop"],
            env=environment,
            check=False,
            capture_output=True,
        )

    assert two.process.returncode == 0, two.text
    assert runs[0]["state"]["type"] == "COMPLETED"
    assert runs[0]["name"].startswith("migrate full")
    schedules = [one for made in deployments for one in made["schedules"]]
    assert [one["active"] for one in schedules] == [True, True]
    assert [one["schedule"]["timezone"] for one in schedules] == ["UTC", "UTC"]
    # Prefect asks, and changes its profile, only without `--no-prompt`.
    assert not (tmp_path / "home" / "profiles.toml").exists()
