"""What a command prints: one JSON object or text on standard output, and messages."""

import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.errors import Incomplete

if TYPE_CHECKING:
    from flows.models import Report

# Held once an object is printed, so that a forced exit prints no second one.
_printed = threading.Lock()


def begin_output() -> None:
    """Begin a command's output; escape characters that the terminal lacks."""
    if _printed.locked():
        _printed.release()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Print a line for people on standard error, if it is still open."""
    with suppress(OSError):
        _write(sys.stderr, text)


def put(text: str) -> None:
    """Print on standard output; ignore that a reader has closed it.

    Raises:
        Incomplete: standard output cannot be written, e.g. on a full disk.
    """
    with _needing_output():
        _write(sys.stdout, text)


@contextmanager
def _needing_output() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        discard(sys.stdout)
    except OSError as error:
        discard(sys.stdout)
        reason = error.strerror or type(error).__name__
        message = f"Cannot write to standard output: {reason}."
        remedy = "Make room at its destination. The report of a run is in RUNS_DIR."
        raise Incomplete(message, remedy) from None


def print_json(values: Mapping[str, Any], *, next_command: str | None = None) -> None:
    """Print the command's one JSON object, with the command to run next.

    Raises:
        Incomplete: standard output cannot be written.
    """
    print_object({**values, "next": next_command})


def print_object(values: Mapping[str, Any]) -> None:
    """Print one JSON object, unless the command has printed its object already.

    Raises:
        Incomplete: standard output cannot be written.
    """
    if not _printed.acquire(blocking=False):
        return
    text = json.dumps(values, ensure_ascii=False, default=str)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        # Half a surrogate pair, or a character that the terminal lacks.
        text = json.dumps(values, default=str)
    put(text)


def _write(stream: TextIO | None, text: str) -> None:
    """Write a line and flush it; after an error, discard the stream."""
    # None if the process was started without it.
    if stream is None:
        return
    try:
        stream.write(text + "\n")
        stream.flush()
    except OSError:
        discard(stream)
        raise


def discard(stream: TextIO) -> None:
    """Redirect a stream to the null device, so that the flush at exit succeeds."""
    with suppress(OSError), open(os.devnull, "w") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), stream.fileno())


def show(report: "Report") -> None:
    """Print a report: one table, its files, and last its verdict."""
    table = Table(show_header=False, box=SIMPLE)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for title, row in report.tables():
        # As Text, since a key of the table may look like rich's markup.
        text = ", ".join(f"{k} {_shown(v)}" for k, v in row.items())
        table.add_row(title, Text(text))
    values = report.asdict()
    lines = [_rendered(table)]
    files = [path for path in values.get("files", {}).values() if path]
    if files:
        # Not by rich, which breaks lines: users copy these paths.
        lines += ["Files:", *(f"  {_from_here(path)}" for path in files)]
    if values.get("new_classes"):
        new = ", ".join(values["new_classes"])
        lines.append(_rendered(f"New classes of differences: {new}."))
    verdict = getattr(report, "verdict", values["status"].capitalize() + ".")
    lines.append(_rendered(Text(verdict, style="bold")))
    put("\n".join(lines))


def _rendered(what: Any) -> str:
    """Return an object as rich renders it for the current terminal."""
    console = Console()
    captured = console.capture()
    # rich flushes the terminal that it renders for.
    with _needing_output(), captured:
        console.print(what)
    return captured.get().rstrip("\n")


def _from_here(path: str) -> str:
    """Return a path from the current directory, if that is shorter and exists."""
    try:
        return min(path, os.path.relpath(path), key=len)
    except OSError:
        return path


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:,}"


def show_kept(environment: Mapping[str, str], *pids: int) -> None:
    """Show how to use the stores that are still running, and how to stop them."""
    say("Both stores are still running. To use them:")
    for name, value in environment.items():
        say(f"  export {name}='{value}'")
    say(f"To stop them: kill {' '.join(map(str, pids))}")
