"""``enterprises reconcile``: compare rows with items, and plan or write repairs."""

from typing import Annotated

import typer

from flows.cli.exits import finish, reporting
from flows.cli.options import (
    REPAIR,
    AllowEmpty,
    AllowInsecure,
    AsJson,
    MappingFile,
    MaxReadUnits,
    Operator,
    Overrides,
    Verbose,
)
from flows.cli.progress import showing_progress
from flows.errors import SettingsError
from flows.run.next_commands import step_after_reconciling

Sample = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Compare N random rows. Never counts as proof: exits with 3.",
    ),
]
Repair = Annotated[
    bool,
    typer.Option(
        "--repair",
        help="Plan the repair of all differences; write nothing.",
        rich_help_panel=REPAIR,
    ),
]
Yes = Annotated[
    bool,
    typer.Option(
        "--yes",
        help="Write what --repair plans, and compare again.",
        rich_help_panel=REPAIR,
    ),
]
DeleteExtra = Annotated[
    bool,
    typer.Option(
        "--delete-extra",
        help="Delete unedited items that have no row.",
        rich_help_panel=REPAIR,
    ),
]
MaxDeletes = Annotated[
    int,
    typer.Option(
        metavar="N", min=0, help="Delete up to N items.", rich_help_panel=REPAIR
    ),
]
ReplaceForeign = Annotated[
    bool,
    typer.Option(
        "--replace-foreign",
        help="Replace our items whose entity_type was changed.",
        rich_help_panel=REPAIR,
    ),
]


def reconcile(  # noqa: PLR0913
    *,
    sample: Sample = None,
    max_read_units: MaxReadUnits = None,
    allow_empty: AllowEmpty = False,
    repair: Repair = False,
    yes: Yes = False,
    delete_extra: DeleteExtra = False,
    max_deletes: MaxDeletes = 100,
    replace_foreign: ReplaceForeign = False,
    mapping: MappingFile = None,
    allow_insecure_endpoint: AllowInsecure = False,
    operator: Operator = None,
    overrides: Overrides = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Compare every row with every item, in both directions."""
    with reporting(
        overrides,
        allow_insecure=allow_insecure_endpoint,
        mapping=mapping,
        as_json=as_json,
    ):
        of_repair = yes or delete_extra or replace_foreign
        if (of_repair and not repair) or (repair and sample):
            message = (
                "These options need --repair, which cannot be combined with --sample."
            )
            raise SettingsError(message, "See: enterprises reconcile --help")
        from flows import pipeline
        from flows.run.repair import RepairOptions

        options = RepairOptions(yes, delete_extra, max_deletes, replace_foreign)
        with showing_progress() as progress:
            found = pipeline.reconcile(
                sample=sample,
                repair=options if repair else None,
                max_read_units=max_read_units,
                allow_empty=allow_empty,
                operator=operator,
                progress=progress,
            )
        step = step_after_reconciling(found, options)
        finish(found, step, as_json=as_json, verbose=verbose)
