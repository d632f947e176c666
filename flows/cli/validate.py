"""``enterprises validate``: validate either side against its suite."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.exits import reporting
from flows.cli.options import (
    AllowInsecure,
    AsJson,
    Overrides,
    PartitionRows,
    make_options,
)
from flows.cli.output import print_json, put

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
        int | None, typer.Option(min=1, help="Validate only N rows or items.")
    ] = None,
    partition_rows: PartitionRows = 25_000,
    allow_insecure_endpoint: AllowInsecure = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Validate the rows and the items they would become, or one side as it is."""
    with reporting(overrides, allow_insecure=allow_insecure_endpoint, as_json=as_json):
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


def show_validation(found: "Mapping[str, ValidationReport]", *, as_json: bool) -> None:
    """Print the result of each side, and exit with 0 or 3."""
    valid = all(report.success for report in found.values())
    if as_json:
        sides = {side: report.result() for side, report in found.items()}
        print_json({"status": "valid" if valid else "invalid"} | sides)
    else:
        for report in found.values():
            put(report.summary())
    raise typer.Exit(0 if valid else 3)
