"""The output of the command at the end of a run."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flows.cli.output import show
from flows.models import Report
from flows.run.next_commands import NextStep

STEP = NextStep("Sign it:", "enterprises status")
FILES = ("report.html", "differences of [2024].parquet")


@dataclass(frozen=True, repr=False)
class Ended(Report):
    """A report with files."""

    files: dict[str, str | None] = field(default_factory=dict)

    def asdict(self) -> dict[str, Any]:
        """Return the values shown beside the tables."""
        return {"status": "clean", "files": self.files}

    def tables(self) -> list[tuple[str, dict[str, Any]]]:
        """Return a table that is wider than a terminal."""
        return [("Counts", {f"class_{number}": number for number in range(99)})]


@pytest.fixture
def shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path], list[str]]:
    """Return a function that returns the lines shown for files in a small terminal."""
    monkeypatch.setenv("COLUMNS", "80")

    def lines_of(directory: Path) -> list[str]:
        files = {name: str(directory / name) for name in FILES}
        show(Ended(files={**files, "data_docs": None}), STEP)
        return [line.strip() for line in capsys.readouterr().out.splitlines()]

    return lines_of


@pytest.mark.parametrize("deep", ["runs", "runs/" + 9 * "a-long-name/" + "end"])
def test_a_path_can_be_copied_whole(
    deep: str, shown: Callable[[Path], list[str]]
) -> None:
    """Each file must be on a separate line, even in a narrow terminal."""
    here = shown(Path(deep))
    there = shown(Path.cwd() / deep)

    assert [line for line in here if deep in line] == [f"{deep}/{f}" for f in FILES]
    assert there == here
    assert here[:3] == ["Clean.", "Next: Sign it:", "enterprises status"]
    assert max(map(len, shown(Path("x")))) <= 80


def test_a_path_is_not_made_longer(shown: Callable[[Path], list[str]]) -> None:
    """A file far from the current directory must have an absolute path."""
    assert "/x/report.html" in shown(Path("/x"))


def test_files_are_told_where_the_directory_is_gone(
    shown: Callable[[Path], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of hours must not end with an error because its start directory is gone."""
    left = tmp_path / "left"
    left.mkdir()
    monkeypatch.chdir(left)
    left.rmdir()

    assert "/x/report.html" in shown(Path("/x"))
