"""``enterprises plan``: estimate a migration and print the plan."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.exits import finish, reporting
from flows.cli.options import AllowInsecure, AsJson, Overrides

if TYPE_CHECKING:
    from flows.models import MigrateOptions
    from flows.planning.report import MigrationPlan


def plan(  # noqa: PLR0913
    *,
    sample: Annotated[
        int, typer.Option(min=1, max=100_000, help="Rows to transform and measure.")
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
    allow_insecure_endpoint: AllowInsecure = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Estimate units, time and cost of a migration; write nothing."""
    with reporting(overrides, allow_insecure=allow_insecure_endpoint, as_json=as_json):
        from flows.planning.plan import plan_migration

        planned = plan_migration(sample=sample, estimate=estimate, prices=price or ())
        finish(planned, as_json=as_json)


def plan_run(options: "MigrateOptions") -> "MigrationPlan":
    """Check a run as its start would, and estimate the whole migration.

    Raises:
        Refused: a check failed.
    """
    from flows.planning.plan import plan_migration
    from flows.run.start import check_run

    check_run(options)
    return plan_migration()
