"""``enterprises quarantine``: show quarantined rows, and replay fixed ones."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.exits import finish, reporting
from flows.cli.help import HelpfulCommand
from flows.cli.options import (
    AfterCutover,
    AllowInsecure,
    AllowQuarantined,
    AsJson,
    MappingFile,
    Overrides,
    Verbose,
    make_options,
)
from flows.cli.output import print_json, put, say
from flows.cli.progress import showing_progress
from flows.cli.tables import escape, render_table
from flows.errors import SettingsError
from flows.run.next_commands import step_after_run

if TYPE_CHECKING:
    import pandas as pd

    from flows.state.runs import State

SHOWN = 100
# Characters of a value that are shown; a name may have 400,000.
LONGEST = 200
HEADINGS = ("source id", "reasons", "values")
NO_VALUES = ("source_id", "reasons", "partition", "store_reason")
# What the columns of the built-in mapping are shown as.
ROLES = {
    "enterprise_name": "name",
    "created_date": "created",
    "updated_date": "updated",
}

quarantine = typer.Typer(
    help="Show quarantined rows, and migrate them once they are fixed.",
    rich_markup_mode=None,
)

RunId = Annotated[
    str, typer.Argument(metavar="RUN_ID", help="A run; `last` is the latest.")
]


@quarantine.command("list", cls=HelpfulCommand)
def list_runs(*, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """List the runs that have quarantined rows, with the reasons."""
    with reporting(overrides, as_json=as_json):
        from dataclasses import asdict

        runs = state().source.quarantines()
        if as_json:
            print_json({"status": "listed", "runs": [asdict(run) for run in runs]})
            return
        for run in runs:
            reasons = ", ".join(f"{code} {n:,}" for code, n in run.reasons.items())
            where = f"{run.run_id}  {run.started_at}  {run.status}"
            put(f"{where}  {run.rows:,} rows: {reasons}")
        if not runs:
            put("Nothing is in quarantine.")


@quarantine.command(cls=HelpfulCommand)
def show(
    run_id: RunId = "last",
    *,
    source_id: Annotated[
        str | None, typer.Option("--id", help="Show only the row with this source id.")
    ] = None,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print all rows as in quarantine.csv.")
    ] = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Show the quarantined rows of a run, with reasons and raw values."""
    with reporting(overrides, as_json=as_json):
        if as_csv and as_json:
            message = "--csv and --json are two forms of the same rows."
            raise SettingsError(message, "Give one of them.")
        found, frame = rows_of(run_id)
        if source_id is not None:
            frame = frame[frame["source_id"] == source_id]
            if frame.empty:
                message = f"{source_id} is not in the quarantine of run {found}."
                raise SettingsError(
                    message, f"See: enterprises quarantine show {found}"
                )
        if as_csv:
            from flows.reports.files import render_csv

            put(render_csv(frame).removesuffix("\n"))
            return
        rows: list[Any] = frame.to_dict("records")
        if as_json:
            print_json({"status": "shown", "run_id": found, "rows": rows})
            return
        put(render_table(HEADINGS, map(as_row, rows[:SHOWN]), whole=2))
        if len(rows) > SHOWN:
            say(f"The first {SHOWN} of {len(rows):,}; print all of them with --csv.")


@quarantine.command(cls=HelpfulCommand)
def replay(  # noqa: PLR0913
    run_id: Annotated[
        str,
        typer.Argument(
            metavar="RUN_ID",
            help="Run whose rows to replay; `last`: all rows in quarantine now.",
        ),
    ] = "last",
    *,
    allow_quarantined: AllowQuarantined = 0,
    after_cutover: AfterCutover = False,
    mapping: MappingFile = None,
    allow_insecure_endpoint: AllowInsecure = False,
    overrides: Overrides = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Read quarantined rows again, and migrate those that are valid now."""
    with reporting(
        overrides,
        allow_insecure=allow_insecure_endpoint,
        mapping=mapping,
        as_json=as_json,
    ):
        from flows import pipeline

        options = make_options(
            replay=run_id,
            allow_quarantined=allow_quarantined,
            after_cutover=after_cutover,
        )
        with showing_progress() as progress:
            report = pipeline.migrate(options, progress=progress)
        finish(report, step_after_run(report), as_json=as_json, verbose=verbose)


def state() -> "State":
    """Open the state database of the settings."""
    from flows.settings import load_settings
    from flows.state.runs import State

    return State.open(load_settings())


def rows_of(run_id: str) -> "tuple[str, pd.DataFrame]":
    """Return a run's id and its quarantined rows.

    Raises:
        SettingsError: the run does not exist or has no quarantined rows.
    """
    memory = state()
    if run_id == "last":
        runs = memory.source.quarantines()
        run_id = runs[0].run_id if runs else run_id
    rows = memory.source.quarantine(run_id)
    if rows.empty:
        message = f"quarantine show {run_id}: this run has no rows in quarantine."
        raise SettingsError(message, "See: enterprises quarantine list")
    return run_id, rows


def as_row(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return a quarantined row as a row of ``HEADINGS``."""
    values = {ROLES.get(name, name): row[name] for name in row if name not in NO_VALUES}
    if values.get("name") is not None:
        # In quotes, which show blanks at its ends.
        values["name"] = repr(values["name"])
    # A row has no value in the columns of other entities, nor in most others if NULL.
    others = {k: v for k, v in values.items() if v is not None or k in ROLES.values()}
    lines = [f"{role} {shorten(value)}" for role, value in others.items()]
    if row["store_reason"]:
        lines.append(f"DynamoDB: {escape(row['store_reason'])}")
    reasons = row["reasons"].replace(";", "\n")
    return escape(row["source_id"]), reasons, "\n".join(lines)


def shorten(value: str | None) -> str:
    """Return the beginning of a value that fills a screen, and NULL for None."""
    text = "NULL" if value is None else escape(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
