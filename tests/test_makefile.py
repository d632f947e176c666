"""The Makefile: its list of targets, and how it installs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "small"
version = "1"
[tool.hatch.build.targets.wheel]
packages = ["small"]
"""


def make(*arguments: str, folder: Path = ROOT, path: str | None = None) -> str:
    """Run make; return what it printed."""
    environment = os.environ | ({"PATH": path} if path else {})
    # `make test` runs these tests: its options and its depth must not be passed on.
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        environment.pop(name, None)
    done = subprocess.run(
        ["make", f"PYTHON={sys.executable}", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_make_alone_lists_every_target() -> None:
    """Each target must have one line that says what it does."""
    targets = re.search(r"^\.PHONY: (.*)", MAKEFILE, re.MULTILINE)
    assert targets is not None

    lines = make().splitlines()

    assert [line.split()[1] for line in lines] == targets[1].split()
    assert all(len(line.split()) > 3 for line in lines)


def test_root_may_open_the_notebooks() -> None:
    """JupyterLab refuses root unless it is allowed, and nobody else needs that."""
    shown = make("--dry-run", "notebooks")

    assert ("--allow-root" in shown) == (os.geteuid() == 0)


@pytest.fixture
def small_project(tmp_path: Path) -> Path:
    """Create a project with the Makefile, and the pins of its build alone."""
    pins = (ROOT / "constraints.txt").read_text("utf-8")
    needed = "editables|hatchling|packaging|pathspec|pluggy|trove-classifiers"
    found = re.findall(rf"^(?:{needed})==(?:.*\\\n)*.*\n", pins, re.MULTILINE)
    (tmp_path / "constraints.txt").write_text("".join(found))
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "__init__.py").touch()
    for name in ("Makefile", "constraints-uv.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def installed(folder: Path) -> bool:
    """Return whether the small project can be imported from its environment."""
    python = folder / ".venv" / "bin" / "python"
    return subprocess.run([python, "-c", "import small"], check=False).returncode == 0


def path_without_uv() -> str:
    """Return a path without uv, but with all else."""
    names = os.environ["PATH"].split(os.pathsep)
    left = [name for name in names if not (Path(name) / "uv").exists()]
    return os.pathsep.join(left)


@pytest.mark.slow
def test_uv_is_installed_by_its_hash_if_it_is_missing(small_project: Path) -> None:
    """Without uv, the pinned one must be installed into .venv and used."""
    printed = make("install", folder=small_project, path=path_without_uv())

    assert (small_project / ".venv" / "bin" / "uv").is_file()
    assert "Installing uv into .venv" in printed
    assert "Installing with pip" not in printed
    assert installed(small_project)


@pytest.mark.slow
def test_pip_installs_if_uv_cannot_be_had(small_project: Path) -> None:
    """A uv whose hash differs must not be run; pip then installs, and shows it."""
    pins = small_project / "constraints-uv.txt"
    pins.write_text(re.sub("[0-9a-f]{64}", "0" * 64, pins.read_text()))

    printed = make("install", folder=small_project, path=path_without_uv())

    assert not (small_project / ".venv" / "bin" / "uv").exists()
    assert "Installing with pip" in printed
    assert "hatchling" in printed
    assert installed(small_project)
