"""``enterprises validate``: validate either side against its suite."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.exits import reporting
from flows.cli.options import (
    AllowInsecure,
    AsJson,
    Entities,
    MappingFile,
    Overrides,
    PartitionRows,
    make_options,
)
from flows.cli.output import print_json, put, show_step
from flows.cli.progress import showing_progress
from flows.cli.tables import escape
from flows.run.next_commands import step_after_validating

if TYPE_CHECKING:
    from collections.abc import Mapping

    from validation.report import ValidationReport


def validate(  # noqa: PLR0913
    *,
    source: Annotated[
        bool, typer.Option("--source", help="Validate the current rows of PostgreSQL.")
    ] = False,
    target: Annotated[
        bool, typer.Option("--target", help="Validate the current items of DynamoDB.")
    ] = False,
    sample: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Validate only N rows or items."),
    ] = None,
    entity: Entities = None,
    partition_rows: PartitionRows = 25_000,
    mapping: MappingFile = None,
    allow_insecure_endpoint: AllowInsecure = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Validate rows and the items they would become, or one side."""
    with reporting(
        overrides,
        allow_insecure=allow_insecure_endpoint,
        mapping=mapping,
        as_json=as_json,
    ):
        from flows import pipeline, validate

        options = make_options(
            partition_rows=partition_rows, entity=tuple(entity or ())
        )
        found = {}
        with showing_progress() as progress:
            if source or (sample and not target):
                found["source"] = validate.validate_source(
                    options, sample=sample, progress=progress
                )
            if target:
                found["target"] = validate.validate_target(
                    sample=sample, progress=progress
                )
            if not found:
                both = pipeline.validate(options, progress=progress)
                found = dict(zip(("source", "items"), both, strict=True))
        show_validation(found, as_json=as_json)


def show_validation(found: "Mapping[str, ValidationReport]", *, as_json: bool) -> None:
    """Print the result of each side with its first rows, and exit with 0 or 3."""
    failed = sum(report.failed_rows for report in found.values())
    in_target = found["target"].failed_rows if "target" in found else 0
    step = step_after_validating(failed - in_target, in_target)
    if as_json:
        sides = {side: report.result() for side, report in found.items()}
        status = "invalid" if failed else "valid"
        print_json({"status": status} | sides, next_command=step.command)
    else:
        for side, report in found.items():
            put(report.summary())
            named = "ids" if side == "target" else "source ids"
            for reason, ids in report.result()["examples"].items():
                shown = ", ".join(map(escape, ids))
                put(f"  {reason}: {named} {shown}")
        show_step(step)
    raise typer.Exit(3 if failed else 0)
