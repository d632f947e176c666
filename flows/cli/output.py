"""What a command prints: one JSON object or text on standard output, and messages."""

import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.tables import escape, render
from flows.errors import Incomplete
from flows.run.next_commands import NextStep

if TYPE_CHECKING:
    from flows.models import Difference, Report

MARK = "\N{CHECK MARK}"
# The first columns of the differences are no values.
VALUES = 3
# Characters of a value that are shown on the narrowest terminal.
SHORTEST = 8
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


def say_done(what: str) -> None:
    """Print on standard error that one of several parts is there."""
    encoding = getattr(sys.stderr, "encoding", None) or "ascii"
    mark = MARK if MARK.encode(encoding, "ignore") else "ok"
    say(f"  {mark} {what}")


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


def show(report: "Report", step: NextStep, *, verbose: bool = False) -> None:
    """Print a report: its verdict, what comes next, what it counted, and its files.

    Zeros, and the tables that the report calls details, are printed if *verbose*.
    """
    values = report.asdict()
    verdict = getattr(report, "verdict", values["status"].capitalize() + ".")
    put(_rendered(Text(verdict, style="bold")))
    show_step(step)
    lines = [_rendered(_counts_of(report, verbose=verbose))]
    if differences := getattr(report, "first_differences", ()):
        lines.append(_rendered(_differences_of(differences)))
    if values.get("new_classes"):
        new = ", ".join(values["new_classes"])
        lines.append(_rendered(f"New classes of differences: {new}."))
    files = [path for path in values.get("files", {}).values() if path]
    if files:
        # Not by rich, which breaks lines: users copy these paths.
        lines += ["Files:", *(f"  {_link(path)}" for path in files)]
    put("\n".join(line for line in lines if line))


def show_step(step: NextStep) -> None:
    """Print what comes next."""
    put(_rendered(Text(f"Next: {step.advice}")))
    if step.command:
        # In one line, since users copy it.
        put(f"  {step.command}")


def _counts_of(report: "Report", *, verbose: bool) -> Table:
    table = Table(show_header=False, box=SIMPLE)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for title, row in report.tables():
        if title in report.details and not verbose:
            continue
        # As Text, since a key of the table may look like rich's markup.
        shown = {k: v for k, v in row.items() if v or verbose}
        text = ", ".join(f"{escape(k)} {_shown(v)}" for k, v in shown.items())
        if text:
            table.add_row(title, Text(text))
    return table


def _differences_of(found: "Sequence[Difference]") -> Table:
    """Return differences field by field, the row's value against the item's.

    Only the values give way to the width of the terminal. An item without a row is
    named by its id.
    """
    rows = []
    for one in found:
        key = [str(one.kind), escape(one.source_id or one.id)]
        for name, sides in one.fields.items() or [("", {})]:
            values = [_described(sides, side) for side in ("source", "target")]
            rows.append([*key, escape(name), *values])
            key = ["", ""]
    headings = ("class", "row or item", "field", "source", "target")
    lines = [headings, *rows]
    keys = sum(max(len(line[place]) for line in lines) for place in range(VALUES))
    # Two blanks stand before each of the five columns, and two after the last.
    room = max(SHORTEST, (Console().width - keys - 12) // 2)
    table = Table(box=SIMPLE, title="The first differences", title_justify="left")
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    for row in rows:
        values = [_shorten(value, room) for value in row[VALUES:]]
        table.add_row(*map(Text, [*row[:VALUES], *values]))
    return table


def _shorten(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _described(sides: "Mapping[str, Any]", side: str) -> str:
    value = sides.get(side)
    return "" if value is None else escape(str(value))


def _link(path: str) -> str:
    """Return a path as a link, if standard output is a terminal that can open it."""
    text = _from_here(path)
    if not (sys.stdout and sys.stdout.isatty()) or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b]8;;{Path(path).absolute().as_uri()}\x1b\\{text}\x1b]8;;\x1b\\"


def _rendered(what: Any) -> str:
    """Return an object as text for the current terminal."""
    # rich flushes the terminal that it renders for.
    with _needing_output():
        return render(what)
    return ""


def _from_here(path: str) -> str:
    """Return a path from the current directory, if that is shorter and exists."""
    try:
        return min(path, os.path.relpath(path), key=len)
    except OSError:
        return path


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:,}"


def show_kept(environment: Mapping[str, str], *pids: int) -> None:
    """Show how to use the stores that are still running, and how to stop them."""
    say("Both stores are still running. To use them:")
    for name, value in environment.items():
        say(f"  export {name}='{value}'")
    say(f"To stop them: kill {' '.join(map(str, pids))}")
