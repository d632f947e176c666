"""``enterprises quarantine``: show quarantined rows, and replay fixed ones."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.exits import finish, reporting
from flows.cli.help import HelpfulCommand
from flows.cli.options import (
    AfterCutover,
    AllowInsecure,
    AllowQuarantined,
    AsJson,
    Overrides,
    Verbose,
    make_options,
)
from flows.cli.output import print_json, put, say
from flows.cli.progress import showing_progress
from flows.errors import SettingsError
from flows.run.next_commands import step_after_run

if TYPE_CHECKING:
    from flows.state.runs import State


SHOWN = 100

quarantine = typer.Typer(
    help="Show quarantined rows, and migrate them once they are fixed.",
    rich_markup_mode=None,
)

RunId = Annotated[
    str, typer.Argument(metavar="[RUN_ID]", help="A run; `last` is the latest.")
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
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Show the quarantined rows of a run, with reasons and raw values."""
    with reporting(overrides, as_json=as_json):
        found, rows = rows_of(run_id)
        rows = [row for row in rows if source_id in {None, row["source_id"]}]
        if as_json:
            print_json({"status": "shown", "run_id": found, "rows": rows})
            return
        for row in rows[:SHOWN]:
            # Escaped, since a name may hold control sequences of a terminal.
            said = row.pop("store_reason")
            values = ", ".join(f"{name} {row[name]!a}" for name in list(row)[2:])
            why = f"{row['reasons']} ({said!a})" if said else row["reasons"]
            put(f"{row['source_id']}  {why}: {values}")
        if len(rows) > SHOWN:
            say(f"The first {SHOWN} of {len(rows):,}; print all of them with --json.")


@quarantine.command(cls=HelpfulCommand)
def replay(  # noqa: PLR0913
    run_id: Annotated[
        str,
        typer.Argument(
            metavar="[RUN_ID]",
            help="Run whose rows to replay; `last`: all rows in quarantine now.",
        ),
    ] = "last",
    *,
    allow_quarantined: AllowQuarantined = 0,
    after_cutover: AfterCutover = False,
    allow_insecure_endpoint: AllowInsecure = False,
    overrides: Overrides = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Read quarantined rows again, and migrate those that are valid now."""
    with reporting(overrides, allow_insecure=allow_insecure_endpoint, as_json=as_json):
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


def rows_of(run_id: str) -> tuple[str, list[dict[str, Any]]]:
    """Return a run's id and its quarantined rows.

    Raises:
        SettingsError: the run does not exist or has no quarantined rows.
    """
    memory = state()
    if run_id == "last":
        runs = memory.source.quarantines()
        run_id = runs[0].run_id if runs else run_id
    rows: list[Any] = memory.source.quarantine(run_id).to_dict("records")
    if not rows:
        message = f"quarantine show {run_id}: this run has no rows in quarantine."
        raise SettingsError(message, "See: enterprises quarantine list")
    return run_id, rows
