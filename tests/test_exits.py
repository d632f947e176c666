"""What the command says at the end of a run."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flows.cli.output import show
from flows.models import Report

FILES = ("report.html", "differences of [2024].parquet")


@dataclass(frozen=True, repr=False)
class Ended(Report):
    """The report of something that left files."""

    files: dict[str, str | None] = field(default_factory=dict)

    def asdict(self) -> dict[str, Any]:
        """Return what is shown beside the tables."""
        return {"status": "clean", "files": self.files}

    def tables(self) -> list[tuple[str, dict[str, Any]]]:
        """Return a table that is wider than a terminal."""
        return [("Counts", {f"class_{number}": number for number in range(99)})]


@pytest.fixture
def shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path], list[str]]:
    """Return what shows the files of a directory, as the lines of a small terminal."""
    monkeypatch.setenv("COLUMNS", "80")

    def lines_of(directory: Path) -> list[str]:
        files = {name: str(directory / name) for name in FILES}
        show(Ended(files={**files, "data_docs": None}))
        return [line.strip() for line in capsys.readouterr().out.splitlines()]

    return lines_of


@pytest.mark.parametrize("deep", ["runs", "runs/" + 9 * "a-long-name/" + "end"])
def test_a_path_can_be_copied_whole(
    deep: str, shown: Callable[[Path], list[str]]
) -> None:
    """Each file must be a line of its own, however narrow the terminal is."""
    here = shown(Path(deep))
    there = shown(Path.cwd() / deep)

    assert [line for line in here if deep in line] == [f"{deep}/{f}" for f in FILES]
    assert there == here
    assert here[-1] == "Clean."
    assert max(map(len, shown(Path("x")))) <= 80


def test_a_path_is_not_made_longer(shown: Callable[[Path], list[str]]) -> None:
    """What is far from the current directory must be named from the root."""
    assert "/x/report.html" in shown(Path("/x"))


def test_files_are_told_where_the_directory_is_gone(
    shown: Callable[[Path], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that took hours must not end as a fault for where it was started."""
    left = tmp_path / "left"
    left.mkdir()
    monkeypatch.chdir(left)
    left.rmdir()

    assert "/x/report.html" in shown(Path("/x"))
