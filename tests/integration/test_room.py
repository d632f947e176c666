"""Disks without room: what needs one says which it is, and can be gone on with."""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from expected_items import all_items
from small_disk import fill_up, small_disk
from typer.testing import CliRunner

from flows import buckets
from flows.cli import app
from flows.stores.dynamodb import EnterpriseTable

DAY = "2024-02-29 00:00:00+00"
PROVEN, REFUSED, INCOMPLETE = 0, 2, 4

pytestmark = pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """Return the folder of a disk that is full; what fills it is its ballast."""
    folder = tmp_path / "full"
    with small_disk(folder):
        fill_up(folder / "ballast")
        yield folder


def command(*arguments: str, code: int) -> dict[str, Any]:
    """Run a command, which must end with a code; return its JSON."""
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
    """What is compared out of core needs a disk: which one is said, and all goes on."""
    insert((n, f"Enterprise {n}", DAY, DAY) for n in range(100, 200))
    monkeypatch.setattr(buckets, "KEPT_ROWS", 1)
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
    """What was found is not to be had without its files: the folder is named."""
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
    """Where the reports cannot go must be known before hours of work, not after."""
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
