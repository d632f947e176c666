"""``enterprises migrate``: a run, in this process or as a Prefect flow."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.exits import finish, reporting
from flows.cli.options import (
    ACCEPT,
    RATES,
    SCOPE,
    AfterCutover,
    AllowEmpty,
    AllowInsecure,
    AllowQuarantined,
    AsJson,
    Entities,
    MappingFile,
    MaxReadUnits,
    Operator,
    Overrides,
    PartitionRows,
    Verbose,
    make_options,
    prefect_is_configured,
)
from flows.cli.plan import plan_run
from flows.cli.progress import showing_progress
from flows.errors import Incomplete, Unproven
from flows.run.next_commands import NextStep, step_after_dry_run, step_after_run

if TYPE_CHECKING:
    from flows.models import MigrateOptions, Report
    from flows.run.report import MigrationReport
    from flows.timing import Progress
RunId = Annotated[
    str | None,
    typer.Option(help="Name of the run. Default: the time and a random part."),
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Worker processes. Default: chosen from rows and cores.",
        rich_help_panel=RATES,
    ),
]
Runner = Annotated[
    str,
    typer.Option(
        metavar="local|dask",
        help="Processes of this machine, or workers of a Dask cluster.",
        rich_help_panel=RATES,
    ),
]
MaxWriteUnits = Annotated[
    float | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Write units per second that the run may consume.",
        rich_help_panel=RATES,
    ),
]
Deadline = Annotated[
    float | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Stop after N seconds; the run can be resumed.",
        rich_help_panel=RATES,
    ),
]
Resume = Annotated[
    str | None,
    typer.Option(
        metavar="RUN_ID",
        help="Resume a run; `last` is the latest.",
        rich_help_panel=SCOPE,
    ),
]
Since = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Move only rows that were updated since TIME (ISO 8601 with zone), or"
        " since the last proven run (`last`).",
        rich_help_panel=SCOPE,
    ),
]
PropagateDeletes = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=0,
        help="Delete up to N items whose rows are gone.",
        rich_help_panel=SCOPE,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Try N rows, spread over all ids. Never a proof.",
        rich_help_panel=SCOPE,
    ),
]
UndoTrial = Annotated[
    bool,
    typer.Option(
        "--undo-trial",
        help="Remove the items that trials created and nobody changed.",
        rich_help_panel=SCOPE,
    ),
]
AcceptSchema = Annotated[
    bool,
    typer.Option(
        "--accept-schema",
        help="Accept columns that differ from those of the last run.",
        rich_help_panel=ACCEPT,
    ),
]
AcceptMapping = Annotated[
    bool,
    typer.Option(
        "--accept-mapping",
        help="Accept a mapping that differs from that of the table's items.",
        rich_help_panel=ACCEPT,
    ),
]
DataDocs = Annotated[
    bool,
    typer.Option(
        "--data-docs",
        help="Write Great Expectations' Data Docs beside the report.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Run the checks and print the plan; write nothing."),
]
UsePrefect = Annotated[
    bool | None,
    typer.Option(
        "--prefect/--no-prefect",
        help="Run as a Prefect flow. Default: if a Prefect API is configured.",
    ),
]


def migrate(  # noqa: PLR0913
    *,
    run_id: RunId = None,
    partition_rows: PartitionRows = 25_000,
    workers: Workers = None,
    runner: Runner = "local",
    max_write_units: MaxWriteUnits = None,
    max_read_units: MaxReadUnits = None,
    deadline: Deadline = None,
    allow_quarantined: AllowQuarantined = 0,
    allow_empty: AllowEmpty = False,
    resume: Resume = None,
    since: Since = None,
    after_cutover: AfterCutover = False,
    propagate_deletes: PropagateDeletes = 0,
    limit: Limit = None,
    entity: Entities = None,
    undo_trial: UndoTrial = False,
    accept_schema: AcceptSchema = False,
    accept_mapping: AcceptMapping = False,
    data_docs: DataDocs = False,
    dry_run: DryRun = False,
    use_prefect: UsePrefect = None,
    mapping: MappingFile = None,
    allow_insecure_endpoint: AllowInsecure = False,
    operator: Operator = None,
    overrides: Overrides = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Migrate the enterprises, and prove that nothing was lost."""
    with reporting(
        overrides,
        allow_insecure=allow_insecure_endpoint,
        mapping=mapping,
        as_json=as_json,
    ):
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
            limit=limit,
            entity=tuple(entity or ()),
            accept_schema=accept_schema,
            accept_mapping=accept_mapping,
            data_docs=data_docs,
            operator=operator,
        )
        if undo_trial or dry_run:
            report, step = _prepare(options, undo_trial=undo_trial, dry_run=dry_run)
            finish(report, step, as_json=as_json, verbose=verbose)
        if use_prefect is None:
            use_prefect = prefect_is_configured()
        with showing_progress() as progress:
            done = run_migration(options, progress, use_prefect=use_prefect)
        finish(done, step_after_run(done), as_json=as_json, verbose=verbose)


def _prepare(
    options: "MigrateOptions", *, undo_trial: bool, dry_run: bool
) -> "tuple[Report, NextStep]":
    """Remove trials, or only check and plan; return the report and what comes next."""
    with showing_progress() as progress:
        if undo_trial:
            from flows import pipeline

            undone = pipeline.undo_trial(options, dry_run=dry_run, progress=progress)
            return undone, undone.step
        planned = plan_run(options, progress)
        return planned, step_after_dry_run(options, planned)


def run_migration(
    options: "MigrateOptions", progress: "Progress", *, use_prefect: bool
) -> "MigrationReport":
    """Migrate in this process, or as a Prefect flow."""
    if not use_prefect:
        from flows import pipeline

        return pipeline.migrate(options, progress=progress)
    progress.begin("starting Prefect")
    start_prefect()
    from flows.prefect_flows import migrate_enterprises, watched

    watched.set(progress)
    try:
        proven: MigrationReport = migrate_enterprises(options)  # type: ignore[assignment]
    except (Incomplete, Unproven) as verdict:
        if verdict.report is None:
            raise
        report: MigrationReport = verdict.report
        return report
    finally:
        watched.set(None)
    return proven


def start_prefect() -> None:
    """Import Prefect and start its server; slow, so run beside other work."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    from flows.prefect_flows import start_server

    start_server()
