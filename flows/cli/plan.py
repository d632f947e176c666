"""``enterprises plan``: estimate a migration and print the plan."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.exits import finish, reporting
from flows.cli.options import AllowInsecure, AsJson, MappingFile, Overrides, Verbose
from flows.cli.progress import showing_progress
from flows.run.next_commands import step_after_plan

if TYPE_CHECKING:
    from flows.models import MigrateOptions
    from flows.planning.report import MigrationPlan
    from flows.timing import Progress


def plan(  # noqa: PLR0913
    *,
    sample: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, max=100_000, help="Rows to transform and measure."
        ),
    ] = 2_000,
    estimate: Annotated[
        bool,
        typer.Option(
            "--estimate", help="Use PostgreSQL's row estimate instead of counting."
        ),
    ] = False,
    price: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=DOLLARS",
            help="Price of the region: million-writes, million-reads, write-hour,"
            " read-hour.",
        ),
    ] = None,
    mapping: MappingFile = None,
    allow_insecure_endpoint: AllowInsecure = False,
    overrides: Overrides = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Estimate units, time and cost of a migration; write nothing."""
    with reporting(
        overrides,
        allow_insecure=allow_insecure_endpoint,
        mapping=mapping,
        as_json=as_json,
    ):
        from flows.planning.plan import plan_migration

        with showing_progress() as progress:
            planned = plan_migration(
                sample=sample,
                estimate=estimate,
                prices=price or (),
                progress=progress,
            )
        finish(planned, step_after_plan(), as_json=as_json, verbose=verbose)


def plan_run(options: "MigrateOptions", progress: "Progress") -> "MigrationPlan":
    """Check a run as its start would, and estimate the whole migration.

    Raises:
        Refused: a check failed.
    """
    from flows.planning.plan import plan_migration
    from flows.run.start import check_run

    progress.begin("checking")
    check_run(options)
    return plan_migration(progress=progress)
