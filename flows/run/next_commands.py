"""What comes after a command: one sentence, and a command that can be pasted.

Options of the run and settings that were given on the command line are repeated.
"""

import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flows.models import MigrateOptions
    from flows.planning.report import MigrationPlan
    from flows.reconciliation.report import ReconciliationReport
    from flows.run.repair import RepairOptions
    from flows.run.report import MigrationReport

# A resumed run takes these from the run that it resumes.
OF_ONE_RUN = {"run_id", "resume", "since", "replay"}
PROGRAM = "enterprises"
OF_A_REPLAY = {"allow_quarantined", "after_cutover"}

_settings: list[str] = []
_recorded: list[str] = []


def begin_command() -> None:
    """Clear the settings and the run of the previous command of this process."""
    _settings.clear()
    _recorded.clear()


def repeat_setting(name: str, value: str) -> None:
    """Repeat a setting in each command that follows."""
    _settings.extend(["--set", f"{name}={value}"])


def make_command(*words: str) -> str:
    """Return a command of this program as a line for a shell."""
    return shlex.join([_program(), *words, *_settings])


def _program() -> str:
    """Return the name of the program, or its path if the shell does not find it."""
    called = sys.argv[0]
    if Path(called).name != PROGRAM or shutil.which(PROGRAM):
        return PROGRAM
    return called


def resume_command(run_id: str, options: "MigrateOptions") -> str:
    """Return the command that resumes a run; a replay or a trial is repeated."""
    given = options.model_dump(exclude_defaults=True, exclude=OF_ONE_RUN)
    if options.replay is not None:
        given = {name: given[name] for name in given.keys() & OF_A_REPLAY}
        return make_command("quarantine", "replay", options.replay, *_flags(given))
    if options.limit is not None:
        return make_command("migrate", *_flags(given))
    return make_command("migrate", "--resume", run_id, *_flags(given))


def record_command(command: str | None) -> None:
    """Record the command that resumes the run that the state now has."""
    _recorded[:] = [command] if command else []


def recorded_command() -> str | None:
    """Return the command that resumes the run of this process; None if none does."""
    return _recorded[0] if _recorded else None


@dataclass(frozen=True)
class NextStep:
    """What to do after a command, and the command that does it, if there is one."""

    advice: str
    command: str | None = None


def step_after_run(report: "MigrationReport") -> NextStep:
    """Return what comes after a run of this process."""
    if report.status == "proven":
        return NextStep("Nothing is left to do. The report is ready to be signed.")
    if report.status == "incomplete":
        again = "Repeat" if report.trial is not None else "Resume"
        return NextStep(f"{again} the run with:", recorded_command())
    if report.trial is not None:
        undo = make_command("migrate", "--undo-trial")
        said = f"To remove the items of the trial: {undo}. To move all rows:"
        return NextStep(said, make_command("migrate"))
    if report.ledger.quarantined > report.allowed:
        return NextStep(
            "See why rows are in quarantine. Correct them in PostgreSQL, or accept them"
            f" with --allow-quarantined {report.ledger.quarantined}:",
            make_command("quarantine", "show", report.run_id),
        )
    return NextStep(
        "See what a repair would write:", make_command("reconcile", "--repair")
    )


def step_after_demo(report: "MigrationReport") -> NextStep:
    """Return what comes after the demo, whose stores are gone."""
    if report.status == "proven":
        return NextStep("Set up your own stores:", make_command("init"))
    return NextStep("Read the report below.")


def step_after_dry_run(options: "MigrateOptions", plan: "MigrationPlan") -> NextStep:
    """Return what comes after the checks of a run with these options."""
    checked = (
        "Settings, source, table, indexes, permissions to read, lease and files were"
        " checked; nothing was written."
    )
    if plan.quarantined > options.allow_quarantined and options.limit is None:
        count = f"{'About ' if plan.is_estimated else ''}{plan.quarantined:,}"
        found = f"{count} rows would be put in quarantine, more than are allowed."
        said = f"{checked} {found} To see why:"
        return NextStep(said, make_command("validate"))
    given = options.model_dump(exclude_defaults=True)
    return NextStep(f"{checked} To run it:", make_command("migrate", *_flags(given)))


