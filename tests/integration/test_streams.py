"""Output of commands whose streams are closed, full or not in UTF-8."""

import json
import os
import subprocess
import sys

import pytest
from conftest import execute

pytestmark = [
    pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True),
    pytest.mark.usefixtures("table"),
]

PROGRAM = "from flows.cli.app import main; main()"


def shell(script: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash with the command as `"$@"`; exit with the command's code."""
    line = f'{script}; exit "${{PIPESTATUS[0]}}"'
    return subprocess.run(
        ["bash", "-c", line, "bash", sys.executable, "-c", PROGRAM],
        env=os.environ | variables,
        capture_output=True,
        check=False,
    )


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("words", ["migrate --no-prefect --json", "plan"])
@pytest.mark.parametrize(
    ("stream", "code"), [("| head -c 1", 0), ("> /dev/full", 4), (">&-", 0)]
)
def test_a_stream_that_takes_nothing_is_no_fault(
    stream: str, code: int, words: str
) -> None:
    """A reader that stops early changes no exit code; a full disk is reported."""
    done = shell(f'"$@" {words} {stream}')

    assert done.returncode == code, done.stderr
    assert b"Internal error" not in done.stderr
    assert (b"Cannot write to standard output" in done.stderr) is (code > 0)


@pytest.mark.parametrize("words", ["migrate --no-prefect --json", "plan --json"])
def test_a_terminal_that_lacks_letters_gets_the_object(words: str, source: str) -> None:
    """A table name that it cannot show does not change the result of a run."""
    execute(source, 'ALTER TABLE public.enterprises RENAME TO "предприятия"')

    done = shell(
        f'"$@" {words}',
        PYTHONIOENCODING="latin-1",
        SOURCE_TABLE="public.предприятия",
    )

    assert done.returncode == 0, done.stderr
    assert "предприятия" in str(json.loads(done.stdout.decode("latin-1")))
