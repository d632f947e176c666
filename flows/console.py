"""What the command says, on which stream, and with which code it ends."""

import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.errors import Incomplete, MigrationError, Terminated
from flows.options import override

if TYPE_CHECKING:
    from flows.models import Report

EXIT_CODES = {"proven": 0, "clean": 0, "unproven": 3, "different": 3, "incomplete": 4}
EXIT_CODES["planned"] = 0
# A sample is never a proof, whatever it found.
EXIT_CODES["sampled"] = 3
INTERRUPTED = 130
# A run stops within five seconds; its state is durable, so it may also be cut off.
STOP_SECONDS = 4.0
GO_ON = "Go on with: enterprises migrate --resume last"
STOPPED_BY_HAND = f"enterprises: interrupted. {GO_ON}"
TOLD_TO_STOP = Incomplete("The run was told to stop (SIGTERM).", GO_ON)


@contextmanager
def reported(
    overrides: Iterable[str] | None = None,
    *,
    as_json: bool,
    allow_insecure: bool = False,
) -> Iterator[None]:
    """Run a command under its overrides, its errors as messages and exit codes.

    No traceback reaches the user.
    """
    set_up_logging()
    try:
        with stopped_by_signals(as_json=as_json):
            override(overrides, allow_insecure=allow_insecure)
            yield
    except MigrationError as error:
        show_error(error, as_json=as_json)
        raise typer.Exit(error.exit_code) from None
    except Terminated:
        show_error(TOLD_TO_STOP, as_json=as_json)
        raise typer.Exit(TOLD_TO_STOP.exit_code) from None
    except (KeyboardInterrupt, typer.Abort):
        say(STOPPED_BY_HAND)
        raise typer.Exit(INTERRUPTED) from None
    except typer.Exit:
        raise
    except Exception as error:  # noqa: BLE001
        place = keep_traceback()
        say(f"enterprises: a fault of the program ({type(error).__name__}).")
        say(f"Please report it with {place}.")
        raise typer.Exit(1) from None


@contextmanager
def stopped_by_signals(*, as_json: bool) -> Iterator[None]:
    """Stop in good order at SIGINT and SIGTERM, and in any case within five seconds."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: FrameType | None) -> None:
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    # No handler runs while libpq waits for PostgreSQL; this is told all the same.
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    former = signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    threading.Thread(target=cut_off, args=[told, as_json], daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(former)
        os.close(tell)


def cut_off(told: int, as_json: bool) -> None:  # noqa: FBT001 - a thread's argument
    """End the process some seconds after a signal, if it has not ended by then."""
    number = None
    while number not in {signal.SIGINT, signal.SIGTERM}:
        byte = os.read(told, 1)
        if not byte:
            os.close(told)
            return
        number = byte[0]
    time.sleep(STOP_SECONDS)
    if number == signal.SIGINT:
        say(STOPPED_BY_HAND)
        os._exit(INTERRUPTED)
    show_error(TOLD_TO_STOP, as_json=as_json)
    sys.stdout.flush()
    os._exit(TOLD_TO_STOP.exit_code)


def show_error(error: MigrationError, *, as_json: bool) -> None:
    """Say what is wrong and what to do about it, for programs too if *as_json*."""
    if as_json:
        refused = error.exit_code != Incomplete.exit_code
        facts = {"code": error.code, "message": error.message, "remedy": error.remedy}
        status = "refused" if refused else "incomplete"
        print_json({"status": status, "error": facts})
    say(f"enterprises: {error}")


def keep_traceback() -> str:
    """Write the traceback to a private file, without the error's own text.

    The text may hold values of rows. Return what to report.
    """
    _, error, trace = sys.exc_info()
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="enterprises-fault-", suffix=".log", delete=False
        ) as file:
            file.write(f"{type(error).__name__}\n")
            file.writelines(traceback.format_tb(trace))
    except OSError:
        return "what led to it; there is no room for its traceback"
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
    """Print a report: one table, its files, and its verdict where the eye ends."""
    console = Console()
    table = Table(show_header=False, box=SIMPLE)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for title, row in report.tables():
        # As text: a key of the table may look like rich's own markup.
        text = ", ".join(f"{k} {_shown(v)}" for k, v in row.items())
        table.add_row(title, Text(text))
    values = report.asdict()
    console.print(table)
    files = [path for path in values.get("files", {}).values() if path]
    if files:
        # Not by rich, which breaks lines: a path is there to be copied.
        lines = ["Files:", *(f"  {_from_here(path)}" for path in files)]
        say("\n".join(lines), stream=sys.stdout)
    if values.get("new_classes"):
        new = ", ".join(values["new_classes"])
        console.print(f"New classes of differences: {new}.")
    verdict = getattr(report, "verdict", values["status"].capitalize() + ".")
    console.print(verdict, style="bold", markup=False, highlight=False)


def _from_here(path: str) -> str:
    """Name a file from the current directory, if that is shorter and still there."""
    try:
        return min(path, os.path.relpath(path), key=len)
    except OSError:
        return path


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:,}"


def show_kept(environment: Mapping[str, str], *pids: int) -> None:
    """Tell how to use the stores that were left running, and how to stop them."""
    say("Both stores go on. To use them:")
    for name, value in environment.items():
        say(f"  export {name}='{value}'")
    say(f"To stop them: kill {' '.join(map(str, pids))}")


def with_progress(function: Any, specs: Any) -> Any:
    """Do all partitions, with a progress bar on standard error."""
    from rich.progress import track

    from flows import workers

    console = Console(stderr=True)
    done = workers.each(function, specs)
    return track(done, "Partitions", total=len(specs), console=console)


def print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object on standard output."""
    text = json.dumps(values, ensure_ascii=False, default=str)
    try:
        text.encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair, which no stream can write.
        text = json.dumps(values, default=str)
    sys.stdout.write(text + "\n")


def say(text: str, stream: Any = None) -> None:
    """Print a line for people, on standard error unless told."""
    (stream or sys.stderr).write(text + "\n")
