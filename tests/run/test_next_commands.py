"""Commands to paste: for which run, and with which options."""

import shlex
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.cli.options import override
from flows.models import CLASSES, Difference, DifferenceClass, MigrateOptions
from flows.reconciliation.report import ReconciliationReport
from flows.run.next_commands import (
    begin_command,
    resume_command,
    step_after_dry_run,
    step_after_reconciling,
    step_after_validating,
)
from flows.run.repair import RepairOptions


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


def reconciled(repair: dict[str, object], *found: Difference) -> ReconciliationReport:
    """Return a reconciliation that found some differences, and planned a repair."""
    counts = Counter(one.kind for one in found)
    return ReconciliationReport(
        source_rows=9,
        target_items=9,
        counts={name: counts[DifferenceClass(name)] for name in CLASSES},
        found=found,
        repair=repair,
    )


MISSING = Difference(DifferenceClass.MISSING, "1", "a")
EXTRA = Difference(DifferenceClass.EXTRA, None, "b")
MALFORMED = Difference(DifferenceClass.MALFORMED, None, "c")
FOREIGN = Difference(
    DifferenceClass.MISMATCHED, "2", "d", {"entity_type": {"source": "enterprise"}}
)
PLANNED = {"write": 1, "replace_foreign": 0, "delete_extra": 0, "left": 0}
NOTHING = PLANNED | {"write": 0}


@pytest.mark.parametrize(
    ("repair", "found", "options", "said", "command"),
    [
        (PLANNED, [MISSING], RepairOptions(), "--yes makes 1 change:", "--yes"),
        (
            PLANNED,
            [MISSING, EXTRA],
            RepairOptions(),
            "deleted only with --delete-extra",
            "--yes",
        ),
        (
            NOTHING,
            [EXTRA],
            RepairOptions(),
            "deleted only with --delete-extra",
            "--delete-extra",
        ),
        (
            NOTHING,
            [FOREIGN],
            RepairOptions(),
            "replaced only with --replace-foreign",
            "--replace-foreign",
        ),
        (
            PLANNED,
            [MISSING],
            RepairOptions(delete_extra=True, replace_foreign=True),
            "--yes makes 1 change:",
            "--delete-extra --replace-foreign --yes",
        ),
    ],
)
def test_a_planned_repair_names_the_option_that_writes(
    repair: dict[str, object],
    found: list[Difference],
    options: RepairOptions,
    said: str,
    command: str,
) -> None:
    """Nothing is written yet, and what is left is left for a reason."""
    step = step_after_reconciling(reconciled(repair | {"done": False}, *found), options)

    assert "Nothing was written." in step.advice
    assert said in step.advice
    assert step.command == f"enterprises reconcile --repair {command}"


def test_what_no_repair_changes_is_corrected_by_hand() -> None:
    """After a repair, malformed items are left, and the next step says so."""
    report = reconciled(NOTHING | {"done": True}, MALFORMED)

    step = step_after_reconciling(report, RepairOptions(yes=True))

    assert "correct or delete them by hand" in step.advice
    assert step.command == "enterprises reconcile"


def test_what_fails_validation_is_allowed_or_corrected() -> None:
    """The command has the number of rows, so that it can be pasted as it is."""
    rows, items, none = (
        step_after_validating(*counts) for counts in ((1_200, 0), (0, 3), (0, 0))
    )

    assert rows.command == "enterprises migrate --allow-quarantined 1200"
    assert items.command == "enterprises reconcile"
    assert none.command == "enterprises plan"


@pytest.mark.parametrize(
    ("quarantined", "options", "advice", "command"),
    [
        (3, {"allow_quarantined": 2}, "About 3 rows", "enterprises validate"),
        (3, {"allow_quarantined": 3}, "run it", "enterprises migrate"),
        (3, {"limit": 9}, "run it", "enterprises migrate"),
    ],
)
def test_an_estimate_is_said_to_be_one(
    quarantined: int, options: dict[str, Any], advice: str, command: str
) -> None:
    """A sample must not look counted, and no trial be held back by bad rows."""
    plan: Any = SimpleNamespace(quarantined=quarantined, is_estimated=True)

    step = step_after_dry_run(MigrateOptions(**options), plan)

    assert advice in step.advice
    assert (step.command or "").startswith(command)
