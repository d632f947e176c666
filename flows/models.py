"""What an enterprise is on either side, and what a step says of its work.

The id rule, the timestamp rule and the equality rule stand here and nowhere else. What
needs pandas, numpy or pyarrow imports them itself: the HTTP service starts without.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from hashlib import blake2b, sha1
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import pyarrow as pa

ENTITY_TYPE = "enterprise"
KEY_PREFIX = "ENT#"
SORT_KEY = "METADATA"
TABLE_KEYS = frozenset({"PK", "SK"})
ITEM_ATTRIBUTES = (
    "PK",
    "SK",
    "id",
    "enterprise_name",
    "name",
    "created_date",
    "createdAt",
    "updated_date",
    "updatedAt",
    "entity_type",
)
PROVENANCE_ATTRIBUTES = ("migrated_from_pg", "original_pg_id")
SOURCE_COLUMNS = ("source_id", "enterprise_name", "created_date", "updated_date")
MOVED_COLUMNS = len(SOURCE_COLUMNS)
# What a row and its item are to each other; some of it is a difference.
CLASSES = (
    "matched",
    "missing",
    "extra",
    "mismatched",
    "malformed",
    "newer_in_target",
    "deleted_in_target",
    "explained",
    "created_in_target",
)
DIFFERENT = ("missing", "extra", "mismatched", "malformed")
LEFT_BEHIND = "Left behind"

# PostgreSQL's text of a timestamptz: DateStyle ISO, TimeZone UTC, years 1 to 9999.
SOURCE_TIMESTAMP = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?\+00$"

Attribute: TypeAlias = str | int | bool
Item: TypeAlias = dict[str, Attribute]
IdKind: TypeAlias = Literal["integer", "uuid", "text"]


def derive_ids(source_ids: Sequence[str], kind: IdKind, namespace: UUID) -> list[str]:
    """Derive the target ids of source ids, given as PostgreSQL's text of them.

    An integer becomes ``uuid5(namespace, text)``; a UUID is kept, in canonical lower
    case. Deterministic, so that every re-run meets its own items.

    Raises:
        ValueError: a source id of kind ``uuid`` or ``text`` is not a UUID.
    """
    if kind != "integer":
        return [str(UUID(text)) for text in source_ids]
    import numpy as np

    # RFC 9562, 5.5: SHA-1 over namespace and name, then version and variant bits.
    prefix = namespace.bytes
    digests = b"".join(sha1(prefix + s.encode()).digest()[:16] for s in source_ids)  # noqa: S324
    octets = np.frombuffer(digests, np.uint8).reshape(-1, 16).copy()
    octets[:, 6] = octets[:, 6] & 0x0F | 0x50
    octets[:, 8] = octets[:, 8] & 0x3F | 0x80
    digits = octets.tobytes().hex()
    hexes = (digits[i : i + 32] for i in range(0, len(digits), 32))
    return [f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}" for h in hexes]


def format_timestamps(texts: "pa.Array") -> "pa.Array":
    """Format PostgreSQL's UTC timestamps as ``YYYY-MM-DDTHH:MM:SS.mmmZ``.

    Digits beyond milliseconds are cut off, never rounded, so that no timestamp moves
    into the next second or year. NULL stays NULL.

    Raises:
        ValueError: a text is not a UTC timestamp of the years 1 to 9999.
    """
    import pyarrow.compute as pc

    fits = pc.match_substring_regex(texts, SOURCE_TIMESTAMP)
    if pc.all(fits, min_count=0).as_py() is False:
        position = pc.index(fits, value=False).as_py()
        message = f"not a timestamp of the years 1 to 9999: {texts[position]}"
        raise ValueError(message)
    bare = pc.utf8_slice_codeunits(texts, 0, -3)
    fraction = pc.utf8_rpad(pc.utf8_slice_codeunits(bare, 20, 23), 3, padding="0")
    day = pc.utf8_slice_codeunits(bare, 0, 10)
    time = pc.utf8_slice_codeunits(bare, 11, 19)
    return pc.binary_join_element_wise(day, "T", time, ".", fraction, "Z", "")


def is_enterprise(item: Mapping[str, Attribute]) -> bool:
    """Return whether an item of the table is an enterprise."""
    return (
        str(item.get("PK", "")).startswith(KEY_PREFIX)
        and item.get("SK") == SORT_KEY
        and item.get("entity_type") == ENTITY_TYPE
    )


def same_value(one: Attribute | None, other: Attribute | None) -> bool:
    """Return whether two values are equal in DynamoDB, where True is not 1."""
    return type(one) is type(other) and one == other


def digest(values: Iterable[Attribute | None]) -> bytes:
    """Return the 128-bit digest by which an item's own attributes are compared."""
    texts = [f"{type(v).__name__[0]}{v}" for v in values]
    # Lengths before values: no two different lists give the same text.
    joined = "".join(f"{len(text)}:{text}" for text in texts)
    return blake2b(joined.encode("utf-8", "surrogatepass"), digest_size=16).digest()


