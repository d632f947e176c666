"""The file ``.env`` as it is written, and as a shell and the program read it."""

import os
import stat
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.errors import SettingsError
from flows.settings.env_file import EnvFile, write_env_file
from flows.settings.settings import Settings

HOSTILE = "'\"\\$`!# {}()&;|<>*?~=%\t"
ONE_LINE = st.text(
    st.one_of(
        st.sampled_from(HOSTILE),
        st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0"),
    ),
    max_size=40,
)


def read_by_program(path: Path) -> dict[str, str | None]:
    """Return the values as the settings read them."""
    return dict(EnvFile(Settings, env_file=path).env_vars)


def read_by_shell(path: Path, names: list[str]) -> list[str]:
    """Return the values of a file that a shell has read, after ``set -a``."""
    show = (
        "import os, sys; print(*map(os.environ.get, sys.argv[1:]), sep='\\0', end='')"
    )
    script = f'set -a; . "{path}"; exec "$0" -c "$@"'
    command = ["sh", "-c", script, sys.executable, show, *names]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stderr == b""
    return done.stdout.decode().split("\0")


@settings(deadline=None)
@given(st.lists(ONE_LINE, min_size=1, max_size=30))
def test_a_shell_and_the_program_read_what_was_written(values: list[str]) -> None:
    """Any value of one line must come back the same way, a hostile password too."""
    named = {f"VALUE_{number}": value for number, value in enumerate(values)}
    with TemporaryDirectory() as folder:
        path = Path(folder, ".env")
        write_env_file(path, named)

        ours = read_by_program(path)
        theirs = read_by_shell(path, list(named))

    assert [ours[name.lower()] for name in named] == values
    assert theirs == values


def test_the_file_is_private_and_complete_or_not_there(tmp_path: Path) -> None:
    """No other user may read it, and no existing file or link may be replaced."""
    path = tmp_path / ".env"
    former = os.umask(0)

    write_env_file(path, {"PGHOST": "db.example.com", "PGPASSWORD": "it's $5"})
    os.umask(former)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text("utf-8")
    assert "PGHOST=db.example.com\n" in text
    for there in (path, tmp_path / "link"):
        if there != path:
            there.symlink_to(tmp_path / "gone")
        with pytest.raises(SettingsError, match="exists already"):
            write_env_file(there, {"PGHOST": "other"})
    assert path.read_text("utf-8") == text
    assert sorted(one.name for one in tmp_path.iterdir()) == [".env", "link"]


@pytest.mark.parametrize("value", ["two\nlines", "a\rb", "\ud800"])
def test_a_value_that_fits_no_line_is_refused(tmp_path: Path, value: str) -> None:
    """The error must name the setting, not its value, and no file may be left."""
    with pytest.raises(SettingsError, match="PGPASSWORD has a line break") as refused:
        write_env_file(tmp_path / ".env", {"PGPASSWORD": value})

    assert value not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The error must name the file, and say what to do."""
    with pytest.raises(SettingsError, match="cannot be written: No such file") as error:
        write_env_file(tmp_path / "gone" / ".env", {})

    assert "copy .env.example" in error.value.remedy
