"""Full disks: each command names the disk that it needs, and can be resumed."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.reconciliation import spill
from flows.settings import load_settings
from flows.state.runs import State
from flows.stores.dynamodb.table import EnterpriseTable
from tests.support.expected_items import all_items
from tests.support.small_disk import fill_up, small_disk

DAY = "2024-02-29 00:00:00+00"
PROVEN, REFUSED, INCOMPLETE = 0, 2, 4

pytestmark = pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """Return the folder of a full disk; the file ``ballast`` fills it."""
    folder = tmp_path / "full"
    with small_disk(folder):
        fill_up(folder / "ballast")
        yield folder


def command(*arguments: str, code: int) -> dict[str, Any]:
    """Run a command that must end with the code; return its JSON."""
    result = CliRunner().invoke(app, [*arguments, "--json"])

    assert result.exit_code == code, result.output
    values: dict[str, Any] = json.loads(result.stdout)
    return values


@pytest.mark.usefixtures("source", "table")
def test_a_comparison_without_room_is_no_fault_of_the_program(
    insert: Callable[[Iterable[Any]], None],
    full: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A comparison out of core needs a disk: it names the disk, and can be resumed."""
    insert((n, f"Enterprise {n}", DAY, DAY) for n in range(100, 200))
    monkeypatch.setattr(spill, "KEPT_ROWS", 1)
    monkeypatch.setattr(tempfile, "tempdir", str(full))
    migrate = ("migrate", "--no-prefect")
    stopped = command(*migrate, code=INCOMPLETE)
    compared = command("reconcile", code=INCOMPLETE)
    monkeypatch.undo()

    (finding,) = stopped["findings"]
    for said in (finding, " ".join(compared["error"].values())):
        assert str(full) in said
        assert "Make room" in said
    assert stopped["ledger"]["written"] == 105


@pytest.mark.usefixtures("source", "table")
def test_a_report_without_room_is_no_fault_of_the_program(
    full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is not available without its files: the error names the folder."""
    command("migrate", "--no-prefect", code=PROVEN)
    monkeypatch.setenv("STATE_URL", f"sqlite:///{tmp_path}/state.db")
    monkeypatch.setenv("RUNS_DIR", str(full))
    compared = command("reconcile", code=INCOMPLETE)
    (full / "ballast").unlink()

    assert compared["status"] == "incomplete"
    assert str(full) in compared["error"]["message"]
    assert "Make room" in compared["error"]["remedy"]
    assert command("reconcile", code=PROVEN)["status"] == "clean"


@pytest.mark.usefixtures("source")
def test_a_folder_for_no_file_is_refused_before_the_first_write(
    table: EnterpriseTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unusable report folder must be detected before hours of work, not after."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("STATE_URL", f"sqlite:///{tmp_path}/state.db")
    monkeypatch.setenv("RUNS_DIR", str(tmp_path / "file" / "runs"))
    refused = [
        command(*arguments, code=REFUSED)["error"]
        for arguments in (["migrate", "--no-prefect"], ["reconcile"])
    ]

    for error in refused:
        assert f"RUNS_DIR={tmp_path}/file/runs" in error["message"]
        assert "Not a directory" in error["message"]
        assert "Set RUNS_DIR" in error["remedy"]
    assert all_items(table.client, table.name) == {}


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("server", [False, True])
def test_a_state_that_can_only_be_read_is_refused_before_the_first_write(
    table: EnterpriseTable,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    server: bool,
) -> None:
    """A run with a read-only state would end after its first write, at each attempt."""
    url = database_url if server else f"sqlite:///{tmp_path}/state.db"
    monkeypatch.setenv("STATE_URL", url)
    State.open(load_settings())
    read_only = (
        with_options(url, "-c default_transaction_read_only=on")
        if server
        else f"sqlite:///file:{tmp_path}/state.db?mode=ro&uri=true"
    )
    monkeypatch.setenv("STATE_URL", read_only)
    refused = [
        command(*arguments, code=REFUSED)["error"]
        for arguments in (["migrate", "--no-prefect"], ["reconcile"])
    ]

    for error in refused:
        assert "can only be read" in error["message"]
        assert "set STATE_URL to another" in error["remedy"]
    assert all_items(table.client, table.name) == {}


def with_options(url: str, options: str) -> str:
    """Return a PostgreSQL URL with options for its sessions."""
    return f"{url}{'&' if '?' in url else '?'}options={quote(options)}"


@pytest.mark.usefixtures("source", "table")
@pytest.mark.parametrize("words", ["migrate --no-prefect", "reconcile"])
def test_a_limit_of_file_sizes_is_no_fault_of_the_program(
    words: str, tmp_path: Path
) -> None:
    """If no file may grow (`ulimit -f`) a command is incomplete, with the cause."""
    program = "from flows.cli.app import main; main()"
    run = [sys.executable, "-c", program, *words.split(), "--json"]
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 1; exec "$@"', "bash", *run],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )

    assert done.returncode == INCOMPLETE, done.stderr
    said = json.loads(done.stdout)
    assert said["status"] == "incomplete"
    assert "ulimit -f" in said["error"]["remedy"]
