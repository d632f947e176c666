"""The partitions of a run, and their results."""

from collections.abc import (
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Self, TypeAlias

from flows.models.items import Index, Key
from flows.models.sources import SourceTable

# Number, lower bound (excluded) and upper bound (included) of a partition.
KeyRange: TypeAlias = tuple[int, str | None, str | None]


@dataclass(frozen=True)
class PartitionSpec:
    """A key range of an entity's table under one snapshot: ``lower < id <= upper``.

    The number is unique in the run, whatever the entity. The spec pickles, and is all
    that a worker needs besides its environment. *owner* holds the run's lease.
    """

    run_id: str
    number: int
    source: SourceTable
    lower: str | None = None
    upper: str | None = None
    snapshot: str | None = None
    table_was_empty: bool = False
    deadline: float | None = None
    # Ids, and keys of items, that several rows of the table have.
    duplicate_ids: tuple[str, ...] = ()
    duplicate_keys: frozenset[Key] = frozenset()
    # Only these source ids, instead of a range.
    ids: tuple[str, ...] | None = None
    since: str | None = None
    owner: str = ""
    # The name of the run's sessions in PostgreSQL.
    session: str = ""
    # The migration whose earlier runs show what an application changed since then.
    lineage: str = ""
    # Whether items that it edited or deleted are left alone.
    after_cutover: bool = False
    indexes: tuple[Index, ...] = ()

    def of_ranges(self, ranges: Iterable[KeyRange]) -> Iterator[Self]:
        """Yield a partition like this one for each numbered key range."""
        for number, lower, upper in ranges:
            yield replace(self, number=number, lower=lower, upper=upper)

    def of_ids(self, ids: Sequence[str], rows: int) -> Iterator[Self]:
        """Yield partitions like this one of up to *rows* ids each, numbered from 1."""
        for number, start in enumerate(range(0, len(ids), rows), 1):
            yield replace(self, number=number, ids=tuple(ids[start : start + rows]))


class Outcome(StrEnum):
    """The outcome of a row: the columns of the ledger that loading decides."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    KEPT_NEWER = "kept_newer"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True)
class Ledger:
    """The counts of rows by outcome; each row is in exactly one column."""

    read: int = 0
    written: int = 0
    unchanged: int = 0
    kept_newer: int = 0
    quarantined: int = 0
    failed: int = 0

    @property
    def balanced(self) -> bool:
        """Return whether the columns account for every row read."""
        columns = (self.written, self.unchanged, self.kept_newer, self.quarantined)
        return self.read == sum(columns) + self.failed

    def describe(self) -> str:
        """Return the counts that are not zero, as part of a sentence."""
        counts = {f.name.replace("_", " "): getattr(self, f.name) for f in fields(self)}
        rows = counts.pop("read")
        return ", ".join(
            [f"{rows:,} rows"] + [f"{n:,} {k}" for k, n in counts.items() if n]
        )

    def __add__(self, other: Self) -> Self:
        return type(self)(
            *(getattr(self, f.name) + getattr(other, f.name) for f in fields(self))
        )


def add_counts(*counts: Mapping[str, Any]) -> dict[str, Any]:
    """Add mappings of numbers by key, nested mappings too."""
    total: dict[str, Any] = {}
    for count in counts:
        for key, value in count.items():
            if isinstance(value, Mapping):
                total[key] = add_counts(total.get(key, {}), value)
            else:
                total[key] = total.get(key, 0) + value
    return total


@dataclass(frozen=True)
class PartitionLedger:
    """The result of a partition: its ledger, validation, times and capacity."""

    run_id: str
    number: int
    ledger: Ledger
    validation: dict[str, Any]
    seconds: dict[str, float]
    capacity: dict[str, float]
    spent: dict[str, float] = field(default_factory=dict)
    # Start and end of loading, in seconds since the epoch.
    loading: Sequence[float] = field(default_factory=list)
