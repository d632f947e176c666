"""What the service needs of a store, and what an enterprise is to its clients."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Protocol, TypeAlias

from flows.errors import MigrationError
from flows.models import digest

MILLISECOND = timedelta(milliseconds=1)
# The largest integer of which a double has no neighbour nearer than 1.
MOST_EXACT = 2**53 - 1


@dataclass(frozen=True)
class Enterprise:
    """One enterprise as the service shows it, whichever store it comes from.

    Old rows and items may lack a name or a time.
    """

    id: int | str
    name: str | None
    created_at: str | None
    updated_at: str | None

    def asdict(self) -> dict[str, Any]:
        """Return the enterprise by the names of its JSON."""
        # Many readers of JSON have no other numbers than doubles, and would round it.
        rounded = isinstance(self.id, int) and abs(self.id) > MOST_EXACT
        return {
            "id": str(self.id) if rounded else self.id,
            "name": self.name,
            "createdAt": self.created_at,
            "updatedAt": self.updated_at,
        }

    @cached_property
    def etag(self) -> str:
        """Return the entity tag, another one after each change."""
        return f'"{digest(self.asdict().values()).hex()}"'

    @property
    def order(self) -> tuple[str, int | str]:
        """Return what lists are sorted by: the name's code points, then the id."""
        return self.name or "", self.id


# Where a page ends: the key of its last enterprise.
Position: TypeAlias = int | str
# Whether a change may be made to what is there now.
Matches: TypeAlias = Callable[[Enterprise], bool]


@dataclass(frozen=True)
class Page:
    """Some enterprises in key order; ``end`` is None on the last page."""

    enterprises: list[Enterprise]
    end: Position | None


class Changed(MigrationError):
    """Raised when an enterprise is no longer as the client has seen it."""


class Conflict(MigrationError):
    """Raised when the store as it is does not allow the change."""


class ValueRefused(MigrationError):
    """Raised when the store cannot hold a value."""


class NotOffered(MigrationError):
    """Raised when a store cannot do what is asked, whatever the values."""


class Unavailable(MigrationError):
    """Raised when the store gives no answer now, and may later."""


class EnterpriseStore(Protocol):
    """The enterprises of one store. Every method may be called by many threads.

    Each raises a ``MigrationError`` when the store cannot answer. Ids are opaque
    texts, as they stand in paths; one that cannot be is that of no enterprise.
    """

    def check(self) -> None:
        """Make sure that the store answers and has what the service needs."""

    def close(self) -> None:
        """Give the connections back."""

    def find(
        self, *, name: str | None = None, consistent: bool | None = None
    ) -> list[Enterprise]:
        """Return all enterprises, or those of exactly this name, in any order."""

    def read_page(
        self, limit: int, after: Position | None, *, consistent: bool | None = None
    ) -> Page:
        """Return up to *limit* enterprises in key order, from *after* on."""

    def get(
        self, enterprise_id: str, *, consistent: bool | None = None
    ) -> Enterprise | None:
        """Return the enterprise of this id, if there is one."""

    def create(self, name: str, key: str | None = None) -> Enterprise:
        """Make an enterprise; a second call with the same *key* returns the first's.

        Raises:
            NotOffered: this store cannot tell a second call.
            Conflict: the key was used for another name.
        """

    def replace(
        self, enterprise_id: str, name: str, matches: Matches
    ) -> Enterprise | None:
        """Give an enterprise another name, at a later time; None if there is none.

        Raises:
            Changed: it does not match.
        """

    def delete(self, enterprise_id: str, matches: Matches) -> bool:
        """Delete an enterprise; return False if there is none.

        Raises:
            Changed: it does not match.
        """

    def describe(self) -> dict[str, Any]:
        """Return what the table holds, for those who look into a migration.

        Raises:
            NotOffered: this store is not the target of one.
        """


def next_stamp(last: str | None) -> str:
    """Return the time of a change made now, later than that of the last change.

    Clocks of machines differ, and items may bear times of the future: then it is a
    millisecond after the last one. What is no time does not count.

    Raises:
        Conflict: there is no later time, at the end of the year 9999.
    """
    now = _truncated(datetime.now(UTC))
    before = _instant(last)
    if before is not None and now <= before:
        try:
            now = _truncated(before) + MILLISECOND
        except OverflowError:
            message = f"updatedAt is {last}: there is no later time."
            raise Conflict(message) from None
    return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _truncated(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _instant(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text or "")
        zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return zoned.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
