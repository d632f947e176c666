"""The folder that ``.env`` and relative paths belong to, from wherever one works."""

import os
import re
from pathlib import Path

from flows.errors import SettingsError

_NAMED = re.compile(r'^name\s*=\s*"enterprise-migration"', re.MULTILINE)
# A relative path in a URL of SQLite's.
_FILE = re.compile(r"(sqlite(?:\+\w+)?:///)(?!/|file:|:memory:)(.+)", re.DOTALL)


def project_root() -> Path:
    """Return the project's folder; an empty path where that is the current one.

    It is the nearest folder, from the current one up, that has a ``.env`` or is the
    checkout. Above the current folder a ``.env`` must be a file of this user, and none
    is looked for above another project or above the home folder, where it would be of
    something else. Without any, the current folder is the project's.
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
    """Return the ``.env`` that the settings are read from, None where there is none.

    Raises:
        SettingsError: it is there and cannot be read.
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
        remedy = "Make it a file that this user may read, or remove it."
        raise SettingsError(message, remedy) from None


def describe_origin() -> str:
    """Return where the settings come from, for people.

    Raises:
        SettingsError: the ``.env`` that is there cannot be read.
    """
    path = find_dotenv()
    return f"read from the environment and {path or 'no .env'}"


def rooted(path: Path) -> Path:
    """Return a path from the project's folder; ``~`` is the home folder.

    Raises:
        ValueError: it begins with the home folder of a user who does not exist.
    """
    try:
        return project_root() / path.expanduser()
    except RuntimeError:
        message = f"{path} begins with the home folder of a user who does not exist"
        raise ValueError(message) from None


def rooted_url(url: str) -> str:
    """Return a database's URL with SQLite's file from the project's folder."""
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
