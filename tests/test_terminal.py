"""The terminal of the tests shows what a real one would show."""

import pytest

from tests.support.terminal import Screen


@pytest.mark.parametrize(
    ("received", "shown"),
    [
        (["one\r\ntwo"], ["one", "two"]),
        (["12345678"], ["12345", "678"]),
        (["12345\r\n6"], ["12345", "6"]),
        (["one\rT"], ["Tne"]),
        (["one\r\ntwo\x1b[1A\rX"], ["Xne", "two"]),
        (["one\r\ntwo\x1b[2K\r\x1b[1A\x1b[Jend"], ["end", ""]),
        (["a\x1b[", "31mb\x1b[0", "m"], ["ab"]),
        (["\x1b]8;;file:///x\x1b\\x\x1b]8;;\x07y"], ["xy"]),
        (["株式x"], ["株式x"]),
        (["株株株"], ["株株", "株"]),
        (["1\r\n2\r\n3\r\n4\x1b[2J\x1b[Hnew"], ["new", "", ""]),
    ],
)
def test_output_becomes_lines(received: list[str], shown: list[str]) -> None:
    """Movements, erasures, colours, links and wide characters must be obeyed."""
    screen = Screen(columns=5, lines=3)

    for text in received:
        screen.feed(text)

    assert screen.shown == shown


def test_lines_that_scrolled_away_are_kept() -> None:
    """The screen has the last lines, the history all of them."""
    screen = Screen(columns=5, lines=2)

    screen.feed("1\r\n2\r\n3")

    assert screen.shown == ["2", "3"]
    assert screen.history == ["1", "2", "3"]
