"""``enterprises mapping``: make a mapping file from the database's catalogue."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.exits import finish, reporting
from flows.cli.help import HelpfulCommand
from flows.cli.options import AsJson, MappingFile, Overrides, Verbose
from flows.cli.output import print_json, put, say
from flows.errors import SettingsError
from flows.run.next_commands import NextStep, make_command

# The file that a next command names, if none was written yet.
USUAL_FILE = "mapping.toml"
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
        from flows.doctor.mapping import suggest_mapping

        if output is not None:
            require_no_file(output)
        suggested = suggest_mapping()
        text = str(suggested)
        if output is not None:
            write_file(output, text)
        following = next_command(output)
        if as_json:
            facts = {
                "status": "suggested" if output is None else "written",
                "mapping": suggested.mapping.model_dump(
                    mode="json", exclude_defaults=True
                ),
                "comments": dict(suggested.comments),
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
