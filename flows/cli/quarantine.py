"""``enterprises quarantine``: what was put aside, and moving it once it is mended."""

from typing import Annotated, Any

import typer

from flows.cli.exits import finish, reported
from flows.cli.options import (
    AfterCutover,
    AllowInsecure,
    AllowQuarantined,
    AsJson,
    Overrides,
    make_options,
)
from flows.cli.output import print_json, put, say
from flows.errors import SettingsError
from flows.run.next_commands import command_after_run

SHOWN = 100

quarantine = typer.Typer(
    help="Show quarantined rows, and migrate them once they are fixed.",
    rich_markup_mode=None,
)

RunId = Annotated[
    str, typer.Argument(metavar="[RUN_ID]", help="A run; `last` is the latest.")
]


@quarantine.command("list")
def list_runs(*, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """List the runs that have quarantined rows, with the reasons."""
    with reported(overrides, as_json=as_json):
        from dataclasses import asdict

        runs = state().quarantines()
        if as_json:
            print_json({"status": "listed", "runs": [asdict(run) for run in runs]})
            return
        for run in runs:
            reasons = ", ".join(f"{code} {n:,}" for code, n in run.reasons.items())
            where = f"{run.run_id}  {run.started_at}  {run.status}"
            put(f"{where}  {run.rows:,} rows: {reasons}")
        if not runs:
            put("Nothing is in quarantine.")


@quarantine.command()
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
    with reported(overrides, as_json=as_json):
        found, rows = rows_of(run_id)
        rows = [row for row in rows if source_id in {None, row["source_id"]}]
        if as_json:
            print_json({"status": "shown", "run_id": found, "rows": rows})
            return
        for row in rows[:SHOWN]:
            # A name may hold what a terminal takes for a command.
            said = row.pop("store_reason")
            values = ", ".join(f"{name} {row[name]!a}" for name in list(row)[2:])
            why = f"{row['reasons']} ({said!a})" if said else row["reasons"]
            put(f"{row['source_id']}  {why}: {values}")
        if len(rows) > SHOWN:
            say(f"The first {SHOWN} of {len(rows):,}; all of them with --json.")


@quarantine.command()
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
    as_json: AsJson = False,
) -> None:
    """Read quarantined rows again, and migrate those that are valid now."""
    with reported(overrides, allow_insecure=allow_insecure_endpoint, as_json=as_json):
        from flows import pipeline

        options = make_options(
            replay=run_id,
            allow_quarantined=allow_quarantined,
            after_cutover=after_cutover,
        )
        report = pipeline.migrate(options)
        finish(report, as_json=as_json, next_command=command_after_run(report))


def state() -> Any:
    """Open the state of the settings."""
    from flows.settings import load_settings
    from flows.state.runs import State

    return State.open(load_settings())


def rows_of(run_id: str) -> tuple[str, list[dict[str, Any]]]:
    """Return a run's id, and the rows that it put aside.

    Raises:
        SettingsError: it put none aside, or there is no such run.
    """
    memory = state()
    if run_id == "last":
        runs = memory.quarantines()
        run_id = runs[0].run_id if runs else run_id
    rows: list[dict[str, Any]] = memory.quarantine(run_id).to_dict("records")
    if not rows:
        message = f"quarantine show {run_id}: no rows of it are in quarantine."
        raise SettingsError(message, "See: enterprises quarantine list")
    return run_id, rows
