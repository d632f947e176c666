"""The ``enterprises`` command: it translates, calls, and translates back.

Exit codes: 0 proven, 2 refused before any write, 3 finished but not proven, 4 stopped
and resumable, 5 another run holds the lease, 130 interrupted; 1 is a fault of the
program.
"""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.cutover import cutover
from flows.cli.doctor import doctor
from flows.cli.exits import Commands, finish, is_watched, reported, with_progress
from flows.cli.iam_policy import iam_policy
from flows.cli.options import (
    AfterCutover,
    AllowInsecure,
    AllowQuarantined,
    AsJson,
    MaxReadUnits,
    Overrides,
    PartitionRows,
    make_options,
    prefect_is_configured,
)
from flows.cli.output import print_json, put, say, show_kept
from flows.cli.plan import plan, plan_run
from flows.cli.quarantine import quarantine
from flows.cli.reconcile import reconcile
from flows.cli.serve import serve
from flows.errors import Incomplete, Unproven
from flows.run.next_commands import command_after_run
from flows.shortage import report_shortage_of_threads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flows.models import MigrateOptions
    from flows.run.report import MigrationReport
    from validation.report import ValidationReport


app = typer.Typer(
    cls=Commands,
    help="Move enterprises from PostgreSQL to DynamoDB, and prove that nothing was"
    " lost. Settings are read from the environment and .env; see .env.example.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def demo(
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave both stores running.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Migrate 5,000 sample rows between stores of its own; touches nothing else."""
    with reported(as_json=as_json, reads_settings=False):
        from flows.demo.stores import (
            SAMPLE_QUARANTINED,
            embedded_stores,
            use_own_prefect,
        )
        from flows.models import MigrateOptions

        use_own_prefect()
        say("Starting PostgreSQL, DynamoDB and Prefect on this machine …")
        options = MigrateOptions(allow_quarantined=SAMPLE_QUARANTINED)
        with embedded_stores(keep=keep, meanwhile=start_prefect) as stores:
            say("Migrating the sample …")
            report = run_migration(options, use_prefect=True)
            if keep:
                show_kept(stores.environment, stores.postgres.pid, stores.dynamodb.pid)
        finish(report, as_json=as_json)


@app.command()
def migrate(  # noqa: PLR0913
    *,
    run_id: Annotated[
        str | None, typer.Option(help="Name of the run, else made from the time.")
    ] = None,
    partition_rows: PartitionRows = 25_000,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes; by default as many as pay off."),
    ] = None,
    runner: Annotated[
        str,
        typer.Option(
            metavar="local|dask", help="Processes here, or workers of a Dask cluster."
        ),
    ] = "local",
    max_write_units: Annotated[
        float | None,
        typer.Option(min=1, help="Write units a second that the run may take."),
    ] = None,
    max_read_units: MaxReadUnits = None,
    deadline: Annotated[
        float | None,
        typer.Option(min=1, help="Seconds after which the run stops, resumable."),
    ] = None,
    allow_quarantined: AllowQuarantined = 0,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Accept a source without rows.")
    ] = False,
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN_ID", help="Go on with a run; `last` is the latest."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Move only rows stamped since then, ISO 8601 with zone; `last`:"
            " since the last proven run.",
        ),
    ] = None,
    after_cutover: AfterCutover = False,
    propagate_deletes: Annotated[
        int,
        typer.Option(min=0, help="Delete at most so many items whose rows are gone."),
    ] = 0,
    accept_schema: Annotated[
        bool,
        typer.Option(
            "--accept-schema",
            help="Go on though a column is not what the last run read.",
        ),
    ] = False,
    data_docs: Annotated[
        bool,
        typer.Option(
            "--data-docs",
            help="Write Great Expectations' pages, which load styles from the network.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check what a run checks, and plan it; write nothing."
        ),
    ] = False,
    use_prefect: Annotated[
        bool | None,
        typer.Option(
            "--prefect/--no-prefect",
            help="Run as a Prefect flow; by default where a Prefect API is set.",
        ),
    ] = None,
    allow_insecure_endpoint: AllowInsecure = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Move the enterprises, and prove that nothing was lost."""
    with reported(overrides, allow_insecure=allow_insecure_endpoint, as_json=as_json):
        options = make_options(
            run_id=run_id,
            partition_rows=partition_rows,
            workers=workers,
            runner=runner,
            max_write_units=max_write_units,
            max_read_units=max_read_units,
            deadline=deadline,
            allow_quarantined=allow_quarantined,
            allow_empty=allow_empty,
            resume=resume,
            since=since,
            after_cutover=after_cutover,
            propagate_deletes=propagate_deletes,
            accept_schema=accept_schema,
            data_docs=data_docs,
        )
        if dry_run:
            finish(plan_run(options), as_json=as_json)
            return
        if use_prefect is None:
            use_prefect = prefect_is_configured()
        report = run_migration(options, use_prefect=use_prefect)
        finish(report, as_json=as_json, next_command=command_after_run(report))


@app.command()
def validate(  # noqa: PLR0913
    *,
    source: Annotated[
        bool, typer.Option("--source", help="The rows of PostgreSQL, as they are now.")
    ] = False,
    target: Annotated[
        bool, typer.Option("--target", help="The items in DynamoDB, as they are now.")
    ] = False,
    sample: Annotated[
        int | None, typer.Option(min=1, help="So many of them; proves nothing more.")
    ] = None,
    partition_rows: PartitionRows = 25_000,
    allow_insecure_endpoint: AllowInsecure = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Validate either side; else the rows, and the items they would become."""
    with reported(overrides, allow_insecure=allow_insecure_endpoint, as_json=as_json):
        from flows import pipeline, validate

        options = make_options(partition_rows=partition_rows)
        found = {}
        if source or (sample and not target):
            found["source"] = validate.validate_source(options, sample=sample)
        if target:
            found["target"] = validate.validate_target(sample=sample)
        if not found:
            found["source"], found["items"] = pipeline.validate(options)
        show_validation(found, as_json=as_json)


app.command()(reconcile)


@app.command()
def create_table(
    *,
    allow_insecure_endpoint: AllowInsecure = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Create the DynamoDB table, on-demand, and wait until it is active."""
    with reported(overrides, allow_insecure=allow_insecure_endpoint, as_json=as_json):
        from flows.settings import load_settings
        from flows.stores.dynamodb.schema import create_table as create
        from flows.stores.dynamodb.table import open_table

        table = open_table(load_settings())
        status = "created" if create(table) else "exists"
        if as_json:
            where = {"region": table.region, "endpoint": table.endpoint}
            print_json({"status": status, "table": table.name} | where)
        else:
            put(f"{status}: {table.where}")


def show_validation(found: "Mapping[str, ValidationReport]", *, as_json: bool) -> None:
    """Print what was found on each side, and leave with 0 or 3."""
    valid = all(report.success for report in found.values())
    if as_json:
        sides = {side: report.result() for side, report in found.items()}
        print_json({"status": "valid" if valid else "invalid"} | sides)
    else:
        for report in found.values():
            put(report.summary())
    raise typer.Exit(0 if valid else 3)


app.add_typer(quarantine, name="quarantine", no_args_is_help=True)


app.command()(serve)

app.command()(iam_policy)

app.command()(plan)

app.command()(doctor)

app.add_typer(cutover, name="cutover", no_args_is_help=True)


def main() -> None:
    """Run the command."""
    report_shortage_of_threads()
    app()


def run_migration(options: "MigrateOptions", *, use_prefect: bool) -> "MigrationReport":
    """Migrate in this process, or as a Prefect flow."""
    if use_prefect:
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
        from flows.prefect_flows import migrate_enterprises, start_server

        start_server()
        try:
            proven: MigrationReport = migrate_enterprises(options)  # type: ignore[assignment]
        except (Incomplete, Unproven) as verdict:
            if verdict.report is None:
                raise
            report: MigrationReport = verdict.report
            return report
        return proven
    from flows import pipeline
    from flows.run import process_workers

    each = with_progress if is_watched() else process_workers.each
    return pipeline.migrate(options, each=each)


def start_prefect() -> None:
    """Import Prefect and have its server answer; slow, so done beside other work."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    from flows.prefect_flows import start_server

    start_server()
