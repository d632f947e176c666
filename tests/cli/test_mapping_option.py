"""The option `--mapping`: which commands have it, and what it overrides."""

import os
from pathlib import Path

import pytest
import typer

from flows.cli.app import app
from flows.cli.options import override
from flows.run.next_commands import begin_command, make_command
from flows.settings import load_settings

FOLLOWING = {
    "migrate",
    "validate",
    "reconcile",
    "plan",
    "doctor",
    "iam-policy",
    "quarantine replay",
}


def walk() -> dict[str, set[str]]:
    """Return the options of each command, by its words."""
    found: dict[str, set[str]] = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", {"": command})
        for last, one in below.items():
            options = {text for param in one.params for text in param.opts}
            found[f"{name} {last}".strip()] = options
    return found


def test_the_commands_that_follow_a_mapping_take_its_file() -> None:
    """An option that does nothing would be a false promise, as one of the demo."""
    having = {name for name, options in walk().items() if "--mapping" in options}

    assert FOLLOWING - having == set()
    assert "demo" not in having


@pytest.fixture
def below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a project; a folder below it is the current one."""
    monkeypatch.setenv("MAPPING_FILE", "of_the_environment.toml")
    (tmp_path / ".env").write_text("MAPPING_FILE=of_the_project.toml\n", "utf-8")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    begin_command()
    return tmp_path


def test_the_option_wins_from_the_current_folder(below: Path) -> None:
    """A shell completes paths from there, though settings are relative to `.env`."""
    override(["MAPPING_FILE=set.toml"], mapping="given.toml")

    file = below / "below" / "given.toml"
    assert load_settings().mapping_file == file
    assert make_command("migrate").endswith(f"--set MAPPING_FILE={file}")


def test_without_the_option_the_setting_holds(
    below: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment wins over `.env`; both are relative to the project's folder."""
    override(None)
    assert load_settings().mapping_file == below / "of_the_environment.toml"

    monkeypatch.delenv("MAPPING_FILE")
    assert load_settings().mapping_file == below / "of_the_project.toml"


def test_an_empty_path_is_no_file(below: Path) -> None:
    """A run of the built-in mapping must be possible beside a `.env` with a file."""
    override(None, mapping="")

    assert os.environ["MAPPING_FILE"] == ""
    assert load_settings().mapping_file is None
    assert below.exists()


def test_in_the_projects_folder_messages_show_the_path_as_it_was_given(
    below: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line of a fault begins with the path, which should stay short."""
    monkeypatch.chdir(below)

    override(None, mapping="given.toml")

    assert load_settings().mapping_file == Path("given.toml")
    assert make_command("plan").endswith("--set MAPPING_FILE=given.toml")


@pytest.mark.parametrize("path", ["~/given.toml", "/tmp/given.toml"])  # noqa: S108
def test_a_path_from_the_root_or_the_home_folder_is_kept(
    path: str,
    below: Path,  # noqa: ARG001
) -> None:
    """Such a path must not be taken from the current folder."""
    override(None, mapping=path)

    assert load_settings().mapping_file == Path(path).expanduser()
