"""The options that commands share, and how they are applied."""

import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.errors import SettingsError
from flows.run.next_commands import repeat_setting

if TYPE_CHECKING:
    from flows.models import MigrateOptions

# The groups of options in the help of a command.
SCOPE, RATES, ACCEPT, REPAIR = "What to move", "Rates", "What to accept", "Repair"

Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Also print zero counts, times, capacity, cost and plan.",
    ),
]
Operator = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Who runs this, for the report. Default: the user."
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object and nothing else.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Override a setting of the environment and .env for this command.",
    ),
]
MappingFile = Annotated[
    str | None,
    typer.Option(
        "--mapping",
        metavar="FILE",
        help="Mapping file of the tables and columns to move. Default: MAPPING_FILE.",
        rich_help_panel=SCOPE,
    ),
]
AllowInsecure = Annotated[
    bool,
    typer.Option(
        "--allow-insecure-endpoint",
        help="Accept an http:// endpoint off loopback, with dummy credentials.",
    ),
]
AllowEmpty = Annotated[
    bool,
    typer.Option(
        "--allow-empty", help="Accept a source without rows.", rich_help_panel=ACCEPT
    ),
]
Entities = Annotated[
    list[str] | None,
    typer.Option(
        "--entity",
        metavar="NAME",
        help="Only this entity of the mapping file; may be repeated.",
        rich_help_panel=SCOPE,
    ),
]
PartitionRows = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        help="Rows per partition, the unit of work and memory.",
        rich_help_panel=RATES,
    ),
]
MaxReadUnits = Annotated[
    float | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Read units per second that may be consumed.",
        rich_help_panel=RATES,
    ),
]
AllowQuarantined = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=0,
        help="Accept up to N quarantined rows.",
        rich_help_panel=ACCEPT,
    ),
]
AfterCutover = Annotated[
    bool,
    typer.Option(
        "--after-cutover",
        help="Write after the cutover; items that were edited or deleted in the"
        " target stay as they are.",
        rich_help_panel=ACCEPT,
    ),
]


def prefect_is_configured() -> bool:
    """Return whether a Prefect API is set, without the slow import of Prefect."""
    if os.environ.get("PREFECT_API_URL"):
        return True
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    try:
        profiles = tomllib.loads((home / "profiles.toml").read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return False
    active = os.environ.get("PREFECT_PROFILE", profiles.get("active", ""))
    profile = profiles.get("profiles", {}).get(active, {})
    return bool(profile.get("PREFECT_API_URL"))


def make_options(**values: Any) -> "MigrateOptions":
    """Create the run's options.

    Raises:
        SettingsError: a value is not allowed.
    """
    from pydantic import ValidationError

    from flows.models import MigrateOptions

    try:
        return MigrateOptions(**values)
    except ValidationError as error:
        first = error.errors()[0]
    name = str(first["loc"][0]).replace("_", "-")
    message = f"--{name} {first['input']!r} is not valid: {first['msg']}."
    raise SettingsError(message, "See: enterprises migrate --help")


def override(
    pairs: Iterable[str] | None,
    *,
    allow_insecure: bool = False,
    mapping: str | None = None,
) -> None:
    """Override settings of the environment with those of the command line.

    *mapping* is a path relative to the current folder; an empty one is no mapping file.

    Raises:
        SettingsError: a setting does not exist, or is a secret, which other users
            of the machine could read in the process list.
    """
    from flows.settings import Settings

    for pair in pairs or ():
        name, _, value = pair.partition("=")
        field = Settings.model_fields.get(name.lower())
        if field is None:
            message = f"--set {name}: there is no such setting."
            raise SettingsError(message, "See .env.example for all settings.")
        if "SecretStr" in str(field.annotation):
            message = f"--set {name}: a secret is not accepted on the command line."
            raise SettingsError(message, f"Set {name} in the environment or in .env.")
        _set(name.upper(), value)
    if allow_insecure:
        _set("ALLOW_INSECURE_ENDPOINT", "true")
    if mapping is not None:
        _set("MAPPING_FILE", _from_here(mapping))


def _from_here(path: str) -> str:
    """Return a path as a setting, which is relative to the project's folder."""
    from flows.settings.project import project_root

    here = not path or path.startswith("~") or project_root() == Path()
    return path if here else str(Path(path).absolute())


def _set(name: str, value: str) -> None:
    os.environ[name] = value
    repeat_setting(name, value)
