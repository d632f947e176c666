"""The environment of a report: versions and settings, without secrets."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from flows.settings import Settings

PROGRAM = "enterprise-migration"
PACKAGES = (
    PROGRAM,
    "boto3",
    "great-expectations",
    "pandas",
    "prefect",
    "psycopg2-binary",
    "pyarrow",
    "sqlalchemy",
)
# Key ids and user names are not secret, but they are private.
KEPT_BACK = {"aws_access_key_id", "pguser"}


def describe_environment(settings: Settings) -> dict[str, str]:
    """Return the versions of Python and packages, and the settings that are set."""
    versions = {name: version_of(name) for name in PACKAGES}
    shown = {
        name.upper(): str(getattr(settings, name))
        for name, field in type(settings).model_fields.items()
        if name not in KEPT_BACK and "SecretStr" not in str(field.annotation)
    }
    values = {"python": platform.python_version()} | versions | shown
    return {name: value for name, value in values.items() if value != "None"}


@cache
def version_of(package: str) -> str:
    """Return the version of an installed package; "None" if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "None"
