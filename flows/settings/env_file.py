"""The file ``.env``, read and written so that a shell reads the same values.

As in a shell, values in single quotes are not expanded.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile

from dotenv.main import with_warn_for_invalid_lines
from dotenv.parser import parse_stream
from dotenv.variables import parse_variables
from pydantic_settings import DotEnvSettingsSource

from flows.errors import SettingsError

HEADER = "# Written by enterprises init. All settings: .env.example."

# In double quotes a shell expands what follows these, and python-dotenv keeps a
# backslash before them: they come from variables.
EXPANDED = {"DOLLAR": "$", "BACKTICK": "`"}

_SINGLE_QUOTED = re.compile(r"\s*(?:export\s+)?(?:'[^']*'|[^=\s]+)\s*=\s*'")
# Values that need no quotes, which docker's --env-file would not remove.
_PLAIN = re.compile(r"[A-Za-z0-9_@%+:,./-]+")
_NO_LINE = re.compile(r"[\n\r\x00\ud800-\udfff]")


class EnvFile(DotEnvSettingsSource):
    """Reads ``.env``; python-dotenv would replace ``${x}`` in every value."""

    def _read_env_file(self, file_path: Path) -> Mapping[str, str | None]:
        found: dict[str, str | None] = {}
        with file_path.open(encoding=self.env_file_encoding or "utf-8") as file:
            for line in with_warn_for_invalid_lines(parse_stream(file)):
                if line.key is None:
                    continue
                value = line.value
                if value and not _SINGLE_QUOTED.match(line.original.string):
                    known = os.environ | found
                    atoms = parse_variables(value)
                    value = "".join(atom.resolve(known) for atom in atoms)
                found[line.key] = value
        return {name.lower(): value for name, value in found.items()}


def quote_value(name: str, value: str) -> str:
    """Return a value as it stands in ``.env``.

    Raises:
        SettingsError: the value cannot stand on one line of UTF-8 text.
    """
    if _NO_LINE.search(value):
        message = f"{name} has a line break, or a character that UTF-8 lacks."
        raise SettingsError(message, f"Set {name} in the environment instead.")
    if _PLAIN.fullmatch(value):
        return value
    # In single quotes python-dotenv reads backslashes as escapes, but a shell does not.
    if not {"'", "\\"} & set(value):
        return f"'{value}'"
    value = re.sub(r'(["\\])', r"\\\1", value)
    for variable, character in EXPANDED.items():
        value = value.replace(character, f"${{{variable}}}")
    return f'"{value}"'


def require_no_env_file(path: Path) -> None:
    """Refuse to replace a file.

    Raises:
        SettingsError: the file exists.
    """
    if os.path.lexists(path):
        message = f"The file {path.absolute()} exists already."
        remedy = "Change it with an editor and check it with enterprises doctor, or"
        raise SettingsError(message, f"{remedy} move it away and run init again.")


def write_env_file(path: Path, values: Mapping[str, str]) -> None:
    """Write a new ``.env`` that only its owner may read; it appears complete or never.

    Raises:
        SettingsError: the file exists or cannot be written, or a value cannot stand in
            it.
    """
    lines = [f"{name}={quote_value(name, value)}" for name, value in values.items()]
    used = [
        f"{variable}='{character}'"
        for variable, character in EXPANDED.items()
        if any(f"${{{variable}}}" in line for line in lines)
    ]
    text = "\n".join([HEADER, *used, *lines, ""])
    try:
        with NamedTemporaryFile(dir=path.parent, prefix=".env-") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
            os.link(file.name, path)
    except FileExistsError:
        require_no_env_file(path)
        raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        message = f"The file {path.absolute()} cannot be written: {reason}."
        remedy = "Allow this user to create files in its folder, or copy .env.example."
        raise SettingsError(message, remedy) from None
