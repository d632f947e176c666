"""The import rules: what each module may load, and that slow packages stay out."""

import re
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"prefect", "great_expectations", "boto3", "fastapi", "moto", "dask"}
ALLOWED = {
    "flows.prefect_artifacts": {"prefect", "boto3", "fastapi"},
    "flows.prefect_flows": {"prefect", "boto3", "fastapi"},
    # Great Expectations loads boto3 where it is installed.
    "validation.data_docs": {"great_expectations", "boto3"},
    "validation.expectations": {"great_expectations", "boto3"},
    "validation.suites": {"great_expectations", "boto3"},
}
ABOVE_BOTO3 = {
    "flows.run.dask_workers",
    "flows.reconciliation.compare",
    "flows.run.deletions",
    "flows.demo.stores",
    "flows.doctor.diagnosis",
    "flows.doctor.checks",
    "flows.doctor.runs",
    "flows.doctor.source",
    "flows.doctor.target",
    "flows.validate",
    "flows.load",
    "flows.planning.estimate",
    "flows.explore",
    "flows.run.preflight",
    "flows.run.partition",
    "flows.stores.dynamodb.iam",
    "flows.pipeline",
    "flows.planning.report",
    "flows.planning.plan",
    "flows.reconciliation.reconcile",
    "flows.demo.cutover",
    "flows.run.repair",
    "flows.run.report",
    "flows.run.start",
    "flows.run.finish",
    "flows.stores.dynamodb.client",
    "flows.stores.dynamodb.table",
    "flows.stores.dynamodb.lease",
    "flows.stores.dynamodb.permission_probes",
    "flows.stores.dynamodb.parallel_scan",
    "flows.stores.dynamodb.session",
    "flows.stores.dynamodb.schema",
    "flows.run.process_workers",
    "flows.api.dynamodb_store",
}
# What the HTTP service loads, which has to start at once.
LIGHT = {
    "flows.errors",
    "flows.models",
    "flows.settings",
    "flows.stores.dynamodb.faults",
    "flows.stores.dynamodb.client",
    "flows.stores.dynamodb.http_pool",
    "flows.stores.dynamodb.table",
    "flows.stores.postgres.session",
    "flows.stores.dynamodb.session",
    "flows.stores.dynamodb.schema",
    "flows.stores.dynamodb.wire",
}
FRAMES = {"numpy", "pandas", "pyarrow"}


# What takes long, and none of the modules is tested for.
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


# Each module in a process forked from one that has what none of them is tested for.
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
    """Import each module alone; return which of the watched are there afterwards."""
    lists = [",".join(each) for each in (watched, preloaded, names)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD_EACH, *lists],
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


# In one worker of the tests, since what they share takes half a minute.
@pytest.mark.xdist_group("imports")
@pytest.mark.parametrize("module", modules())
def test_a_module_loads_only_what_its_place_allows(
    module: str, loaded: dict[str, set[str]]
) -> None:
    """Importing a module alone must not load a slow package that is not its own."""
    allowed = ALLOWED.get(module, set())
    if module.startswith("flows.api"):
        allowed = allowed | {"fastapi"}
    if module in ABOVE_BOTO3:
        allowed = allowed | {"boto3"}

    assert loaded[module] - allowed == set()


def is_light(module: str) -> bool:
    """Tell whether a module is of the HTTP service, or one that it loads."""
    return module in LIGHT or module.startswith("flows.api")


def test_the_service_loads_no_frames() -> None:
    """Neither the HTTP service nor what it rests on may load pandas or its like."""
    light = [module for module in modules() if is_light(module)]

    loaded = load_each(light, FRAMES, PRELOADED_LIGHT)

    assert loaded == {module: set() for module in light}


def test_the_service_rests_on_the_stores_alone() -> None:
    """No module of the HTTP service may import a step of the pipeline."""
    below = ("flows.api", "flows.stores", "flows.models", "flows.settings")
    imported = {
        match[1]
        for path in (ROOT / "flows" / "api").glob("*.py")
        for match in re.finditer(
            r"^\s*(?:from|import) ((?:flows|validation)[.\w]*)",
            path.read_text("utf-8"),
            re.MULTILINE,
        )
    }

    assert [m for m in imported if not m.startswith((*below, "flows.errors"))] == []


def test_validation_is_a_leaf() -> None:
    """No module of validation may import flows."""
    importing = [
        path.name
        for path in (ROOT / "validation").rglob("*.py")
        if any(
            line.lstrip().startswith(("import flows", "from flows"))
            for line in path.read_text("utf-8").splitlines()
        )
    ]

    assert importing == []


def test_no_module_bears_the_name_of_another() -> None:
    """Prefect puts the folder of a flow's file first on the path of its process.

    A module there would be taken for the one of the standard library or of a package.
    """
    names = {part for module in modules() for part in module.split(".")[1:]}

    assert names & (sys.stdlib_module_names | set(packages_distributions())) == set()


def test_help_loads_nothing_slow() -> None:
    """The help text must come without pandas, SQLAlchemy or anything slower."""
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
