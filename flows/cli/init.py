"""``enterprises init``: ask for the settings, try them, and write ``.env``."""

import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.doctor import show as show_diagnosis
from flows.cli.exits import reporting
from flows.cli.interview import (
    DATABASE,
    SOURCE,
    TARGET,
    Answers,
    ask_for_target,
    can_ask,
    connect,
    describe,
)
from flows.cli.options import AllowInsecure, AsJson, Overrides
from flows.cli.output import print_json, put, say
from flows.cli.tables import render_table
from flows.errors import SettingsError
from flows.run.next_commands import begin_command, make_command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flows.doctor.diagnosis import Diagnosis
    from flows.models import SourceTable
    from flows.settings import Settings

WRITTEN = (
    *DATABASE,
    "pgsslmode",
    "pgsslrootcert",
    "pgservice",
    *SOURCE,
    *TARGET,
    "aws_profile",
    "allow_insecure_endpoint",
)

DatabaseUrl = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Source database, without a password."),
]
DatabaseUrlFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="File with the source database's URL; `-` is standard input.",
    ),
]


def init(
    *,
    database_url: DatabaseUrl = None,
    database_url_file: DatabaseUrlFile = None,
    allow_insecure_endpoint: AllowInsecure = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Ask for the settings, try them, write .env, and run doctor.

    A question is not asked if the environment or --set NAME=VALUE has its answer; so
    init also runs without a terminal. A password is read from a file, standard input or
    the environment. Credentials of AWS are not asked for and not written: boto3 finds
    them in the environment, a profile or a role.
    """
    with reporting(
        overrides,
        allow_insecure=allow_insecure_endpoint,
        as_json=as_json,
        reads_settings=False,
    ):
        from flows.settings.env_file import require_no_env_file, write_env_file
        from flows.settings.project import project_root

        path = (project_root() / ".env").absolute()
        require_no_env_file(path)
        given = read_given(database_url, database_url_file)
        answers = Answers(given, asking=can_ask())
        print_text: Callable[[str], None] = say if as_json else put
        with ExitStack() as opened:
            connection = connect(answers, opened)
            source, columns = describe(answers, connection)
        print_text(draw_columns(source, columns))
        ask_for_target(answers)
        values = choose_values(answers.settings, overrides or ())
        write_env_file(path, values)
        say(f"Written: {path}\nChecking both stores …")
        # What --set gave is now in the file, and need not be repeated.
        begin_command()
        diagnosis = examine()
        following = next_command(diagnosis)
        if as_json:
            facts = {
                "status": "written",
                "file": str(path),
                "settings": list(values),
                "source": as_json_source(source, columns),
                "doctor": diagnosis.asdict(),
            }
            print_json(facts, next_command=following)
            return
        show_diagnosis(diagnosis)
        put(f"Next: {following}")


def read_given(url: str | None, file: Path | None) -> dict[str, str]:
    """Return the URL of the database that the command line names, if it does.

    Raises:
        SettingsError: the URL has a password, or the file cannot be read.
    """
    if url is not None and file is not None:
        message = "--database-url and --database-url-file are both given."
        raise SettingsError(message, "Give one of them.")
    if url is not None:
        from flows.settings.libpq import parse_postgres_url

        if "password" in parse_postgres_url(url, "--database-url"):
            message = "--database-url has a password, which is not accepted on the"
            message += " command line."
            remedy = "Give the URL in a file: --database-url-file FILE, or - for stdin."
            raise SettingsError(message, remedy)
        return {"database_url": url}
    if file is None:
        return {}
    try:
        text = sys.stdin.read() if file == Path("-") else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"--database-url-file {file} cannot be read: {type(error).__name__}."
        raise SettingsError(message, "Give a text file with one URL.") from None
    return {"database_url": text.strip()}


def choose_values(settings: "Settings", overrides: Iterable[str]) -> dict[str, str]:
    """Return the settings to write, by their names: those of a migration and --set."""
    from pydantic import SecretStr

    set_here = (pair.partition("=")[0].lower() for pair in overrides)
    values = {}
    for name in dict.fromkeys([*WRITTEN, *set_here]):
        value = getattr(settings, name)
        if name not in settings.model_fields_set or value is None:
            continue
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        values[name.upper()] = str(value).lower() if value is True else str(value)
    return values


def draw_columns(source: "SourceTable", columns: "Mapping[str, str]") -> str:
    """Return the columns of the source as a table, with what becomes of each."""
    roles = roles_of(source)
    rows = [
        (column, kind, roles.get(column, "left behind"))
        for column, kind in columns.items()
    ]
    lines = [f"{source.name}:", render_table(("column", "type", "becomes"), rows)]
    if source.referring_tables:
        lines.append(f"Refer to it: {', '.join(source.referring_tables)}")
    return "\n".join(lines)


def as_json_source(
    source: "SourceTable", columns: "Mapping[str, str]"
) -> dict[str, Any]:
    """Return the source as plain values."""
    roles = roles_of(source)
    return {
        "table": source.name,
        "columns": {
            column: {"type": kind, "becomes": roles.get(column)}
            for column, kind in columns.items()
        },
        "columns_not_migrated": list(source.columns_not_migrated),
        "referring_tables": list(source.referring_tables),
    }


def roles_of(source: "SourceTable") -> dict[str, str]:
    """Return the role of each column that is moved."""
    roles = ("id", "name", "created", "updated")
    return {str(getattr(source, f"{role}_column")): role for role in roles}


def examine() -> "Diagnosis":
    """Check both stores under the settings that were just written."""
    from flows.doctor.checks import examine as examine_all

    return examine_all()


def next_command(diagnosis: "Diagnosis") -> str:
    """Return the command that follows ``init``."""
    if any("create-table" in one.remedy for one in diagnosis.findings):
        return make_command("create-table")
    if diagnosis.status == "unfit":
        return make_command("doctor")
    return make_command("migrate", "--dry-run")
