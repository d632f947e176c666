"""The wheel that users install, in a separate environment."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.11", "3.13")


def find_python(version: str) -> str | None:
    """Return an interpreter of a version, from pyenv or the path."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    for folder in sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}*")):
        return str(folder / "bin" / "python")
    return shutil.which(f"python{version}")


def find_installer(python: str) -> tuple[str, ...]:
    """Return the command that installs for an interpreter; uv takes seconds."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    options = ("install", "--quiet", "--no-deps")
    if uv is None:
        return (python, "-m", "pip", *options)
    return (uv, "pip", *options, "--python", python)


def run(*words: str, folder: Path) -> str:
    """Run a program in a folder; return what it printed."""
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_the_wheel_works_outside_of_the_checkout(version: str, tmp_path: Path) -> None:
    """Installed from its wheel and the pins, the demo must be proven anywhere."""
    python = find_python(version)
    if python is None:
        pytest.skip(f"Python {version} is not installed")
    # Not with pip, which an environment made by uv does not have.
    build = ("-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path))
    run(sys.executable, *build, folder=ROOT)
    (built,) = tmp_path.glob("*.whl")
    run(python, "-m", "venv", str(tmp_path / "venv"), folder=tmp_path)
    installed = str(tmp_path / "venv" / "bin" / "python")
    install = find_installer(installed)
    run(*install, "--require-hashes", "-r", f"{ROOT}/constraints.txt", folder=tmp_path)
    run(*install, str(built), folder=tmp_path)
    enterprises = str(tmp_path / "venv" / "bin" / "enterprises")

    report = json.loads(run(enterprises, "demo", "--json", folder=tmp_path))

    assert report["status"] == "proven"
    assert (tmp_path / report["files"]["report"]).is_file()
    where = run(installed, "-c", "import flows; print(flows.__file__)", folder=tmp_path)
    assert Path(where.strip()).is_relative_to(tmp_path / "venv")