@dataclass(frozen=True)
class LastWrite:
    """What runs of ours left of an item: the digests that it may have.

    *there* is false where only partitions that did not come to their end have sent it,
    of which nobody can tell whether it was applied, and where a run deleted it.
    """

    digests: frozenset[bytes]
    there: bool
    # An attempt before the last one may have sent it.
    before: bool = False
    # Of the row that it came from.
    source_id: str | None = field(default=None, compare=False)


# Returns, for some ids, what runs of ours left of their items.
WriteHistory: TypeAlias = Callable[[set[str]], Mapping[str, LastWrite]]


def changed_by_application(
    known: Mapping[str, LastWrite],
    item: Mapping[str, Attribute],
    there: Mapping[str, Attribute] | None,
) -> bool:
    """Return whether an application, not a run of ours, made the target what it is.

    *known* tells by id what runs of ours left; *there* is what the table has for
    *item* now.
    """
    trace = known.get(str(item["id"]))
    if there is None:
        return trace is not None and trace.there
    return trace is None or digest(there.get(n) for n in item) not in trace.digests


def is_edited(
    known: Mapping[str, LastWrite],
    item: Mapping[str, Attribute],
    there: Mapping[str, Attribute],
) -> bool:
    """Return whether what is *there* for *item* differs from what a run left of it.

    An item that no partition left, and no earlier attempt may have, is not edited.
    """
    trace = known.get(str(item["id"]))
    ours = trace is not None and (trace.there or trace.before)
    return ours and changed_by_application(known, item, there)


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
    def coverage(self) -> str:
        """Return " in 4 of 8 columns" for a verdict; empty if all columns are moved."""
        left = len(self.columns_not_migrated)
        return f" in {MOVED_COLUMNS} of {MOVED_COLUMNS + left} columns" if left else ""

    @property
    def left_behind(self) -> dict[str, str]:
        """Return the columns and referring tables that no run moves, for people."""
        parts = {
            "columns": [_quoted(name) for name in self.columns_not_migrated],
            "tables that refer to it": self.referring_tables,
        }
        left = {name: ", ".join(those) for name, those in parts.items() if those}
        hint = {"to carry them": "id_map.parquet has the new id of each source id"}
        return left | hint if left else left


def _quoted(name: str) -> str:
    """Quote a name that holds anything but letters, digits and underscores."""
    plain = name.replace("_", "").isalnum()
    return name if plain else '"' + name.replace('"', '""') + '"'


