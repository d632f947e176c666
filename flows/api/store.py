"""The interface of a store, and an enterprise as clients see it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Protocol, TypeAlias

from flows.errors import MigrationError
from flows.models import digest

MILLISECOND = timedelta(milliseconds=1)
# The largest integer up to which doubles are exact.
MOST_EXACT = 2**53 - 1


@dataclass(frozen=True)
class Enterprise:
    """One enterprise as the service shows it, from either store.

    Old rows and items may lack a name or a time.
    """

    id: int | str
    name: str | None
    created_at: str | None
    updated_at: str | None

    def asdict(self) -> dict[str, Any]:
        """Return the enterprise with the keys of its JSON."""
        # Many parsers of JSON have only doubles, and would round it.
        rounded = isinstance(self.id, int) and abs(self.id) > MOST_EXACT
        return {
            "id": str(self.id) if rounded else self.id,
            "name": self.name,
            "createdAt": self.created_at,
            "updatedAt": self.updated_at,
        }

    @cached_property
    def etag(self) -> str:
        """Return the entity tag, which differs after each change."""
        return f'"{digest(self.asdict().values()).hex()}"'

    @property
    def order(self) -> tuple[str, int | str]:
        """Return the sort key of lists: the name's code points, then the id."""
        return self.name or "", self.id


# Where a page ends: the key of its last enterprise; by name, what its name begins with
# and its key.
Position: TypeAlias = int | str | list[int | str]
# Whether a change may be made to the current enterprise.
Matches: TypeAlias = Callable[[Enterprise], bool]


@dataclass(frozen=True)
class Page:
    """Some enterprises in order; ``end`` is None on the last page."""

    enterprises: list[Enterprise]
    end: Position | None


class Changed(MigrationError):
    """Raised when an enterprise is no longer as the client has seen it."""


class Conflict(MigrationError):
    """Raised when the current state of the store does not allow the change."""


class ValueRefused(MigrationError):
    """Raised when the store cannot hold a value."""


class NotOffered(MigrationError):
    """Raised when a store does not support the operation, whatever the values."""


class Unsorted(MigrationError):
    """Raised when a store cannot read pages in the order of the names."""


class Unavailable(MigrationError):
    """Raised when the store does not answer now, but may later."""


class EnterpriseStore(Protocol):
    """The enterprises of one store. Every method may be called by many threads.

    Each raises a ``MigrationError`` when the store cannot answer. Ids are opaque
    texts, as they appear in paths; an invalid id belongs to no enterprise.
    """

    def check(self) -> None:
        """Check that the store answers and has what the service needs."""

    def close(self) -> None:
        """Close the connections."""

    def find(
        self, *, name: str | None = None, consistent: bool | None = None
    ) -> list[Enterprise]:
        """Return all enterprises, or those of exactly this name, in any order."""

    def read_page(
        self,
        limit: int,
        after: Position | None,
        *,
        by_name: bool = False,
        consistent: bool | None = None,
    ) -> Page:
        """Return up to *limit* enterprises, starting after *after*.

        They are in the order of their keys, or *by_name* in that of ``find``, sorted.

        Raises:
            Unsorted: this store has no order by name.
        """

    def get(
        self, enterprise_id: str, *, consistent: bool | None = None
    ) -> Enterprise | None:
        """Return the enterprise of this id, if there is one."""

    def create(self, name: str, key: str | None = None) -> Enterprise:
        """Create an enterprise; a second call with the same *key* returns the first.

        Raises:
            NotOffered: this store does not support keys.
            Conflict: the key was used for another name.
        """

    def replace(
        self, enterprise_id: str, name: str, matches: Matches
    ) -> Enterprise | None:
        """Rename an enterprise with a later timestamp; return None if there is none.

        Raises:
            Changed: the enterprise does not match.
        """

    def delete(self, enterprise_id: str, matches: Matches) -> bool:
        """Delete an enterprise; return False if there is none.

        Raises:
            Changed: the enterprise does not match.
        """

    def describe(self) -> dict[str, Any]:
        """Return a description of the table, to inspect a migration.

        Raises:
            NotOffered: this store is not the target of a migration.
        """


def next_stamp(last: str | None) -> str:
    """Return the time of a change made now, later than that of the last change.

    Clocks differ between machines, and items may have times in the future: then it is
    one millisecond after the last one. An invalid time is ignored.

    Raises:
        Conflict: the last time is the end of the year 9999.
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
