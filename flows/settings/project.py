"""The folder of ``.env`` and of relative paths, from any current folder."""

import os
import re
from pathlib import Path

from flows.errors import SettingsError

_NAMED = re.compile(r'^name\s*=\s*"enterprise-migration"', re.MULTILINE)
# A relative path in a URL of SQLite.
_FILE = re.compile(r"(sqlite(?:\+\w+)?:///)(?!/|file:|:memory:)(.+)", re.DOTALL)


def project_root() -> Path:
    """Return the project's folder; an empty path if that is the current folder.

    It is the nearest folder, from the current one up, that has a ``.env`` or is the
    checkout. Above the current folder a ``.env`` must be a file of this user. The
    search ends at another project and at the home folder, since a ``.env`` above them
    belongs to something else. If there is no such folder, it is the current one.
    """
    try:
        here = Path.cwd()
        if (here / ".env").exists():
            return Path()
        for folder in (here, *here.parents):
            if _is_checkout(folder) or (folder != here and _has_own_dotenv(folder)):
                return Path() if folder == here else folder
            if _ends_here(folder):
                break
    except OSError:
        # The current folder is gone, or a parent may not be read.
        return Path()
    return Path()


def find_dotenv() -> Path | None:
    """Return the ``.env`` that the settings are read from; None if there is none.

    Raises:
        SettingsError: the file exists and cannot be read.
    """
    path = project_root() / ".env"
    try:
        with path.open("rb"):
            return path.absolute()
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        message = f"The file {path.absolute()} cannot be read: {reason}."
        remedy = "Replace it with a file that this user may read, or remove it."
        raise SettingsError(message, remedy) from None


def describe_origin() -> str:
    """Return where the settings come from, for display.

    Raises:
        SettingsError: the ``.env`` exists and cannot be read.
    """
    path = find_dotenv()
    return f"read from the environment and {path or 'no .env'}"


def rooted(path: Path) -> Path:
    """Return a path relative to the project's folder; ``~`` is the home folder.

    Raises:
        ValueError: the path begins with the home folder of a user who does not exist.
    """
    try:
        return project_root() / path.expanduser()
    except RuntimeError:
        message = f"{path} begins with the home folder of a user who does not exist"
        raise ValueError(message) from None


def rooted_url(url: str) -> str:
    """Return a database's URL with SQLite's file relative to the project's folder."""
    found = _FILE.fullmatch(url)
    return f"{found[1]}{rooted(Path(found[2]))}" if found else url


def _is_checkout(folder: Path) -> bool:
    path = folder / "pyproject.toml"
    return path.is_file() and bool(_NAMED.search(path.read_text("utf-8", "replace")))


def _has_own_dotenv(folder: Path) -> bool:
    path = folder / ".env"
    return path.is_file() and path.stat().st_uid == os.geteuid()


def _ends_here(folder: Path) -> bool:
    other = (folder / ".git").exists() or (folder / "pyproject.toml").exists()
    return other or folder == Path.home()
