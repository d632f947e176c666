"""The file ``.env``; as in a shell, values in single quotes are not expanded."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from dotenv.main import with_warn_for_invalid_lines
from dotenv.parser import parse_stream
from dotenv.variables import parse_variables
from pydantic_settings import DotEnvSettingsSource

_SINGLE_QUOTED = re.compile(r"\s*(?:export\s+)?(?:'[^']*'|[^=\s]+)\s*=\s*'")


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
