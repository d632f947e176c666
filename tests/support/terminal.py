"""The command on a pseudo-terminal: what its screen shows, and the keys to it."""

import codecs
import os
import re
import select
import subprocess
import sys
import termios
import time
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

CTRL_C, CTRL_D, ENTER = "\x03", "\x04", "\r"
# Imports alone take seconds on a busy machine.
SECONDS = 60.0
# Makes the terminal that of the process, so that Ctrl-C reaches it as a signal.
RUN = """
import os, sys
os.login_tty(int(sys.argv[1]))
os.execv(sys.argv[2], sys.argv[2:])
"""
# One control sequence: CSI, OSC (a title or a link), or a short one.
_SEQUENCE = re.compile(
    r"\x1b(?:\[(?P<numbers>[0-9;?]*)[ -/]*(?P<final>[@-~])"
    r"|\].*?(?:\x07|\x1b\\)|[()][0-9A-Za-z]|[=>78cM])",
    re.DOTALL,
)


class Screen:
    """What a terminal shows after it has received some output.

    Lines that scrolled off its top are kept above those that it shows.
    """

    def __init__(self, columns: int, lines: int) -> None:
        self._columns = columns
        self._lines = lines
        self._rows: list[list[str]] = [[]]
        self._row = self._column = 0
        self._rest = ""

    @property
    def shown(self) -> list[str]:
        """Return the lines that are on the screen, without blanks at their ends."""
        return self.history[self._top :]

    @property
    def history(self) -> list[str]:
        """Return all lines since the start, those on the screen last."""
        return ["".join(row).rstrip() for row in self._rows]

    @property
    def _top(self) -> int:
        return max(0, len(self._rows) - self._lines)

    def feed(self, text: str) -> None:
        """Receive output; a sequence may be completed by the next call."""
        text, place = self._rest + text, 0
        while place < len(text):
            if text[place] == "\x1b":
                found = _SEQUENCE.match(text, place)
                if found is None:
                    break
                self._obey(found)
                place = found.end()
            else:
                self._write(text[place])
                place += 1
        self._rest = text[place:]

    def _write(self, character: str) -> None:
        if character == "\r":
            self._column = 0
        elif character == "\n":
            self._go_to(self._row + 1, self._column)
        elif character == "\b":
            self._column = max(0, self._column - 1)
        elif character == "\t":
            self._column = min(self._columns - 1, (self._column // 8 + 1) * 8)
        elif character.isprintable():
            self._put(character)

    def _put(self, character: str) -> None:
        wide = unicodedata.east_asian_width(character) in {"W", "F"}
        width = 0 if unicodedata.combining(character) else 1 + wide
        if self._column + width > self._columns:
            self._go_to(self._row + 1, 0)
        row = self._rows[self._row]
        row += [" "] * (self._column + width - len(row))
        if width == 0:
            row[max(0, self._column - 1)] += character
        else:
            row[self._column : self._column + width] = [character, ""][:width]
        self._column += width

    def _obey(self, sequence: re.Match[str]) -> None:
        final = sequence["final"]
        if final is None or sequence["numbers"].startswith("?"):
            return
        numbers = [int(number or 0) for number in sequence["numbers"].split(";")]
        count = max(1, numbers[0])
        if final in "ABEF":
            rows = count if final in "BE" else -count
            last = len(self._rows) - 1
            row = max(self._top, min(last, self._row + rows))
            self._go_to(row, 0 if final in "EF" else self._column)
        elif final in "CD":
            column = self._column + (count if final == "C" else -count)
            self._column = max(0, min(self._columns - 1, column))
        elif final == "G":
            self._column = min(self._columns, count) - 1
        elif final in "Hf":
            column = max(1, numbers[1]) if len(numbers) > 1 else 1
            self._go_to(self._top + count - 1, column - 1)
        elif final in "JK":
            self._erase(final, numbers[0])

    def _erase(self, final: str, part: int) -> None:
        row = self._rows[self._row]
        if part == 0:
            del row[self._column :]
        elif part == 1:
            row[: self._column + 1] = [" "] * len(row[: self._column + 1])
        else:
            row.clear()
        if final == "J":
            above = self._rows[self._top : self._row] if part else []
            below = self._rows[self._row + 1 :] if part != 1 else []
            for other in above + below:
                other.clear()

    def _go_to(self, row: int, column: int) -> None:
        while len(self._rows) <= row:
            self._rows.append([])
        self._row, self._column = row, column


class Terminal:
    """``enterprises`` with some arguments on a terminal; killed at the block's end."""

    def __init__(
        self,
        *arguments: str,
        columns: int = 80,
        lines: int = 24,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.screen = Screen(columns, lines)
        # Everything that was received, with its control sequences.
        self.received = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._keyboard, terminal = os.openpty()
        termios.tcsetwinsize(terminal, (lines, columns))
        variables = dict(os.environ if environment is None else environment)
        # Programs believe these rather than the terminal.
        for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
            variables.pop(name, None)
        command = [sys.executable, "-W", "ignore", "-m", "flows.cli", *arguments]
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", RUN, str(terminal), *command],
            env=variables | {"TERM": "xterm-256color"},
            cwd=folder,
            pass_fds=[terminal],
        )
        os.close(terminal)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._keyboard)

    @property
    def pid(self) -> int:
        """Return the id of the process."""
        return self._process.pid

    @property
    def text(self) -> str:
        """Return all lines since the start, those on the screen last."""
        return "\n".join(self.screen.history)

    def send(self, keys: str) -> None:
        """Type some keys; ``ENTER`` ends a line."""
        os.write(self._keyboard, keys.encode())

    def answer(
        self,
        question: str,
        answer: str = "",
        *,
        hidden: bool = False,
        seconds: float = SECONDS,
    ) -> None:
        """Wait until the last line asks a question, and type the answer and Enter.

        A *hidden* answer is typed once the terminal shows no keys.
        """
        end = time.monotonic() + seconds
        while question not in self._last_line():
            self._read_until(end, f"the question {question!r}")
        while hidden and termios.tcgetattr(self._keyboard)[3] & termios.ECHO:
            assert time.monotonic() < end, f"{question!r} shows what is typed"
            time.sleep(0.02)
        self.send(answer + ENTER)
        # The echo of Enter, so that the same line is not taken for the next question.
        asked = len(self.screen.history)
        while len(self.screen.history) == asked and self._read(end):
            pass

    def wait_for(self, text: str, seconds: float = SECONDS) -> str:
        """Wait until the screen or a line above it shows a text; return all lines."""
        end = time.monotonic() + seconds
        while text not in self.text:
            self._read_until(end, repr(text))
        return self.text

    def wait(self, seconds: float = SECONDS) -> int:
        """Read until the command ends; return its exit code."""
        end = time.monotonic() + seconds
        while self._read(end):
            pass
        return self._process.wait(max(0.1, end - time.monotonic()))

    def _last_line(self) -> str:
        return next((line for line in reversed(self.screen.history) if line), "")

    def _read_until(self, end: float, wanted: str) -> None:
        if not self._read(end):
            message = f"The terminal never showed {wanted}. It shows:\n{self.text}"
            raise AssertionError(message)

    def _read(self, end: float) -> bool:
        """Read what is there; return False at the end of the command or of the time."""
        left = end - time.monotonic()
        if left <= 0 or not select.select([self._keyboard], [], [], left)[0]:
            return False
        data = b""
        # Linux reports an error once no process has the terminal open.
        with suppress(OSError):
            data = os.read(self._keyboard, 65_536)
        text = self._decoder.decode(data)
        self.received += text
        self.screen.feed(text)
        return bool(data)
