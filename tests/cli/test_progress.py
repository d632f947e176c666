"""The lines of a terminal that renew themselves."""

import io
import os
import sys
import time

import pytest

from flows.cli import progress as shown
from flows.cli.output import say
from tests.support.terminal import Screen


class Narrow(io.StringIO):
    """A terminal of some columns."""

    def fileno(self) -> int:
        """Return the number of a file that is open: processes inherit it."""
        return 2

    def isatty(self) -> bool:
        """Return that it is a terminal."""
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Narrow:
    """Return a terminal of 40 columns."""
    size = os.terminal_size((40, 10))
    monkeypatch.setattr("os.get_terminal_size", lambda _: size)
    return Narrow()


def screen_of(terminal: Narrow) -> Screen:
    """Return what the terminal shows."""
    screen = Screen(40, 10)
    screen.feed(terminal.getvalue().replace("\n", "\r\n"))
    return screen


def test_lines_renew_and_leave_nothing(terminal: Narrow) -> None:
    """One or two lines replace each other, and at the end none is left."""
    lines = shown._Lines(terminal)
    lines.show(["Moving: 1 row", "  waits for the write cap"])
    lines.show(["Moving: 2 rows"])

    assert screen_of(terminal).shown == ["Moving: 2 rows", ""]
    lines.show([])
    assert not any(screen_of(terminal).shown)


def test_messages_are_printed_above_the_lines(terminal: Narrow) -> None:
    """A warning must neither be lost nor be mixed with the line that renews itself."""
    lines = shown._Lines(terminal)
    lines.show(["Moving: 1 row", "  waits for the write cap"])
    lines.write("a warning\n")
    lines.show(["Moving: 2 rows"])

    assert [line for line in screen_of(terminal).shown if line] == [
        "a warning",
        "Moving: 2 rows",
    ]


def test_no_line_is_wider_than_the_terminal(terminal: Narrow) -> None:
    """A line that wraps could not be erased."""
    shown._Lines(terminal).show(["x" * 100])

    assert max(map(len, screen_of(terminal).shown)) < 40


def test_the_phase_is_shown_until_the_end(
    terminal: Narrow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the command says meanwhile stays; the line of its progress does not."""
    monkeypatch.setattr(sys, "stderr", terminal)
    end = time.monotonic() + 20
    with shown.showing_progress() as progress:
        progress.begin("planning")
        while "Planning" not in terminal.getvalue() and time.monotonic() < end:
            time.sleep(0.02)
        say("said meanwhile")

    assert "Planning" in terminal.getvalue()
    assert [line for line in screen_of(terminal).shown if line] == ["said meanwhile"]
