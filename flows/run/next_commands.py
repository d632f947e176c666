"""The commands that follow a run: the command that resumes it, or inspects it.

Each can be pasted into a shell. Options of the run and settings that were given on the
command line are repeated.
"""

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flows.models import MigrateOptions
    from flows.reconciliation.report import ReconciliationReport
    from flows.run.report import MigrationReport

# A resumed run takes these from the run that it resumes.
OF_ONE_RUN = {"run_id", "resume", "since", "replay"}
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
    return shlex.join(["enterprises", *words, *_settings])


def resume_command(run_id: str, options: "MigrateOptions") -> str:
    """Return the command that resumes a run; a replay is replayed again."""
    given = options.model_dump(exclude_defaults=True, exclude=OF_ONE_RUN)
    if options.replay is not None:
        given = {name: given[name] for name in given.keys() & OF_A_REPLAY}
        return make_command("quarantine", "replay", options.replay, *_flags(given))
    return make_command("migrate", "--resume", run_id, *_flags(given))


def record_command(command: str | None) -> None:
    """Record the command that resumes the run that the state now has."""
    _recorded[:] = [command] if command else []


def recorded_command() -> str | None:
    """Return the command that resumes the run of this process; None if none does."""
    return _recorded[0] if _recorded else None


def command_after_run(report: "MigrationReport") -> str | None:
    """Return the command that follows a run of this process."""
    if report.status == "incomplete":
        return recorded_command()
    if report.status == "proven":
        return None
    if report.ledger.quarantined > report.allowed:
        return make_command("quarantine", "show", report.run_id)
    return make_command("reconcile", "--repair")


def command_after_reconciling(report: "ReconciliationReport") -> str | None:
    """Return the command that follows a reconciliation."""
    if report.status == "sampled":
        return make_command("reconcile")
    if report.status == "clean" or report.repair:
        return None
    return make_command("reconcile", "--repair")


def _flags(given: dict[str, object]) -> Iterator[str]:
    for name, value in given.items():
        if value is None:
            continue
        yield f"--{name.replace('_', '-')}"
        if value is not True:
            yield str(value).removesuffix(".0")