class MigrateOptions(BaseModel):
    """What one run is asked to do; plain values only, and no secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$",
        description="Name of the run; made from the time unless given.",
    )
    partition_rows: int = Field(
        default=25_000, ge=1, le=1_000_000, description="Rows of a partition."
    )
    workers: int | None = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that do the partitions; null for as many as pay off.",
    )
    runner: Literal["local", "dask"] = Field(
        default="local",
        description="Who does the partitions: processes of this machine, or the"
        " workers of DASK_SCHEDULER_ADDRESS, all of them unless `workers` is set.",
    )
    max_write_units: float | None = Field(
        default=None,
        ge=1,
        description="Write units a second that the run may take of the table.",
    )
    max_read_units: float | None = Field(
        default=None,
        ge=1,
        description="Read units a second that the run may take of the table.",
    )
    deadline: float | None = Field(
        default=None, gt=0, description="Seconds after which the run stops, resumable."
    )
    allow_quarantined: int = Field(
        default=0, ge=0, description="Quarantined rows that a proven run may have."
    )
    allow_empty: bool = Field(
        default=False, description="Accept a source table without rows."
    )
    resume: str | None = Field(
        default=None, description="Run to go on with: its id, or `last`."
    )
    since: str | None = Field(
        default=None,
        description="Move only rows stamped since this time, ISO 8601 with zone, or"
        " `last`: since the last proven run.",
    )
    after_cutover: bool = Field(
        default=False,
        description="Write although the cutover is declared; what was edited or"
        " deleted in the target since is left alone.",
    )
    accept_schema: bool = Field(
        default=False,
        description="Go on though a column is not what the last run read.",
    )
    data_docs: bool = Field(
        default=False,
        description="Write the pages of Great Expectations beside the report.",
    )
    replay: str | None = Field(
        default=None,
        description="Move the quarantined rows of this run alone; `last`: all that are"
        " in quarantine now.",
    )
    propagate_deletes: int = Field(
        default=0,
        ge=0,
        description="Delete at most so many items whose rows are gone, if no"
        " application changed them.",
    )


@dataclass(frozen=True)
class Index:
    """A secondary index: its keys, each with kind and type, and what it copies."""

    name: str
    local: bool
    keys: tuple[tuple[str, str, str], ...]
    projection: str = "ALL"
    included: frozenset[str] = frozenset()

    def has(self, attributes: Collection[str]) -> bool:
        """Return whether an item with these attributes is in the index."""
        return all(name in attributes for name, _, _ in self.keys)

    def copies(self, attribute: str) -> bool:
        """Return whether the index holds a copy of an attribute."""
        keys = TABLE_KEYS.union(name for name, _, _ in self.keys)
        return self.projection == "ALL" or attribute in keys | self.included

    def copy_of(self, item: Mapping[str, Attribute]) -> Item:
        """Return what the index holds of an item; nothing if it is not in the index."""
        if not self.has(item):
            return {}
        return {name: value for name, value in item.items() if self.copies(name)}


@dataclass(frozen=True)
class PartitionSpec:
    """A key range of the source under one snapshot: ``lower < id <= upper``.

    It is all that a worker needs beside its environment; it pickles. *owner* holds the
    run's lease.
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
    # Only these source ids, where it is not a range that is wanted.
    ids: tuple[str, ...] | None = None
    since: str | None = None
    owner: str = ""
    # Names the run's sessions to PostgreSQL.
    session: str = ""
    # The migration whose former runs tell what an application did since.
    lineage: str = ""
    # Whether what it edited or deleted is its own.
    after_cutover: bool = False
    indexes: tuple[Index, ...] = ()


@dataclass(frozen=True)
class Ledger:
    """Where the rows ended: each in exactly one column."""

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
    """What became of a partition: its ledger, validation, times and capacity."""

    run_id: str
    number: int
    ledger: Ledger
    validation: dict[str, Any]
    seconds: dict[str, float]
    capacity: dict[str, float]
    spent: dict[str, float] = field(default_factory=dict)
    # When it was loaded, from and to, in seconds of the epoch.
    loading: Sequence[float] = field(default_factory=list)


class Report:
    """Base of the reports: prints, shows itself in a notebook, becomes JSON."""

    def asdict(self) -> dict[str, Any]:
        """Return the report as plain values, ready for JSON."""
        raise NotImplementedError

    def tables(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the report as titled tables of one row each, for people."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return "\n".join(
            f"{title}: " + ", ".join(f"{key} {value}" for key, value in row.items())
            for title, row in self.tables()
        )

    def _repr_html_(self) -> str:
        import pandas as pd

        return "".join(
            f"<h4>{title}</h4>"
            + pd.DataFrame([row]).to_html(index=False, escape=True, border=0)
            for title, row in self.tables()
        )


@dataclass(frozen=True)
class Difference:
    """One key on which source and target disagree, or which is told apart.

    ``fields`` has, for each differing attribute, its value on either side.
    """

    kind: str
    source_id: str | None
    id: str
    fields: dict[str, dict[str, Attribute | None]] = field(default_factory=dict)
    # Where an item without a row comes from, as far as manifests tell.
    origin: str = ""

    @property
    def has_row(self) -> bool:
        """Return whether a row of the source has this key."""
        return self.source_id is not None and not self.origin

    def asdict(self) -> dict[str, Any]:
        """Return the difference as plain values; its kind is its ``class``."""
        values = asdict(self)
        if not self.origin:
            del values["origin"]
        return {"class": values.pop("kind")} | values
