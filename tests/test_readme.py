"""README, guide and .env.example agree with the commands and settings."""

import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from flows.cli.app import app
from flows.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
GUIDE = (ROOT / "flows" / "README.md").read_text("utf-8")
ENV_EXAMPLE = (ROOT / ".env.example").read_text("utf-8")
COMMANDS = [str(name) for name in typer.main.get_command(app).commands]  # type: ignore[attr-defined]
SHOWN_COMMANDS = sorted(set(re.findall(r"\benterprises ([a-z][a-z-]+)", README)))
SHOWN_TARGETS = sorted(set(re.findall(r"^\$? ?make ([a-z]+)", README, re.MULTILINE)))


def test_the_readme_is_short() -> None:
    """The README stays under 250 lines."""
    assert len(README.splitlines()) < 250


@pytest.mark.parametrize("command", SHOWN_COMMANDS)
def test_a_command_of_the_readme_exists(command: str) -> None:
    """Each command that the README shows must be one of the program."""
    assert command in COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_readme(command: str) -> None:
    """Each command of the program must be in the README."""
    assert command in SHOWN_COMMANDS


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (match[1].strip(), option)
        for line in README.splitlines()
        if (match := re.search(r"\benterprises ([a-z-]+(?: [a-z]+)?)(.*)", line))
        for option in re.findall(r"(?<!\w)--[a-z-]+", match[2])
    ],
)
def test_an_option_of_the_readme_exists(command: str, option: str) -> None:
    """Each option that the README shows with a command must be an option of it."""
    words = [*command.split(), "--help"]
    text = CliRunner().invoke(app, words, env={"COLUMNS": "200"}).output

    assert option in text


@pytest.mark.parametrize("target", SHOWN_TARGETS)
def test_a_target_of_the_readme_is_in_the_makefile(target: str) -> None:
    """Each make target that the README shows must be there."""
    makefile = (ROOT / "Makefile").read_text("utf-8")

    assert re.search(rf"^{target}:", makefile, re.MULTILINE)


@pytest.mark.parametrize("name", [name.upper() for name in Settings.model_fields])
def test_every_setting_is_described(name: str) -> None:
    """Each setting must be in the guide's table and in .env.example."""
    assert re.search(rf"^\| `{name}`", GUIDE, re.MULTILINE)
    assert re.search(rf"^#{name}=", ENV_EXAMPLE, re.MULTILINE)


def test_no_setting_is_invented() -> None:
    """Guide and .env.example must describe existing settings only."""
    table = GUIDE.split("## Settings")[1]
    shown = set(re.findall(r"^\| `([A-Z_]+)`", table, re.MULTILINE))
    shown |= set(re.findall(r"^#([A-Z_]+)=", ENV_EXAMPLE, re.MULTILINE))

    assert {name.lower() for name in shown} == set(Settings.model_fields)


@pytest.mark.parametrize("page", ["README.md", "flows/README.md"])
def test_each_link_leads_somewhere(page: str) -> None:
    """Each link to a file must name one that exists, and each anchor a heading."""
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\((?!http)([^)]+)\)", text):
        name, _, anchor = target.partition("#")
        file = (ROOT / page).parent / name if name else ROOT / page
        assert file.is_file(), target
        headings = re.findall(r"^#+ (.*)", file.read_text("utf-8"), re.MULTILINE)
        anchors = {heading.lower().replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors, target
