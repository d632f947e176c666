"""``enterprises reconcile``: it translates the options, calls, and translates back."""

from flows.console import finish, reported
from flows.errors import SettingsError
from flows.options import (
    AllowInsecure,
    AsJson,
    DeleteExtra,
    MaxDeletes,
    MaxReadUnits,
    Overrides,
    Repair,
    RepairYes,
    ReplaceForeign,
    SampleRows,
)


def reconcile(  # noqa: PLR0913
    *,
    sample: SampleRows = None,
    max_read_units: MaxReadUnits = None,
    repair: Repair = False,
    yes: RepairYes = False,
    delete_extra: DeleteExtra = False,
    max_deletes: MaxDeletes = 100,
    replace_foreign: ReplaceForeign = False,
    allow_insecure_endpoint: AllowInsecure = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Compare every row with every item, field by field, in both directions."""
    with reported(overrides, allow_insecure=allow_insecure_endpoint, as_json=as_json):
        if (yes or delete_extra or replace_foreign) > repair or (repair and sample):
            message = "--sample goes without --repair, all that mends goes with it."
            raise SettingsError(message, "See: enterprises reconcile --help")
        from flows import pipeline
        from flows.repair import RepairOptions

        mend = RepairOptions(yes, delete_extra, max_deletes, replace_foreign)
        found = pipeline.reconcile(
            sample=sample,
            mend=mend if repair else None,
            max_read_units=max_read_units,
        )
        finish(found, as_json=as_json)
