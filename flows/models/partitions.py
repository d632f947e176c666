"""The source table, the partitions of a run, and their results."""

from collections.abc import (
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Self, TypeAlias

from flows.models.items import IdKind, Index

SOURCE_COLUMNS = ("source_id", "enterprise_name", "created_date", "updated_date")
MOVED_COLUMNS = len(SOURCE_COLUMNS)
# Number, lower bound (excluded) and upper bound (included) of a partition.
KeyRange: TypeAlias = tuple[int, str | None, str | None]


@dataclass(frozen=True)
class SourceTable:
    """The source table as it was found: names, types, and what is left behind."""

    schema: str
    table: str
    id_column: str
    name_column: str
    created_column: str
    updated_column: str
    id_kind: IdKind
    created_zoneless: bool
    updated_zoneless: bool
    timezone: str | None
    columns_not_migrated: tuple[str, ...] = ()
    # Tables with foreign keys to this one, each with its referring columns.
    referring_tables: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the table's name with its schema."""
        return f"{self.schema}.{self.table}"

    @property
    def attributes(self) -> dict[str, tuple[str, ...]]:
        """Return the columns that are moved, each with the attributes made from it."""
        return {
            self.id_column: ("PK", "id"),
            self.name_column: ("enterprise_name", "name"),
            self.created_column: ("created_date", "createdAt"),
            self.updated_column: ("updated_date", "updatedAt"),
        }

    @property
    def coverage(self) -> str:
        """Return " in 4 of 8 columns" for a verdict; empty if all columns are moved."""
        left = len(self.columns_not_migrated)
        return f" in {MOVED_COLUMNS} of {MOVED_COLUMNS + left} columns" if left else ""

    @property
    def left_behind(self) -> dict[str, str]:
        """Return the columns and referring tables that no run moves, for display."""
        parts = {
            "columns": [_quoted(name) for name in self.columns_not_migrated],
            "tables that refer to it": self.referring_tables,
        }
        left = {name: ", ".join(those) for name, those in parts.items() if those}
        hint = {"to carry them": "id_map.parquet has the new id of each source id"}
        return left | hint if left else left


def _quoted(name: str) -> str:
    """Quote a name that contains anything but letters, digits and underscores."""
    plain = name.replace("_", "").isalnum()
    return name if plain else '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True)
class PartitionSpec:
    """A key range of the source under one snapshot: ``lower < id <= upper``.

    It pickles, and is all that a worker needs besides its environment. *owner* holds
    the run's lease.
    """

    run_id: str
    number: int
    source: SourceTable
    lower: str | None = None
    upper: str | None = None
    snapshot: str | None = None
    table_was_empty: bool = False
    deadline: float | None = None
    duplicate_ids: tuple[str, ...] = ()
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
