"""The pins: each installed package has its digests, and the required version."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
GROUPS = PROJECT["dependency-groups"]
# `name==version`, an optional marker, and digests; an address does not match.
PIN = re.compile(
    r"([a-z0-9-]+)(?:\[[a-z0-9,-]+\])?==([^\s;]+)(?: ; [^:]+?)?"
    r"(?:\s+--hash=sha256:[0-9a-f]{64})+\s*"
)
MAIN, NOTEBOOKS, UV = (f"constraints{name}.txt" for name in ("", "-notebooks", "-uv"))


def lines_of(file: str) -> list[str]:
    """Return the pins of a file, one per line."""
    text = (ROOT / file).read_text("utf-8")
    return text.replace("\\\n", " ").splitlines()


def pins_of(file: str) -> dict[str, set[str]]:
    """Return the pinned versions of each package; a marker may select one of them."""
    pins: dict[str, set[str]] = {}
    for line in lines_of(file):
        if match := PIN.fullmatch(line):
            pins.setdefault(match[1], set()).add(match[2])
    return pins


def asked_for() -> list[tuple[str, str]]:
    """Return each requirement with the file that must pin it."""
    developing = (one for name in GROUPS if name != "uv" for one in GROUPS[name])
    main = [*PROJECT["project"]["dependencies"], *EXTRAS["embedded"], *EXTRAS["dask"]]
    main += [one for one in developing if isinstance(one, str)]
    asked = {MAIN: main, NOTEBOOKS: EXTRAS["notebooks"], UV: GROUPS["uv"]}
    return [(file, one) for file, all_of_it in asked.items() for one in all_of_it]


@pytest.mark.parametrize(("file", "least"), [(MAIN, 100), (NOTEBOOKS, 100), (UV, 1)])
def test_a_pin_is_a_version_with_its_digests(file: str, least: int) -> None:
    """No package may be installed without a digest, or from a separate address."""
    assert len(lines_of(file)) >= least
    assert [line[:80] for line in lines_of(file) if not PIN.fullmatch(line)] == []


@pytest.mark.parametrize(("file", "asked"), asked_for())
def test_what_is_asked_for_is_pinned_as_asked(file: str, asked: str) -> None:
    """Each bound of a requirement, such as that of FastAPI, must hold in the lock."""
    requirement = Requirement(asked)
    pinned = pins_of(file).get(canonicalize_name(requirement.name))

    assert pinned
    assert all(version in requirement.specifier for version in pinned)


def test_the_notebooks_change_no_pin() -> None:
    """The notebooks must add packages only: JupyterLab slows down Prefect's start."""
    main, notebooks = pins_of(MAIN), pins_of(NOTEBOOKS)

    assert {name: notebooks[name] for name in main.keys() & notebooks.keys()} == {
        name: main[name] for name in main.keys() & notebooks.keys()
    }
    assert "jupyterlab" in notebooks
    assert not {"jupyterlab", "uv"} & main.keys()
