"""``enterprises mapping``: make a mapping file from the database's catalogue."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.exits import finish, reporting
from flows.cli.help import HelpfulCommand
from flows.cli.options import AsJson, MappingFile, Overrides, Verbose
from flows.cli.output import print_json, put, say
from flows.errors import SettingsError
from flows.run.next_commands import NextStep, make_command

if TYPE_CHECKING:
    from flows.mapping.model import Mapping
    from flows.settings import Settings

# The file that a next command names, if none was written yet.
USUAL_FILE = "mapping.toml"
HEADER = """\
# Which columns become which attributes of the items, made from PostgreSQL's catalogue.
# A comment marks a line that needs a decision."""

mapping = typer.Typer(
    help="Carry more columns, and the tables that refer to them.",
    rich_markup_mode=None,
)


@mapping.command(cls=HelpfulCommand)
def init(
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="Write the file, never over an existing one. Default: print it.",
        ),
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Write a mapping file from the database catalogue.

    It has SOURCE_TABLE and the tables that refer to it. NOT NULL becomes required,
    enumerated types and CHECK ... IN become one_of, and foreign keys become refers_to.
    """
    with reporting(overrides, as_json=as_json):
        from flows.settings import load_settings

        if output is not None:
            require_no_file(output)
        suggested, comments = suggest(load_settings())
        text = render(suggested, comments)
        if output is not None:
            write_file(output, text)
        following = next_command(output)
        if as_json:
            facts = {
                "status": "suggested" if output is None else "written",
                "mapping": suggested.model_dump(mode="json", exclude_defaults=True),
                "comments": comments,
                "file": None if output is None else str(output.absolute()),
            }
            print_json(facts, next_command=following)
        elif output is None:
            put(text.removesuffix("\n"))
        else:
            say(f"Written: {output.absolute()}")
            put(f"Next: {following}")


@mapping.command(cls=HelpfulCommand)
def check(
    *,
    mapping: MappingFile = None,
    overrides: Overrides = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Show what becomes of each column, and an item."""
    with reporting(overrides, mapping=mapping, as_json=as_json):
        from flows.doctor.mapping import check_mapping

        checked = check_mapping()
        step = NextStep("To estimate a migration:", make_command("plan"))
        finish(checked, step, as_json=as_json, verbose=verbose)


def suggest(settings: "Settings") -> "tuple[Mapping, dict[str, str]]":
    """Suggest a mapping of the source table, with a comment for each decision.

    Raises:
        SettingsError: a setting names a column for two roles, or no table.
        SourceError: the table is missing or cannot be read, or has no usable id.
    """
    from flows.mapping.suggest import suggest_mapping
    from flows.stores.postgres.catalogue import read_catalogue
    from flows.stores.postgres.column_roles import find_roles
    from flows.stores.postgres.schema import find_columns
    from flows.stores.postgres.session import open_source, split_table_name

    with open_source(settings) as connection:
        # It refuses what is not a table, with the remedy.
        find_columns(connection, settings)
        root = split_table_name(settings.source_table)
        tables = read_catalogue(connection, root)
    return suggest_mapping(tables, find_roles(tables, settings))


def render(suggested: "Mapping", comments: dict[str, str]) -> str:
    """Return the text of the mapping file."""
    from flows.mapping.write import write_mapping

    others = {key: text for key, text in comments.items() if key}
    top = [f"# {line}" for line in comments.get("", "").splitlines()]
    return "\n".join([HEADER, *top, "", write_mapping(suggested, others)])


def next_command(output: Path | None) -> str:
    """Return the command that follows ``mapping init``."""
    if output is None:
        return make_command("mapping", "init", "--output", USUAL_FILE)
    return make_command("mapping", "check", "--mapping", str(output.absolute()))


def require_no_file(path: Path) -> None:
    """Refuse to replace a file.

    Raises:
        SettingsError: the file exists.
    """
    if path.exists() or path.is_symlink():
        raise _make_exists_error(path)


def write_file(path: Path, text: str) -> None:
    """Write a new file; remove it again if it cannot be written completely.

    Raises:
        SettingsError: the file exists or cannot be written.
    """
    try:
        file = path.open("x", encoding="utf-8", newline="\n")
    except FileExistsError:
        raise _make_exists_error(path) from None
    except OSError as error:
        raise _make_unwritten_error(path, error) from None
    try:
        with file:
            file.write(text)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _make_unwritten_error(path, error) from None


def _make_exists_error(path: Path) -> SettingsError:
    message = f"The file {path.absolute()} exists already."
    remedy = "Name another file with --output, or compare without it: the command then"
    return SettingsError(message, f"{remedy} prints the mapping.")


def _make_unwritten_error(path: Path, error: OSError) -> SettingsError:
    reason = error.strerror or type(error).__name__
    message = f"The file {path.absolute()} cannot be written: {reason}."
    return SettingsError(message, "Name a file in a folder that this user may write.")