def step_after_plan() -> NextStep:
    """Return what comes after a plan."""
    command = make_command("migrate", "--dry-run")
    return NextStep("Nothing was written. To check everything else first:", command)


def step_after_validating(rows: int, items: int) -> NextStep:
    """Return what comes after a validation that some rows or items failed."""
    if rows:
        return NextStep(
            f"A run would put {rows:,} rows in quarantine. Correct them in PostgreSQL,"
            " or accept them:",
            make_command("migrate", "--allow-quarantined", str(rows)),
        )
    if items:
        return NextStep("Compare the items with rows:", make_command("reconcile"))
    return NextStep("Nothing was written. Plan the run:", make_command("plan"))


def step_after_reconciling(
    report: "ReconciliationReport", options: "RepairOptions | None" = None
) -> NextStep:
    """Return what comes after a reconciliation, or after a repair with *options*."""
    if report.status == "sampled":
        command = make_command("reconcile")
        return NextStep("A sample is no proof. Compare everything:", command)
    if report.status == "clean":
        return NextStep("Nothing is left to do. The report is ready to be signed.")
    if report.status == "unproven":
        command = make_command("quarantine", "list")
        return NextStep("See which rows are in quarantine, and why:", command)
    if report.repair and options is not None:
        return _step_after_repair(report, options)
    return NextStep(
        "Nothing was written. See what a repair would write:",
        make_command("reconcile", "--repair"),
    )


def _step_after_repair(
    report: "ReconciliationReport", options: "RepairOptions"
) -> NextStep:
    """Return what comes after a repair that was planned, or that left differences."""
    # Not at the top: the help of the command needs this module, and no models.
    from flows.models import DIFFERENT, DifferenceClass

    kinds = Counter(one.kind for one in report.found if one.kind in DIFFERENT)
    extra = kinds[DifferenceClass.EXTRA] and not options.delete_extra
    foreign = not options.replace_foreign and any(
        "entity_type" in one.fields for one in report.found
    )
    words = ["reconcile", "--repair"]
    words += ["--delete-extra"] if options.delete_extra else []
    words += ["--replace-foreign"] if options.replace_foreign else []
    why = []
    if extra:
        why.append("Items without a row are deleted only with --delete-extra.")
    if foreign:
        why.append(
            "Items of another entity_type are replaced only with --replace-foreign."
        )
    if kinds[DifferenceClass.EXTRA] and options.delete_extra and options.yes:
        why.append("Items that no run created are never deleted: decide by hand.")
    if kinds[DifferenceClass.MALFORMED]:
        why.append("Malformed items are left: correct or delete them by hand.")
    plan = report.repair
    changes = sum(plan.get(n, 0) for n in ("write", "replace_foreign", "delete_extra"))
    if not plan["done"] and changes:
        counted = f"{changes:,} change{'s' * (changes != 1)}"
        advice = f"Nothing was written. --yes makes {counted}:"
        return NextStep(" ".join([*why, advice]), make_command(*words, "--yes"))
    begin = "The repair left differences." if plan["done"] else "Nothing was written."
    if extra or foreign:
        words += ["--delete-extra"] if extra else []
        words += ["--replace-foreign"] if foreign else []
        said = " ".join([begin, *why, "To plan that:"])
        return NextStep(said, make_command(*words))
    said = " ".join([begin, *why, "Compare again:"])
    return NextStep(said, make_command("reconcile"))


def _flags(given: dict[str, object]) -> Iterator[str]:
    for name, value in given.items():
        if value is None:
            continue
        for one in value if isinstance(value, tuple) else (value,):
            yield f"--{name.replace('_', '-')}"
            if one is not True:
                yield str(one).removesuffix(".0")
