"""Commands to paste: for which run, and with which options."""

import shlex
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.cli.options import override
from flows.models import MigrateOptions
from flows.run.next_commands import begin_command, resume_command


@pytest.fixture(autouse=True)
def afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Isolate each command from the options of the one before."""
    # So that monkeypatch restores the overridden variables.
    monkeypatch.setenv("SOURCE_TABLE", "public.enterprises")
    monkeypatch.setenv("ALLOW_INSECURE_ENDPOINT", "false")
    begin_command()
    yield
    begin_command()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "enterprises migrate --resume r"),
        (
            {"run_id": "r", "since": "last", "workers": None, "after_cutover": True},
            "enterprises migrate --resume r --after-cutover",
        ),
        (
            {"resume": "last", "workers": 2, "deadline": 60, "data_docs": True},
            "enterprises migrate --resume r --workers 2 --deadline 60 --data-docs",
        ),
        (
            {"runner": "dask", "max_write_units": 1.5},
            "enterprises migrate --resume r --runner dask --max-write-units 1.5",
        ),
        (
            {"replay": "last", "allow_quarantined": 1, "partition_rows": 9},
            "enterprises quarantine replay last --allow-quarantined 1",
        ),
        (
            {"limit": 9, "run_id": "r", "workers": 2},
            "enterprises migrate --workers 2 --limit 9",
        ),
    ],
)
def test_the_options_of_a_run_are_given_again(
    values: dict[str, object], expected: str
) -> None:
    """A resumed run must get the run's options; a replay and a trial are repeated."""
    assert resume_command("r", MigrateOptions.model_validate(values)) == expected


def test_settings_of_the_command_line_are_given_again() -> None:
    """Without them the command would use another source or table."""
    override(["SOURCE_TABLE=public.the firms"], allow_insecure=True)

    words = shlex.split(resume_command("r", MigrateOptions()))

    assert words[-4:] == [
        "--set",
        "SOURCE_TABLE=public.the firms",
        "--set",
        "ALLOW_INSECURE_ENDPOINT=true",
    ]


def test_each_option_of_a_run_is_one_of_the_command() -> None:
    """An option that migrate does not accept would give a command that is refused."""
    names = set(MigrateOptions.model_fields) - {"replay"}

    said = CliRunner().invoke(app, ["migrate", "--help"]).stdout

    assert {n for n in names if f"--{n.replace('_', '-')}" not in said} == set()
