"""Runs of the past: the folder of their files, and the commands that follow them."""

from pathlib import Path

from flows.run.next_commands import make_command
from flows.settings import Settings
from flows.settings.project import rooted
from flows.state.overview import RunRecord
from flows.state.tables import TRIAL


def resume_of(record: RunRecord) -> str | None:
    """Return the command that resumes a run; None if there is nothing to resume."""
    resumable = record.status in {"running", "incomplete", "unproven"}
    if record.is_reconciliation or record.mode == TRIAL or not resumable:
        return None
    if record.replayed is not None:
        return make_command("quarantine", "replay", record.replayed)
    return make_command("migrate", "--resume", record.run_id)


def next_of(record: RunRecord) -> str | None:
    """Return the command that follows a run; None after a proof."""
    if record.mode == TRIAL:
        return make_command("migrate")
    if record.status in {"running", "incomplete"}:
        return resume_of(record)
    if record.status == "sampled":
        return make_command("reconcile")
    if record.status not in {"unproven", "different"}:
        return None
    if record.ledger.quarantined and not record.is_reconciliation:
        return make_command("quarantine", "show", record.run_id)
    return make_command("reconcile", "--repair")


def folder_of(record: RunRecord, settings: Settings) -> Path:
    """Return the folder of a run's files, which may be gone."""
    report = record.report.get("files", {}).get("report")
    return rooted(Path(report)).parent if report else settings.runs_dir / record.run_id


def files_in(folder: Path) -> dict[str, str]:
    """Return the files of a run that are there, by name."""
    found = sorted([*folder.glob("*.*"), *folder.glob("*/index.html")])
    return {str(path.relative_to(folder)): str(path) for path in found}
