"""``enterprises doctor``: run the checks and print the findings."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.exits import reporting
from flows.cli.iam_policy import Command
from flows.cli.options import AllowInsecure, AsJson, Overrides
from flows.cli.output import print_json, put

if TYPE_CHECKING:
    from flows.doctor.diagnosis import Diagnosis

UNFIT = 2


def doctor(
    *,
    purpose: Annotated[
        Command, typer.Option("--for", help="Command whose permissions are checked.")
    ] = Command.MIGRATE,
    allow_insecure_endpoint: AllowInsecure = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Check settings, stores, permissions and runs."""
    with reporting(overrides, allow_insecure=allow_insecure_endpoint, as_json=as_json):
        from flows.doctor.checks import examine

        diagnosis = examine(purpose.value)
        if as_json:
            print_json(diagnosis.asdict())
        else:
            show(diagnosis)
        raise typer.Exit(0 if diagnosis.status == "fit" else UNFIT)


def show(diagnosis: "Diagnosis") -> None:
    """Print one line per check, with its remedy below it."""
    width = max(len(one.check) for one in diagnosis.findings)
    for one in diagnosis.findings:
        put(f"{one.status:<8} {one.check:<{width}}  {one.found}")
        if one.remedy:
            put(f"{'':<8} {'':<{width}}  -> {one.remedy}")
