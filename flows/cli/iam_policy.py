"""``enterprises iam-policy``: print the policy of ``stores.dynamodb.iam``."""

import json
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.exits import reporting
from flows.cli.options import AsJson, MappingFile, Overrides
from flows.cli.output import print_object, put, say
from flows.errors import MigrationError, SettingsError

if TYPE_CHECKING:
    from flows.settings import Settings

ACCOUNT = re.compile(r"[0-9]{12}|\*")


class Command(StrEnum):
    """The commands that a policy is for."""

    MIGRATE = "migrate"
    RECONCILE = "reconcile"
    SERVE = "serve"


def iam_policy(  # noqa: PLR0913
    *,
    purpose: Annotated[
        Command,
        typer.Option(
            "--for",
            help="Command to allow; a repair needs the policy of migrate.",
        ),
    ] = Command.MIGRATE,
    with_deletes: Annotated[
        bool,
        typer.Option(
            "--with-deletes",
            help="For migrate: also allow --propagate-deletes, --delete-extra and"
            " --undo-trial.",
        ),
    ] = False,
    account: Annotated[
        str | None,
        typer.Option(help="Account of the table. Default: from AWS STS, or `*`."),
    ] = None,
    mapping: MappingFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Print the minimal IAM policy for a command on the table."""
    with reporting(overrides, mapping=mapping, as_json=as_json):
        if with_deletes and purpose is not Command.MIGRATE:
            message = f"--with-deletes requires --for migrate, not {purpose}."
            raise SettingsError(message, "See: enterprises iam-policy --help")
        if account is not None and not ACCOUNT.fullmatch(account):
            message = f"--account {account!r} is not an AWS account id."
            raise SettingsError(message, "Give its twelve digits, or `*`.")
        from flows.mapping import load_mapping
        from flows.models.sources import ENTERPRISE_KEY
        from flows.settings import load_settings
        from flows.stores.dynamodb.iam import make_policy
        from flows.stores.dynamodb.session import table_arn

        settings = load_settings()
        resource = table_arn(settings, account or find_account(settings))
        moved = load_mapping(settings)
        policy = make_policy(
            purpose.value,
            resource,
            deletes=with_deletes,
            partition_keys=moved.partition_keys if moved else (ENTERPRISE_KEY,),
        )
        if as_json:
            # Without the common keys of other commands, which IAM would refuse.
            print_object(policy)
        else:
            put(json.dumps(policy, indent=2))


def find_account(settings: "Settings") -> str:
    """Return the account of the credentials, or ``*`` if it is unknown."""
    from flows.stores.dynamodb.session import has_account, who_am_i

    if not has_account(settings):
        say("The endpoint has no account; the policy uses *.")
        return "*"
    try:
        caller = who_am_i(settings)
    except MigrationError as error:
        say(f"The account is unknown; the policy uses *: {error.message}")
        return "*"
    say(f"AWS STS reports account {caller.account} for {caller.arn}.")
    return caller.account
