"""The ``enterprises`` command: it translates, calls, and translates back.

Exit codes: 0 proven, 2 refused before any write, 3 finished but not proven, 4 stopped
and resumable, 130 interrupted; 1 is a fault of the program.
"""

import json
import logging
import os
import sys
import tempfile
import tomllib
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from flows.errors import MigrationError, SettingsError

if TYPE_CHECKING:
    from flows.models import MigrateOptions, Report
    from flows.report import MigrationReport

EXIT_CODES = {"proven": 0, "clean": 0, "unproven": 3, "different": 3, "incomplete": 4}
INTERRUPTED = 130

app = typer.Typer(
    help="Move enterprises from PostgreSQL to DynamoDB, and prove that nothing was"
    " lost. Settings are read from the environment and .env; see .env.example.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object, and nothing else.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Set a setting for this call; wins over environment and .env.",
    ),
]
AllowInsecure = Annotated[
    bool,
    typer.Option(
        "--allow-insecure-endpoint",
        help="Accept an http:// endpoint off loopback, with dummy credentials.",
    ),
]
PartitionRows = Annotated[
    int, typer.Option(min=1, help="Rows of a partition, the unit of work and memory.")
]


@app.command()
def demo(
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave both stores running.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Migrate 5,000 sample rows between stores of its own; touches nothing else."""
    with reported(as_json=as_json):
        from flows.demo import (
            SAMPLE_QUARANTINED,
            embedded_stores,
            use_own_prefect,
        )
        from flows.models import MigrateOptions

        use_own_prefect()
        say("Starting PostgreSQL, DynamoDB and Prefect on this machine …")
        options = MigrateOptions(allow_quarantined=SAMPLE_QUARANTINED)
        with embedded_stores(keep=keep, meanwhile=start_prefect) as stores:
            say("Migrating the sample …")
            report = run_migration(options, use_prefect=True)
            if keep:
                show_kept(stores.environment, stores.postgres.pid, stores.dynamodb.pid)
        finish(report, as_json=as_json)


@app.command()
def migrate(  # noqa: PLR0913
    *,
    run_id: Annotated[
        str | None, typer.Option(help="Name of the run, else made from the time.")
    ] = None,
    partition_rows: PartitionRows = 25_000,
    deadline: Annotated[
        float | None,
        typer.Option(min=1, help="Seconds after which the run stops, resumable."),
    ] = None,
    allow_quarantined: Annotated[
        int, typer.Option(min=0, help="Quarantined rows that a proven run may have.")
    ] = 0,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Accept a source without rows.")
    ] = False,
    use_prefect: Annotated[
        bool | None,
        typer.Option(
            "--prefect/--no-prefect",
            help="Run as a Prefect flow; by default where a Prefect API is set.",
        ),
    ] = None,
    allow_insecure_endpoint: AllowInsecure = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Move the enterprises, and prove that nothing was lost."""
    with reported(as_json=as_json):
        override(overrides, allow_insecure=allow_insecure_endpoint)
        options = make_options(
            run_id=run_id,
            partition_rows=partition_rows,
            deadline=deadline,
            allow_quarantined=allow_quarantined,
            allow_empty=allow_empty,
        )
        if use_prefect is None:
            use_prefect = prefect_is_configured()
        finish(run_migration(options, use_prefect=use_prefect), as_json=as_json)


@app.command()
def validate(
    *,
    partition_rows: PartitionRows = 25_000,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Validate the source's rows, and the items they would become; writes nothing."""
    with reported(as_json=as_json):
        override(overrides)
        from flows import pipeline

        options = make_options(partition_rows=partition_rows)
        rows, items = pipeline.validate(options)
        valid = rows.success and items.success
        if as_json:
            status = "valid" if valid else "invalid"
            sides = {"source": rows.asdict(), "items": items.asdict()}
            print_json({"status": status} | sides)
        else:
            console = Console()
            for report in (rows, items):
                console.print(report.summary(), markup=False, highlight=False)
        raise typer.Exit(0 if valid else 3)


@app.command()
def reconcile(
    *,
    allow_insecure_endpoint: AllowInsecure = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Compare every row with every item, field by field, in both directions."""
    with reported(as_json=as_json):
        override(overrides, allow_insecure=allow_insecure_endpoint)
        from flows import pipeline

        finish(pipeline.reconcile(), as_json=as_json)


@app.command()
def create_table(
    *,
    allow_insecure_endpoint: AllowInsecure = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Create the DynamoDB table, on-demand, and wait until it is active."""
    with reported(as_json=as_json):
        override(overrides, allow_insecure=allow_insecure_endpoint)
        from flows.settings import load_settings
        from flows.stores.dynamodb import open_table
        from flows.stores.tables import create_table as create

        table = open_table(load_settings())
        status = "created" if create(table) else "exists"
        if as_json:
            where = {"region": table.region, "endpoint": table.endpoint}
            print_json({"status": status, "table": table.name} | where)
        else:
            say(f"{status}: {table.where}", stream=sys.stdout)


def main() -> None:
    """Run the command."""
    app()


def run_migration(options: "MigrateOptions", *, use_prefect: bool) -> "MigrationReport":
    """Migrate in this process, or as a Prefect flow."""
    if use_prefect:
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
        from flows.migrate import migrate_enterprises

        return migrate_enterprises(options)
    from flows import pipeline

    each = with_progress if sys.stderr.isatty() else map
    return pipeline.migrate(options, each=each)


def start_prefect() -> None:
    """Import Prefect and have its server answer; slow, so done beside other work."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    from flows.migrate import start_server

    start_server()


def prefect_is_configured() -> bool:
    """Tell whether a Prefect API is set, without the seconds that an import takes."""
    if os.environ.get("PREFECT_API_URL"):
        return True
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    try:
        profiles = tomllib.loads((home / "profiles.toml").read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return False
    active = os.environ.get("PREFECT_PROFILE", profiles.get("active", ""))
    profile = profiles.get("profiles", {}).get(active, {})
    return bool(profile.get("PREFECT_API_URL"))


def make_options(**values: Any) -> "MigrateOptions":
    """Make the run's options.

    Raises:
        SettingsError: a value is not allowed.
    """
    from pydantic import ValidationError

    from flows.models import MigrateOptions

    try:
        return MigrateOptions(**values)
    except ValidationError as error:
        first = error.errors()[0]
    name = str(first["loc"][0]).replace("_", "-")
    message = f"--{name} {first['input']!r} is not valid: {first['msg']}."
    raise SettingsError(message, "See: enterprises migrate --help")


def override(pairs: Iterable[str] | None, *, allow_insecure: bool = False) -> None:
    """Put the settings given on the command line before those of the environment.

    Raises:
        SettingsError: there is no such setting, or it is a secret, which other users
            of the machine could read in the process list.
    """
    from flows.settings import Settings

    for pair in pairs or ():
        name, _, value = pair.partition("=")
        field = Settings.model_fields.get(name.lower())
        if field is None:
            message = f"--set {name}: there is no such setting."
            raise SettingsError(message, "The settings are in .env.example.")
        if "SecretStr" in str(field.annotation):
            message = f"--set {name}: a command line is no place for a secret."
            raise SettingsError(message, f"Set {name} in the environment or in .env.")
        os.environ[name.upper()] = value
    if allow_insecure:
        os.environ["ALLOW_INSECURE_ENDPOINT"] = "true"


@contextmanager
def reported(*, as_json: bool) -> Iterator[None]:
    """Turn errors into messages and exit codes; no traceback reaches the user."""
    set_up_logging()
    try:
        yield
    except MigrationError as error:
        if as_json:
            facts = {
                "code": error.code,
                "message": error.message,
                "remedy": error.remedy,
            }
            print_json({"status": "refused", "error": facts})
        say(f"enterprises: {error}")
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        say("enterprises: interrupted; run again to go on.")
        raise typer.Exit(INTERRUPTED) from None
    except typer.Exit:
        raise
    except Exception as error:  # noqa: BLE001
        place = keep_traceback()
        say(f"enterprises: a fault of the program ({type(error).__name__}).")
        say(f"Please report it with {place}.")
        raise typer.Exit(1) from None


def keep_traceback() -> str:
    """Write the traceback to a private file, without the error's own text.

    The text may hold values of rows.
    """
    with tempfile.NamedTemporaryFile(
        "w", prefix="enterprises-fault-", suffix=".log", delete=False
    ) as file:
        _, error, trace = sys.exc_info()
        file.write(f"{type(error).__name__}\n")
        file.writelines(traceback.format_tb(trace))
    return file.name


def set_up_logging() -> None:
    """Log to standard error: lines of steps where nobody watches a progress bar."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    if not sys.stderr.isatty():
        logging.getLogger("flows").setLevel(logging.INFO)


def finish(report: Any, *, as_json: bool) -> None:
    """Show the report and leave with the exit code of its status."""
    if as_json:
        print_json(report.asdict())
    else:
        show(report)
    raise typer.Exit(EXIT_CODES[report.status])


def show(report: "Report") -> None:
    """Print a report as tables, with its verdict last, where the eye ends."""
    console = Console()
    for title, row in report.tables():
        table = Table(title=title, title_justify="left", title_style="bold")
        for name in row:
            table.add_column(name.replace("_", " "), justify="right")
        table.add_row(*(f"{value:,}" if value else "0" for value in row.values()))
        console.print(table)
    values = report.asdict()
    for name, path in values["files"].items():
        if path:
            console.print(f"{name:>15}  {path}", soft_wrap=True, markup=False)
    verdict = getattr(report, "verdict", values["status"].capitalize() + ".")
    console.print(verdict, style="bold", markup=False, highlight=False)


def show_kept(environment: Mapping[str, str], *pids: int) -> None:
    """Tell how to use the stores that were left running, and how to stop them."""
    say("Both stores go on. To use them:")
    for name, value in environment.items():
        say(f"  export {name}='{value}'")
    say(f"To stop them: kill {' '.join(map(str, pids))}")


def with_progress(function: Any, specs: Any) -> Any:
    """Do each partition, with a progress bar on standard error."""
    from rich.progress import track

    console = Console(stderr=True)
    done = map(function, specs)
    return track(done, "Partitions", total=len(specs), console=console)


def print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object on standard output."""
    sys.stdout.write(json.dumps(values, ensure_ascii=False, default=str) + "\n")


def say(text: str, stream: Any = None) -> None:
    """Print a line for people, on standard error unless told."""
    (stream or sys.stderr).write(text + "\n")


if __name__ == "__main__":
    main()
