"""The questions of ``init``: they are asked on a terminal until the answers work.

A setting that the environment or the command line has is not asked for.
"""

import sys
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from getpass import getuser
from typing import TYPE_CHECKING, Any

import typer

from flows.cli.output import say
from flows.errors import MigrationError, Refused, SettingsError

if TYPE_CHECKING:
    from flows.models import SourceTable
    from flows.settings import Settings

# One of these names a source; then no question about the database is asked.
NAMES_A_SOURCE = ("database_url", "pgservice", "pghost", "pgdatabase")
PARTS = ("pghost", "pgport", "pgdatabase", "pguser")
DATABASE = ("database_url", *PARTS, "pgpassword")
COLUMNS = tuple(
    f"source_{role}_column" for role in ("id", "name", "created", "updated")
)
SOURCE = ("source_table", *COLUMNS, "source_timezone")
TARGET = ("dynamodb_endpoint", "aws_region", "dynamodb_enterprise_table")
QUESTIONS = {
    "database_url": "Database URL, or Enter to give its parts",
    "pghost": "Host",
    "pgport": "Port",
    "pgdatabase": "Database",
    "pguser": "User",
    "pgpassword": "Password (hidden, Enter for none)",
    "source_table": "Source table",
    "source_timezone": "Time zone of the times without one, e.g. Europe/Paris",
    "dynamodb_endpoint": "DynamoDB endpoint, or Enter for AWS",
    "aws_region": "AWS region",
    "dynamodb_enterprise_table": "DynamoDB table",
}
MEANINGS = {
    "id": "the id",
    "name": "the name",
    "created": "the creation time",
    "updated": "the time of the last change",
}


