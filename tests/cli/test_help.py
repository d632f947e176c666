"""The help of each command, the version, and the completion of shells."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from flows.cli.app import app
from flows.cli.help import HELP


def walk(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each command with its path."""
    for name, command in group.commands.items():
        below = f"{path} {name}".strip()
        if hasattr(command, "commands"):
            yield from walk(command, below)
        else:
            yield below, command


COMMANDS = dict(walk(typer.main.get_command(app)))
GROUPS = ("", "mapping", "quarantine", "cutover")


def help_of(path: str, option: str = "--help") -> str:
    """Return the help of a command or group on a terminal of 80 columns."""
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, [*path.split(), option])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("path", sorted(COMMANDS))
def test_each_help_has_examples_and_exit_codes(path: str) -> None:
    """A reader must find a command to copy and the meaning of each exit code."""
    shown = help_of(path)

    assert f"Examples:\n  enterprises {path}" in shown
    assert "Exit codes:\n  0 " in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert help_of(path, "-h") == shown


@pytest.mark.parametrize("path", sorted(HELP))
def test_each_example_can_be_parsed(path: str) -> None:
    """An example with an option that does not exist would be refused."""
    for example, purpose in HELP[path].examples:
        words = example.split()[len(path.split()) :]
        assert example.startswith(path)
        assert COMMANDS[path].make_context(path, words).params
        assert purpose


@pytest.mark.parametrize("path", GROUPS)
def test_each_summary_fits_its_line(path: str) -> None:
    """No summary in a list of commands may be cut."""
    assert "..." not in help_of(path).split("Commands:")[1]


def test_options_are_in_groups() -> None:
    """Twenty options in one list are not found."""
    shown = help_of("migrate")
    places = [shown.index(f"\n{title}:") for title in ("What to move", "Rates")]
    places.append(shown.index("\nWhat to accept:"))
    places.append(shown.index("\nOptions:"))

    assert places == sorted(places)
    assert shown.index("--allow-quarantined") > places[2]


def test_the_version_is_that_of_the_package() -> None:
    """A bug report must be able to name it."""
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == f"enterprises {version('enterprise-migration')}\n"


def test_a_shell_completes_commands() -> None:
    """Bash asks the program itself for the words that may follow."""
    asked = {"_ENTERPRISES_COMPLETE": "complete_bash", "COMP_WORDS": "enterprises mig"}
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli"],
        env=os.environ | asked | {"COMP_CWORD": "1"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == ["migrate"]
