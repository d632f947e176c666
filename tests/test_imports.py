"""The import rules: what each module may load, and that slow packages stay out."""

import os
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"prefect", "great_expectations", "boto3", "fastapi", "moto", "dask"}
FRAMES = {"numpy", "pandas", "pyarrow"}
# Great Expectations loads boto3 where it is installed, Prefect FastAPI.
MAY_LOAD = {
    "flows.api": {"fastapi"},
    "flows.prefect_artifacts": {"prefect", "boto3", "fastapi"},
    "flows.prefect_flows": {"prefect", "boto3", "fastapi"},
    "flows.prefect_tasks": {"prefect", "boto3", "fastapi"},
    "validation.data_docs": {"great_expectations", "boto3"},
    "validation.expectations": {"great_expectations", "boto3"},
    "validation.suites": {"great_expectations", "boto3"},
}
MAY_LOAD_BOTO3 = (
    "flows.api.dynamodb_store",
    "flows.demo",
    "flows.doctor",
    "flows.explore",
    "flows.load",
    "flows.pipeline",
    "flows.planning",
    "flows.reconciliation",
    "flows.run",
    "flows.stores.dynamodb",
    "flows.validate",
)
# The HTTP service loads these; the scan is for the reconciliation alone.
WITHOUT_FRAMES = ("flows.api", "flows.stores")
WITH_FRAMES = ("flows.stores.dynamodb.parallel_scan",)


# Slow imports that no module is tested for.
PRELOADED = (
    "botocore.session",
    "pandas",
    "psycopg2.extensions",
    "pyarrow.csv",
    "pydantic_settings",
    "rich.progress",
    "sqlalchemy.orm",
    "typer",
)
PRELOADED_LIGHT = (
    "botocore.session",
    "psycopg2.extensions",
    "pydantic_settings",
    "starlette.applications",
)


def modules() -> list[str]:
    """Return the dotted names of all modules of both packages."""
    paths = [*(ROOT / "flows").rglob("*.py"), *(ROOT / "validation").rglob("*.py")]
    names = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in paths]
    return sorted(name.removesuffix(".__init__") for name in names)


# Each module in a process forked from one with the preloaded packages.
LOAD_EACH = """
import importlib, os, sys
watched, preloaded, modules = (names.split(",") for names in sys.argv[1:])
for name in preloaded:
    importlib.import_module(name)
assert not {*watched} & {*sys.modules}
for module in modules:
    if os.fork() == 0:
        importlib.import_module(module)
        print(module, *({*watched} & {*sys.modules}), flush=True)
        os._exit(0)
    os.wait()
"""


def load_each(
    names: Iterable[str], watched: Iterable[str], preloaded: Iterable[str]
) -> dict[str, set[str]]:
    """Import each module alone; return which watched packages are loaded afterwards."""
    lists = [",".join(each) for each in (watched, preloaded, names)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD_EACH, *lists],
        # Coverage would trace each import, and end without writing its data.
        env={k: v for k, v in os.environ.items() if k != "COVERAGE_PROCESS_CONFIG"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = (line.split() for line in done.stdout.splitlines())
    return {module: set(found) for module, *found in lines}


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """Return which slow packages each module loads."""
    return load_each(modules(), HEAVY, PRELOADED)


# In one worker of the tests, since the shared fixture takes half a minute.
@pytest.mark.xdist_group("imports")
@pytest.mark.parametrize("module", modules())
def test_a_module_loads_only_what_its_place_allows(
    module: str, loaded: dict[str, set[str]]
) -> None:
    """Importing a module alone must not load a slow package that it may not load."""
    allowed: set[str] = set()
    for place, packages in MAY_LOAD.items():
        allowed |= packages if within(module, place) else set()
    if within(module, *MAY_LOAD_BOTO3):
        allowed |= {"boto3"}

    assert loaded[module] - allowed == set()


def within(module: str, *places: str) -> bool:
    """Return whether a module is one of these, or in one."""
    return any(f"{module}.".startswith(f"{place}.") for place in places)


def test_the_service_loads_no_frames() -> None:
    """Neither the HTTP service nor its dependencies may load pandas or similar."""
    light = {module for module in modules() if within(module, *WITHOUT_FRAMES)}
    light -= {*WITH_FRAMES}

    loaded = load_each(light, FRAMES, PRELOADED_LIGHT)

    assert loaded == {module: set() for module in light}


def test_both_packages_are_typed_for_others() -> None:
    """Type checkers must read the annotations of an installed package."""
    assert (ROOT / "flows" / "py.typed").is_file()
    assert (ROOT / "validation" / "py.typed").is_file()


def test_the_public_functions_are_there() -> None:
    """Programs and notebooks must find the steps in one module, by these names."""
    from flows import pipeline

    assert sorted(pipeline.__all__) == [
        "MigrateOptions",
        "migrate",
        "plan_migration",
        "reconcile",
        "reconciliation_history",
        "undo_trial",
        "validate",
        "validate_source",
        "validate_target",
    ]
    assert all(hasattr(pipeline, name) for name in pipeline.__all__)


def test_no_module_bears_the_name_of_another() -> None:
    """Prefect puts the folder of a flow's file first on the path of its process.

    A module there would shadow that of the standard library or of a package.
    """
    names = {part for module in modules() for part in module.split(".")[1:]}

    assert names & (sys.stdlib_module_names | set(packages_distributions())) == set()


def test_help_loads_nothing_slow() -> None:
    """The help text must not load pandas, SQLAlchemy or anything slower."""
    code = (
        "import sys; from typer.testing import CliRunner\n"
        "from flows.cli.app import app\n"
        "result = CliRunner().invoke(app, ['--help'])\n"
        "slow = {'pandas', 'sqlalchemy', 'pydantic', 'boto3', 'prefect'}\n"
        "print(result.exit_code, *sorted(slow & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["0"]
