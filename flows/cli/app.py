"""The ``enterprises`` command: it parses options, calls a step, and prints the result.

Exit codes: 0 proven, 2 refused before any write, 3 finished but not proven, 4 stopped
and resumable, 5 another run holds the lease, 130 interrupted, 1 internal error.
"""

from importlib.metadata import version
from typing import Annotated

import typer

from flows.cli.create_table import create_table
from flows.cli.cutover import cutover
from flows.cli.demo import demo
from flows.cli.doctor import doctor
from flows.cli.exits import Commands
from flows.cli.help import HelpfulCommand
from flows.cli.iam_policy import iam_policy
from flows.cli.init import init
from flows.cli.mapping import mapping
from flows.cli.migrate import migrate
from flows.cli.output import put
from flows.cli.plan import plan
from flows.cli.quarantine import quarantine
from flows.cli.reconcile import reconcile
from flows.cli.runs import runs
from flows.cli.serve import serve
from flows.cli.status import status
from flows.cli.validate import validate
from flows.shortage import report_shortage_of_threads

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for _command in (
    demo,
    init,
    doctor,
    validate,
    plan,
    create_table,
    migrate,
    reconcile,
    status,
    serve,
    iam_policy,
):
    app.command(cls=HelpfulCommand)(_command)
app.add_typer(mapping, name="mapping", no_args_is_help=True)
app.add_typer(runs, name="runs", no_args_is_help=True)
app.add_typer(quarantine, name="quarantine", no_args_is_help=True)
app.add_typer(cutover, name="cutover", no_args_is_help=True)


def print_version(wanted: bool) -> None:  # noqa: FBT001 - as Typer calls it
    """Print the version, if it is wanted, and exit."""
    if wanted:
        put(f"enterprises {version('enterprise-migration')}")
        raise typer.Exit


@app.callback()
def enterprises(
    *,
    _: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and exit.",
            is_eager=True,
            callback=print_version,
        ),
    ] = False,
) -> None:
    """Move enterprises from PostgreSQL to DynamoDB, and prove that nothing was lost.

    Settings are read from the environment and .env; see .env.example.
    """


def main() -> None:
    """Run the command."""
    report_shortage_of_threads()
    app()
