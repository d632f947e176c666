"""The settings, read from the environment and ``.env``, and checked at once.

Nothing connects here, and nothing is read at import. A worker in another process
reads the same environment, so no setting (and no secret) is sent with a task.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from flows.settings.checks import checked
from flows.settings.project import find_dotenv
from flows.settings.settings import ID_NAMESPACE, LOOPBACK, Settings

__all__ = ["ID_NAMESPACE", "LOOPBACK", "Settings", "load_settings", "using"]

_in_force: list[Settings] = []


def load_settings() -> Settings:
    """Return the settings in force: those of ``using``, else the environment's.

    Raises:
        SettingsError: a variable has an invalid value.
    """
    if _in_force:
        return _in_force[-1]
    return checked(Settings, {"_env_file": find_dotenv()})


@contextmanager
def using(settings: Settings) -> Iterator[Settings]:
    """Apply settings to all threads of this process within the block.

    The embedded default needs this: its stores are not those of the environment, and
    settings hold secrets, so tasks may not receive them.
    """
    _in_force.append(settings)
    try:
        yield settings
    finally:
        _in_force.remove(settings)
