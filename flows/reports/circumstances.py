"""When, where and by whom a report was made, and between which stores."""

import getpass
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from socket import gethostname

from flows.reports.environment import PROGRAM, version_of
from flows.timing import describe_seconds

NOT_KNOWN = "not known"


@dataclass(frozen=True)
class Circumstances:
    """The circumstances of a report; a text is empty if it is not known.

    Times are ISO 8601 in UTC. ``account`` is the account of the table.
    """

    begun: str = ""
    ended: str = ""
    version: str = ""
    host: str = ""
    operator: str = ""
    database: str = ""
    server: str = ""
    account: str = ""

    def asdict(self) -> dict[str, str | None]:
        """Return the circumstances as plain values."""
        return {name: value or None for name, value in asdict(self).items()}

    @property
    def duration(self) -> str:
        """Return how long it took, for display; empty if that is not known."""
        if not (self.begun and self.ended):
            return ""
        took = datetime.fromisoformat(self.ended) - datetime.fromisoformat(self.begun)
        return describe_seconds(took.total_seconds())


def describe_circumstances(
    begun: float, operator: str | None, place: Mapping[str, str], **known: str
) -> Circumstances:
    """Return the circumstances of a report that is made now, on this machine.

    *begun* is in seconds since the epoch, *place* has host, port and name of the
    database. Without an *operator*, the user of this process is named.
    """
    return Circumstances(
        begun=format_moment(begun),
        ended=format_moment(time.time()),
        version=version_of(PROGRAM),
        host=gethostname(),
        operator=operator or _read_user(),
        database=describe_database(place),
        **known,
    )


def describe_database(place: Mapping[str, str]) -> str:
    """Return name, host and port of a database as one text; empty without them."""
    if not place:
        return ""
    return "database {dbname} on {host}, port {port}".format(**place)


def format_moment(seconds: float) -> str:
    """Return seconds since the epoch as ISO 8601 in UTC, to the millisecond."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def _read_user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        # A container may run as a user that has no name.
        return ""
