"""``enterprises cutover``: who owns the items, as the table says it."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli_output import print_json, put
from flows.console import reported
from flows.errors import SettingsError
from flows.options import AllowInsecure, AsJson, Overrides

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flows.stores.dynamodb import EnterpriseTable

cutover = typer.Typer(
    help="Hand the items over to the application.", rich_markup_mode=None
)


@cutover.command()
def declare(
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    allow_insecure_endpoint: AllowInsecure = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Declare that the application owns the items: no run writes from then on."""
    with reported(overrides, allow_insecure=allow_insecure_endpoint, as_json=as_json):
        from flows.stores.indexes import OWN_TYPES
        from flows.stores.lease import Lease, declare_cutover

        table = target(OWN_TYPES)
        question = f"Declare the cutover of {table.where}?"
        if not yes and not (sys.stdin.isatty() and typer.confirm(question)):
            message = "The cutover was not declared."
            raise SettingsError(message, "Answer yes, or give --yes.")
        marker = declare_cutover(table, Lease(table, "cutover", 30))
        show_cutover("declared", str(marker["declared_at"]), as_json=as_json)


@cutover.command()
def status(
    *,
    allow_insecure_endpoint: AllowInsecure = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Say whether the cutover is declared, and when it was."""
    with reported(overrides, allow_insecure=allow_insecure_endpoint, as_json=as_json):
        from flows.stores.lease import CUTOVER

        marker = target().get_own(CUTOVER)
        declared_at = str(marker["declared_at"]) if marker else None
        show_cutover(
            "declared" if marker else "not declared", declared_at, as_json=as_json
        )


@cutover.command()
def revoke(
    *,
    allow_insecure_endpoint: AllowInsecure = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Take the declaration back: runs write again, by the later updatedAt."""
    with reported(overrides, allow_insecure=allow_insecure_endpoint, as_json=as_json):
        from flows.stores.lease import revoke_cutover

        revoked = revoke_cutover(target())
        show_cutover("revoked" if revoked else "not declared", None, as_json=as_json)


def target(types: "Mapping[str, str] | None" = None) -> "EnterpriseTable":
    """Open the target table, which must be there and take attributes of these types.

    Raises:
        Refused: it is not, or the settings do not lead to it.
    """
    from flows.settings import load_settings
    from flows.stores.dynamodb import open_table
    from flows.stores.indexes import read_indexes, require_fitting
    from flows.stores.tables import require_table

    table = open_table(load_settings())
    description = require_table(table)
    if types is not None:
        require_fitting(table, read_indexes(description), types)
    return table


def show_cutover(state: str, declared_at: str | None, *, as_json: bool) -> None:
    """Print what is true of the cutover now."""
    if as_json:
        print_json({"status": state, "declared_at": declared_at})
    else:
        at = f" at {declared_at}" if declared_at else ""
        put(f"The cutover is {state}{at}.")
