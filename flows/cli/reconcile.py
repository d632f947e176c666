"""``enterprises reconcile``: compare rows with items, and plan or write repairs."""

from typing import Annotated

import typer

from flows.cli.exits import finish, reporting
from flows.cli.options import AllowInsecure, AsJson, MaxReadUnits, Overrides
from flows.errors import SettingsError
from flows.run.next_commands import command_after_reconciling

Sample = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Compare N random rows. Never counts as proof: exits with 3.",
    ),
]
AllowEmpty = Annotated[
    bool, typer.Option("--allow-empty", help="Accept a source without rows.")
]
Repair = Annotated[
    bool, typer.Option("--repair", help="Plan the repair of all differences.")
]
Yes = Annotated[
    bool,
    typer.Option("--yes", help="Write what --repair plans, and compare again."),
]
DeleteExtra = Annotated[
    bool,
    typer.Option(
        "--delete-extra",
        help="Repair: delete unedited items that have no row.",
    ),
]
MaxDeletes = Annotated[int, typer.Option(min=0, help="Repair: delete up to N items.")]
ReplaceForeign = Annotated[
    bool,
    typer.Option(
        "--replace-foreign",
        help="Repair: replace our items whose entity_type was changed.",
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
    allow_insecure_endpoint: AllowInsecure = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Compare every row with every item, field by field, in both directions."""
    with reporting(overrides, allow_insecure=allow_insecure_endpoint, as_json=as_json):
        of_repair = yes or delete_extra or replace_foreign
        if (of_repair and not repair) or (repair and sample):
            message = (
                "These options need --repair, which cannot be combined with --sample."
            )
            raise SettingsError(message, "See: enterprises reconcile --help")
        from flows import pipeline
        from flows.run.repair import RepairOptions

        options = RepairOptions(yes, delete_extra, max_deletes, replace_foreign)
        found = pipeline.reconcile(
            sample=sample,
            repair=options if repair else None,
            max_read_units=max_read_units,
            allow_empty=allow_empty,
        )
        following = command_after_reconciling(found)
        finish(found, as_json=as_json, next_command=following)
