"""``enterprises runs``: the past runs, what is known of one, and its report."""

import webbrowser
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.exits import reporting
from flows.cli.help import HelpfulCommand
from flows.cli.options import AsJson, Overrides
from flows.cli.output import print_json, put, say
from flows.cli.tables import (
    describe_moment,
    make_facts,
    render,
)
from flows.errors import SettingsError
from flows.timing import describe_seconds

if TYPE_CHECKING:
    from flows.settings import Settings
    from flows.state.overview import RunRecord

SHOWN = 50
# Columns of a line.
WIDTH = 80

runs = typer.Typer(
    help="List past runs and reconciliations, and show one of them.",
    rich_markup_mode=None,
)

RunId = Annotated[
    str,
    typer.Argument(metavar="RUN_ID", help="A run; `last` is the latest of the list."),
]


@runs.command("list", cls=HelpfulCommand)
def list_runs(*, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """List the runs and reconciliations of the state, latest first."""
    with reporting(overrides, as_json=as_json):
        found = read_records(load())
        if as_json:
            print_json({"status": "listed", "runs": [one.asdict() for one in found]})
            return
        if not found:
            put("No run is recorded.")
            return
        put("\n".join(map(as_lines, found[:SHOWN])))
        if len(found) > SHOWN:
            say(f"The first {SHOWN} of {len(found):,}; print all of them with --json.")


@runs.command(cls=HelpfulCommand)
def show(
    run_id: RunId = "last", *, overrides: Overrides = None, as_json: AsJson = False
) -> None:
    """Show what is known of a run, its files, and how to resume it."""
    with reporting(overrides, as_json=as_json):
        from flows.run.past_runs import files_in, folder_of, next_of, resume_of

        settings = load()
        found = find_record(settings, run_id)
        files = files_in(folder_of(found, settings))
        resume, following = resume_of(found), next_of(found)
        if as_json:
            facts = found.asdict() | in_detail(found)
            facts |= {"files": files, "resume": resume}
            print_json({"status": "shown", "run": facts}, next_command=following)
            return
        lines = describe(found)
        lines += [("Resume", resume)] if resume else []
        lines += [("Next", following)] if following and following != resume else []
        put(render(make_facts(lines)))
        # Not in the table, which would break lines: users copy these paths.
        put("\n".join(["Files:", *(f"  {path}" for path in files.values())]))


@runs.command("open", cls=HelpfulCommand)
def open_report(
    run_id: RunId = "last", *, overrides: Overrides = None, as_json: AsJson = False
) -> None:
    """Open the report of a run in the browser."""
    with reporting(overrides, as_json=as_json):
        from flows.run.past_runs import folder_of

        settings = load()
        found = find_record(settings, run_id)
        path = (folder_of(found, settings) / "report.html").absolute()
        if not path.exists():
            ended = "is gone" if found.report else "was never written"
            message = f"The report of {found.run_id} {ended}: {path}"
            raise SettingsError(message, "See: enterprises runs list")
        opened = webbrowser.open(path.as_uri())
        if as_json:
            status = "opened" if opened else "not opened"
            print_json({"status": status, "run_id": found.run_id, "file": str(path)})
            return
        if not opened:
            say("There is no browser here. Open this file:")
        put(str(path))


def load() -> "Settings":
    """Load the settings."""
    from flows.settings import load_settings

    return load_settings()


def read_records(settings: "Settings") -> "list[RunRecord]":
    """Return what the state has recorded, latest first; nothing if there is none."""
    from flows.state.overview import Overview

    overview = Overview.open(settings)
    return overview.records() if overview else []


def find_record(settings: "Settings", run_id: str) -> "RunRecord":
    """Return one run, by its id or as the last one.

    Raises:
        SettingsError: the state does not have it.
    """
    for record in read_records(settings):
        if run_id in {"last", record.run_id}:
            return record
    message = f"There is no run {run_id} in the state."
    raise SettingsError(message, "Check STATE_URL, or see: enterprises runs list")


def in_detail(record: "RunRecord") -> dict[str, Any]:
    """Return the other facts of a run, as plain values."""
    progress = record.progress
    return {
        "since": record.since,
        "replayed": record.replayed,
        "partitions": {"finished": progress.finished, "all": progress.partitions},
        "ledger": asdict(record.ledger),
        "identity": dict(record.identity),
        "report": dict(record.report),
    }


def as_lines(record: "RunRecord") -> str:
    """Return a run as two lines of at most 80 columns: its end, then its rows.

    The target is named where it fits; all names are printed with ``--json``.
    """
    ledger = record.ledger
    name = f"{record.run_id:<34}"
    first = f"{name} {status_of(record):<10} {record.mode:<11} "
    rows = f"    {ledger.read:,} rows"
    if not record.is_reconciliation:
        rows += f", {ledger.written:,} written"
    rows += f", {ledger.quarantined:,} quarantined"
    if record.seconds is not None:
        rows += f", {describe_seconds(record.seconds)}"
    if record.table and len(rows) + len(record.table) < WIDTH - 2:
        rows += f", {record.table}"
    return f"{first}{describe_moment(record.begun)}\n{rows}"


def status_of(record: "RunRecord") -> str:
    """Return a run's status; the state alone does not show whether one still runs."""
    return "unfinished" if record.status == "running" else record.status


def describe(record: "RunRecord") -> list[tuple[str, str]]:
    """Return a run as names and sentences, without what is unknown."""
    report, progress = record.report, record.progress
    source, target = report.get("source", {}), report.get("target", {})
    known = record.identity.get("target", [])
    counts = report.get("reconciliation") or {}
    partitions = f"{progress.finished:,} of {progress.partitions:,} finished"
    lines = {
        "Run": record.run_id,
        "Mode": record.mode,
        "Status": status_of(record),
        "Verdict": record.verdict,
        "Begun": describe_moment(record.begun),
        "Ended": describe_moment(record.ended) if record.ended else None,
        "Took": describe_seconds(record.seconds) if record.seconds else None,
        "Since": record.since,
        "Replayed": record.replayed,
        "Source": source.get("table") or _source_of(record),
        "Snapshot": source.get("snapshot"),
        "Target": ", ".join(map(str, target.values() or known)),
        "Partitions": partitions if progress.partitions else None,
        "Ledger": _join(asdict(record.ledger)),
        "Compared": _join(counts),
        "Warnings": " ".join(report.get("warnings", [])),
    }
    return [(name, value) for name, value in lines.items() if value]


def _source_of(record: "RunRecord") -> str | None:
    source = record.identity.get("source")
    return f"{source['schema']}.{source['table']}" if source else None


def _join(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