@dataclass
class Answers:
    """The settings as they are given and then answered."""

    given: Mapping[str, str]
    asking: bool
    typed: dict[str, str] = field(default_factory=dict)
    # Offered again when a question is asked once more; never a secret.
    former: dict[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> "Settings":
        """Return the settings with the answers so far.

        Raises:
            SettingsError: a setting is invalid.
        """
        return _load(**self.given, **self.typed)

    @cached_property
    def known(self) -> "Settings":
        """Return the settings that the environment and the command line have."""
        return _load(**self.given)

    def has(self, name: str) -> bool:
        """Return whether a setting needs no question."""
        known = self.known
        given = name in known.model_fields_set and getattr(known, name) is not None
        return given or name in self.typed

    def ask(self, name: str, default: str = "", question: str = "") -> None:
        """Ask for a setting, unless it is known or nobody can be asked."""
        if not self.asking or self.has(name):
            return
        secret = name == "pgpassword"
        default = self.former.get(name, default)
        text = typer.prompt(
            question or QUESTIONS[name],
            default=default,
            show_default=bool(default),
            hide_input=secret,
            err=True,
        )
        text = text if secret else text.strip()
        if text:
            self.typed[name] = text

    def forget(self, names: Collection[str], fault: str = "") -> bool:
        """Forget what was typed for these; return whether anything was.

        What the message of a *fault* names is not offered again.
        """
        forgotten = {name: self.typed.pop(name) for name in names if name in self.typed}
        self.former |= {
            name: text
            for name, text in forgotten.items()
            if name in {*PARTS, *SOURCE} and text not in fault
        }
        return bool(forgotten)

    def retry(self, error: MigrationError, names: Collection[str]) -> None:
        """Show an error and forget the answers at fault, or raise it if there are none.

        Raises:
            MigrationError: nothing was typed, so that asking again would not help.
        """
        if not self.forget(names, error.message):
            raise error
        say(f"\n{error}\n")


def connect(answers: Answers, opened: ExitStack) -> Any:
    """Ask for the database until the connection works; return it.

    Raises:
        Refused: it does not work, and nobody can be asked.
        SourceLost: the connection was lost.
    """
    from flows.stores.postgres.session import open_source

    while True:
        try:
            ask_for_database(answers)
            return opened.enter_context(open_source(answers.settings))
        except Refused as error:
            if not ask_for_missing_password(answers, error):
                answers.retry(error, DATABASE)


def ask_for_missing_password(answers: Answers, error: MigrationError) -> bool:
    """Ask for the password of a database that was not asked for, if it has none.

    Return whether there is one now.
    """
    was_named = answers.asking and not answers.typed.keys() - {"pgpassword"}
    if not (was_named and "password" in error.message):
        return False
    if "password" in answers.known.source_arguments():
        return False
    say(f"\n{error}\n")
    answers.forget(["pgpassword"])
    answers.ask("pgpassword")
    return answers.has("pgpassword")


def ask_for_database(answers: Answers) -> None:
    """Ask for the URL of the database, or for its parts, and for the password."""
    if any(map(answers.has, NAMES_A_SOURCE)):
        return
    if not answers.asking:
        message = "The database is not known, and there is no terminal to ask on."
        remedy = (
            "Give --database-url-file FILE (- is standard input), or set PGHOST and"
        )
        raise SettingsError(message, f"{remedy} PGDATABASE or DATABASE_URL.")
    answers.ask("database_url")
    if not answers.has("database_url"):
        defaults = ("localhost", "5432", "", getuser())
        for name, default in zip(PARTS, defaults, strict=True):
            answers.ask(name, default)
    if answers.typed and "password" not in answers.settings.source_arguments():
        answers.ask("pgpassword")


def describe(answers: Answers, connection: Any) -> "tuple[SourceTable, dict[str, str]]":
    """Ask for table, columns and time zone until they can be used.

    Return the source, and the types of all columns.

    Raises:
        Refused: they cannot be used, and nobody can be asked.
        SourceLost: the connection was lost.
    """
    from flows.stores.postgres.schema import describe_source, find_columns
    from flows.stores.postgres.session import translating_errors

    while True:
        answers.ask("source_table", "public.enterprises")
        connection.rollback()
        try:
            columns = find_columns(connection, answers.settings)
            ask_for_columns(answers, columns)
            with translating_errors():
                # The doctor reports row-level security.
                source = describe_source(connection, answers.settings, whole=False)
        except Refused as error:
            answers.retry(error, SOURCE)
        else:
            return source, columns


def ask_for_columns(answers: Answers, columns: Mapping[str, str]) -> None:
    """Ask for the columns whose roles are unclear, and for the time zone."""
    from flows.stores.postgres.columns import ZONELESS_TYPES
    from flows.stores.postgres.schema import CANDIDATES

    zoneless = False
    for role, candidates in CANDIDATES.items():
        name = f"source_{role}_column"
        fitting = [column for column in candidates if column in columns]
        if len(fitting) != 1:
            those = ", ".join(fitting or columns)
            answers.ask(name, question=f"Column with {MEANINGS[role]} ({those})")
        column = getattr(answers.settings, name) or next(iter(fitting), "")
        in_time = role in {"created", "updated"}
        zoneless |= in_time and columns.get(column) in ZONELESS_TYPES
    if zoneless:
        answers.ask("source_timezone")


def ask_for_target(answers: Answers) -> None:
    """Ask for the table until its settings can be used; send nothing to it.

    Raises:
        Refused: they cannot be used, and nobody can be asked.
    """
    from flows.stores.dynamodb.session import checking_settings, make_session
    from flows.stores.dynamodb.table import open_table

    while True:
        try:
            answers.ask("dynamodb_endpoint")
            with checking_settings():
                region = make_session(answers.settings).region_name or ""
            local = (answers.settings.dynamodb_endpoint or "").startswith("http://")
            answers.ask("aws_region", region or ("us-east-1" if local else ""))
            answers.ask("dynamodb_enterprise_table", "EnterpriseConfig")
            open_table(answers.settings)
        except Refused as error:
            answers.retry(error, TARGET)
        else:
            return


def can_ask() -> bool:
    """Return whether somebody can be asked: input and messages are on a terminal."""
    streams: Iterable[Any] = (sys.stdin, sys.stderr)
    return all(stream is not None and stream.isatty() for stream in streams)


def _load(**values: str) -> "Settings":
    from flows.settings.checks import checked
    from flows.settings.settings import Settings

    return checked(Settings, {"_env_file": None, **values})
