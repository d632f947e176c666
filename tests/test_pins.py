"""The pins: each installed package has its digests, and the required version."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PINS = (ROOT / "constraints.txt").read_text("utf-8").replace("\\\n", " ").splitlines()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
# `name==version`, an optional marker, and digests; an address does not match.
PIN = re.compile(
    r"([a-z0-9-]+)(?:\[[a-z0-9,-]+\])?==([^\s;]+)(?: ; [^:]+?)?"
    r"(?:\s+--hash=sha256:[0-9a-f]{64})+\s*"
)


def asked_for() -> list[str]:
    """Return the project's requirements, with the locked extras and the groups."""
    project, groups = PROJECT["project"], PROJECT["dependency-groups"]
    extras = project["optional-dependencies"]
    developing = (one for group in groups.values() for one in group)
    asked = [*project["dependencies"], *extras["embedded"], *extras["dask"]]
    return [*asked, *(one for one in developing if isinstance(one, str))]


def test_a_pin_is_a_version_with_its_digests() -> None:
    """No package may be installed without a digest, or from a separate address."""
    assert len(PINS) > 100
    assert [line[:80] for line in PINS if not PIN.fullmatch(line)] == []


@pytest.mark.parametrize("asked", asked_for())
def test_what_is_asked_for_is_pinned_as_asked(asked: str) -> None:
    """Each bound of a requirement, such as that of FastAPI, must hold in the lock."""
    requirement = Requirement(asked)
    found = [match for line in PINS if (match := PIN.fullmatch(line))]
    pinned = {
        match[2] for match in found if match[1] == canonicalize_name(requirement.name)
    }

    assert pinned
    assert all(version in requirement.specifier for version in pinned)
