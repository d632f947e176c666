"""The classes of differences between rows and items, and one difference."""

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from flows.models.items import ENTITY_TYPE, Attribute, Key


class DifferenceClass(StrEnum):
    """The relation of a row and its item, in the order of the reports."""

    MATCHED = "matched"
    MISSING = "missing"
    EXTRA = "extra"
    MISMATCHED = "mismatched"
    MALFORMED = "malformed"
    NEWER_IN_TARGET = "newer_in_target"
    DELETED_IN_TARGET = "deleted_in_target"
    EXPLAINED = "explained"
    CREATED_IN_TARGET = "created_in_target"


CLASSES = tuple(each.value for each in DifferenceClass)
# These make source and target differ; each other class has a reason.
DIFFERENT = (
    DifferenceClass.MISSING.value,
    DifferenceClass.EXTRA.value,
    DifferenceClass.MISMATCHED.value,
    DifferenceClass.MALFORMED.value,
)
# Loading a row again repairs these.
LOADABLE = frozenset({DifferenceClass.MISSING, DifferenceClass.MISMATCHED})
# The origin of an item whose row has another key now.
MOVED = "moved"
# Only a comparison of all rows finds these.
WITHOUT_ROW = frozenset({DifferenceClass.EXTRA, DifferenceClass.CREATED_IN_TARGET})


@dataclass(frozen=True)
class Difference:
    """A key on which source and target disagree, or that is listed separately.

    ``fields`` has, for each differing attribute, its value on either side.
    """

    kind: DifferenceClass
    source_id: str | None
    id: str
    fields: dict[str, dict[str, Attribute | None]] = field(default_factory=dict)
    # The origin of an item without a row, as far as manifests show it.
    origin: str = ""
    entity: str = ENTITY_TYPE
    # The key of an item without a row, which its id alone may not show.
    key: Key | None = field(default=None, compare=False)

    @property
    def has_row(self) -> bool:
        """Return whether a row of the source has this key."""
        return self.source_id is not None and not self.origin

    def asdict(self) -> dict[str, Any]:
        """Return the difference as plain values; its kind is its ``class``."""
        values = asdict(self)
        del values["key"], values["entity"]
        if not self.origin:
            del values["origin"]
        return {"class": str(values.pop("kind"))} | values
