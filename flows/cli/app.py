"""The ``enterprises`` command: it parses options, calls a step, and prints the result.

Exit codes: 0 proven, 2 refused before any write, 3 finished but not proven, 4 stopped
and resumable, 5 another run holds the lease, 130 interrupted, 1 internal error.
"""

import typer

from flows.cli.create_table import create_table
from flows.cli.cutover import cutover
from flows.cli.demo import demo
from flows.cli.doctor import doctor
from flows.cli.exits import Commands
from flows.cli.iam_policy import iam_policy
from flows.cli.migrate import migrate
from flows.cli.plan import plan
from flows.cli.quarantine import quarantine
from flows.cli.reconcile import reconcile
from flows.cli.serve import serve
from flows.cli.validate import validate
from flows.shortage import report_shortage_of_threads

app = typer.Typer(
    cls=Commands,
    help="Move enterprises from PostgreSQL to DynamoDB, and prove that nothing was"
    " lost. Settings are read from the environment and .env; see .env.example.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.command()(demo)
app.command()(migrate)
app.command()(validate)
app.command()(reconcile)
app.command()(create_table)
app.add_typer(quarantine, name="quarantine", no_args_is_help=True)
app.command()(serve)
app.command()(iam_policy)
app.command()(plan)
app.command()(doctor)
app.add_typer(cutover, name="cutover", no_args_is_help=True)


def main() -> None:
    """Run the command."""
    report_shortage_of_threads()
    app()
