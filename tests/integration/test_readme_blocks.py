"""The READMEs' blocks, executed as they stand."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg2
import pytest

from flows.stores.dynamodb.table import EnterpriseTable
from tests.support.started_runs import ended, environment_of
from tests.support.warm_command import Commands

ROOT = Path(__file__).parents[2]
# They need other programs, another machine, or an end by a signal.
SKIPPED = re.compile(r"enterprises (demo|init|serve|runs open)|--runner dask|--watch")
# What these end with, other than 0: in README on a source of good rows, in the guide on
# one of which one row cannot be an item.
EXPECTED = {
    "README.md": {
        "migrate --limit 100": 3,
        # The last run is proven, and left no row in quarantine.
        "migrate --resume last": 2,
        "quarantine replay last": 2,
    },
    "flows/README.md": {
        "reconcile --sample 10000": 3,
        "migrate --limit 1000": 3,
        "migrate --resume last": 2,
        "quarantine replay last": 3,
    },
}
on_dynamodb_local = pytest.mark.parametrize(
    "endpoint", ["dynamodb-local"], indirect=True
)
BAD_ROW = "INSERT INTO enterprises VALUES (100, '  ', now(), now())"


def blocks(readme: str, language: str) -> list[str]:
    """Return the blocks of a language in a README."""
    text = (ROOT / readme).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def shown_commands(readme: str) -> list[str]:
    """Return the commands of a README's blocks, without their program."""
    lines = [line for block in blocks(readme, "bash") for line in block.splitlines()]
    found = (re.match(r"(?:\.venv/bin/)?(enterprises .*)", line) for line in lines)
    shown = [match[1] for match in found if match and not SKIPPED.search(match[1])]
    return [shlex.join(shlex.split(line, comments=True)[1:]) for line in shown]


@pytest.fixture
def run(
    commands: Commands,
    table: EnterpriseTable,
    source: str,
    tmp_path: Path,
) -> Callable[[str], tuple[int, Any, str]]:
    """Return a function that runs a command as a page shows it."""
    environment = environment_of(table, source)
    environment |= {"STATE_URL": f"sqlite:///{tmp_path}/state.db"}
    environment |= {"AWS_REGION": table.region, "RUNS_DIR": str(tmp_path / "runs")}

    def run(command: str) -> tuple[int, Any, str]:
        words = [*shlex.split(command), "--json"]
        if words[:2] in (["cutover", "declare"], ["cutover", "revoke"]):
            words.append("--yes")
        return ended(commands.start(words, environment, tmp_path))

    return run


@pytest.fixture
def bad_row(source: str, run: Callable[[str], tuple[int, Any, str]]) -> None:
    """Add a row that cannot be an item, and accept it in a run."""
    with psycopg2.connect(source) as connection:
        connection.cursor().execute(BAD_ROW)
    run("migrate --no-prefect --allow-quarantined 1")


@pytest.mark.slow
@on_dynamodb_local
@pytest.mark.parametrize("page", EXPECTED)
def test_each_shown_command_runs(
    page: str,
    run: Callable[[str], tuple[int, Any, str]],
    request: pytest.FixtureRequest,
) -> None:
    """The commands of a page must end as it says, one after the other."""
    if page == "flows/README.md":
        request.getfixturevalue("bad_row")
    shown, expected = shown_commands(page), EXPECTED[page]

    found = [(line, run(line)[0]) for line in shown]

    assert len(shown) > 10
    assert [one for one in found if one[1] != expected.get(one[0], 0)] == []


@on_dynamodb_local
@pytest.mark.usefixtures("bad_row")
def test_each_shown_python_runs(source: str) -> None:
    """Each Python block of a README must run, given the rows that it speaks of."""
    names = ("source_id", "enterprise_name", "created_date", "updated_date")
    row = ("1", "Acme", "2024-01-01 00:00:00+00", "2024-01-01 00:00:00+00")
    known = {"rows": pd.DataFrame([row], columns=list(names), dtype=object)}
    shown = [*blocks("flows/README.md", "python")]
    shown += blocks("validation/README.md", "python")

    for block in shown:
        code = block.replace("postgresql+psycopg2://…", source)
        exec(compile(code, "README", "exec"), known)  # noqa: S102 - our own text

    assert len(shown) == 3
    assert known["report"].failures.empty
