"""Tables on the terminal, fitted to its width, and words for times and durations."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text


def render_table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], whole: int = 1
) -> str:
    """Return rows as a table of the terminal's width; long values take several lines.

    Numbers are on the right. The first columns, *whole* of them, are never broken.
    """
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    lines = [list(row) for row in rows]
    for place, heading in enumerate(headings):
        numbers = any(isinstance(line[place], int) for line in lines)
        table.add_column(
            heading,
            justify="right" if numbers else "left",
            no_wrap=numbers or place < whole,
            overflow="fold",
        )
    for line in lines:
        table.add_row(*(_cell(value) for value in line))
    return render(table)


def make_facts(facts: Iterable[tuple[str, str]]) -> Table:
    """Return facts as a table without lines: names on the left, values beside them."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, Text(escape(value)))
    return table


def render(what: RenderableType) -> str:
    """Return an object as text for the present terminal, without a last line break."""
    console = Console()
    with console.capture() as captured:
        console.print(what)
    lines = captured.get().rstrip("\n").split("\n")
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: object) -> Text:
    if value is None:
        return Text("-")
    return Text(f"{value:,}" if isinstance(value, int) else str(value))


def escape(text: str) -> str:
    """Return a text with what is not printable escaped, as in Python.

    A value may hold control sequences of a terminal.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def describe_moment(moment: datetime | None) -> str:
    """Return a time in UTC to the second."""
    if moment is None:
        return "-"
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
