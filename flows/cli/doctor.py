"""``enterprises doctor``: run the checks and print the findings."""

import sys
from shutil import get_terminal_size
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.exits import reporting
from flows.cli.iam_policy import Command
from flows.cli.options import AllowInsecure, AsJson, MappingFile, Overrides
from flows.cli.output import print_json, put

if TYPE_CHECKING:
    from flows.doctor.diagnosis import Diagnosis

UNFIT = 2


def doctor(
    *,
    purpose: Annotated[
        Command, typer.Option("--for", help="Command whose permissions are checked.")
    ] = Command.MIGRATE,
    mapping: MappingFile = None,
    allow_insecure_endpoint: AllowInsecure = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Check settings, stores, permissions and runs."""
    with reporting(
        overrides,
        allow_insecure=allow_insecure_endpoint,
        mapping=mapping,
        as_json=as_json,
    ):
        from flows.doctor.checks import examine

        diagnosis = examine(purpose.value)
        if as_json:
            print_json(diagnosis.asdict())
        else:
            show(diagnosis)
        raise typer.Exit(0 if diagnosis.status == "fit" else UNFIT)


def show(diagnosis: "Diagnosis") -> None:
    """Print each check, with its remedy below it; fill the lines of a terminal."""
    width = max(len(one.check) for one in diagnosis.findings)
    for one in diagnosis.findings:
        put(_filled(f"{one.status:<8} {one.check:<{width}}  ", one.found))
        if one.remedy:
            # In one line, since many are commands to copy.
            put(f"{'':<8} -> {one.remedy}")


def _filled(start: str, text: str) -> str:
    """Return a text after its start; on a terminal in lines below each other."""
    if not (sys.stdout and sys.stdout.isatty()):
        # Programs search these lines.
        return start + text
    columns = get_terminal_size().columns - 1
    return fill(
        text,
        max(columns, len(start) + 20),
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )
