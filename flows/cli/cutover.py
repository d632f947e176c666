"""``enterprises cutover``: declare, show or revoke the cutover in the table."""

import sys
from os import getpid
from secrets import token_hex
from socket import gethostname
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.exits import reporting
from flows.cli.help import HelpfulCommand
from flows.cli.options import AllowInsecure, AsJson, Overrides
from flows.cli.output import print_json, put
from flows.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flows.settings import Settings
    from flows.stores.dynamodb.table import EnterpriseTable

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

cutover = typer.Typer(
    help="Hand the items over to the application.", rich_markup_mode=None
)


@cutover.command(cls=HelpfulCommand)
def declare(
    *,
    yes: Yes = False,
    allow_insecure_endpoint: AllowInsecure = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Declare that the application owns the items; runs stop writing."""
    with reporting(overrides, allow_insecure=allow_insecure_endpoint, as_json=as_json):
        from flows.settings import load_settings
        from flows.stores.dynamodb.cutover_marker import declare_cutover
        from flows.stores.dynamodb.indexes import OWN_TYPES
        from flows.stores.dynamodb.lease import Lease

        settings = load_settings()
        table = target(settings, OWN_TYPES)
        if not yes:
            confirm(f"Declare the cutover of {table.where}?", "declared")
        # The random part keeps two concurrent declarations from sharing a lease.
        owner = f"cutover@{gethostname()}:{getpid()}-{token_hex(3)}"
        lease = Lease(table, owner, settings.lease_seconds)
        marker = declare_cutover(table, lease)
        show_cutover("declared", str(marker["declared_at"]), as_json=as_json)


@cutover.command(cls=HelpfulCommand)
def status(
    *,
    allow_insecure_endpoint: AllowInsecure = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Show whether the cutover is declared, and since when."""
    with reporting(overrides, allow_insecure=allow_insecure_endpoint, as_json=as_json):
        from flows.settings import load_settings
        from flows.stores.dynamodb.lease import CUTOVER

        marker = target(load_settings()).get_own(CUTOVER)
        declared_at = str(marker["declared_at"]) if marker else None
        show_cutover(
            "declared" if marker else "not declared", declared_at, as_json=as_json
        )


@cutover.command(cls=HelpfulCommand)
def revoke(
    *,
    yes: Yes = False,
    allow_insecure_endpoint: AllowInsecure = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Revoke the declaration; runs write again: later updatedAt wins."""
    with reporting(overrides, allow_insecure=allow_insecure_endpoint, as_json=as_json):
        from flows.settings import load_settings
        from flows.stores.dynamodb.cutover_marker import revoke_cutover

        table = target(load_settings())
        if not yes:
            question = (
                "Runs will overwrite items that the application has not changed later."
            )
            confirm(f"{question} Revoke the cutover of {table.where}?", "revoked")
        revoked = revoke_cutover(table)
        show_cutover("revoked" if revoked else "not declared", None, as_json=as_json)


def confirm(question: str, done: str) -> None:
    """Ask on the terminal; raise unless the answer is yes.

    Raises:
        SettingsError: the answer is no, or there is no terminal.
    """
    asked = sys.stdin is not None and sys.stdin.isatty()
    if not (asked and typer.confirm(question, err=True)):
        message = f"The cutover was not {done}."
        raise SettingsError(message, "Answer yes on a terminal, or give --yes.")


def target(
    settings: "Settings", types: "Mapping[str, str] | None" = None
) -> "EnterpriseTable":
    """Open the target table; check that it exists and accepts these attribute types.

    Raises:
        Refused: the table is missing or does not accept the types, or the settings
            cannot be used.
    """
    from flows.stores.dynamodb.indexes import read_indexes, require_fitting
    from flows.stores.dynamodb.schema import require_table
    from flows.stores.dynamodb.table import open_table

    table = open_table(settings)
    description = require_table(table)
    if types is not None:
        require_fitting(table, read_indexes(description), types)
    return table


def show_cutover(state: str, declared_at: str | None, *, as_json: bool) -> None:
    """Print the current state of the cutover."""
    if as_json:
        print_json({"status": state, "declared_at": declared_at})
    else:
        at = f" at {declared_at}" if declared_at else ""
        put(f"The cutover is {state}{at}.")
