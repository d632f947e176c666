"""Rows against items, field by field: the proof.

The rows are derived from PostgreSQL by SQL text and the standard library, along a path
that shares nothing with ``transform``: one bug cannot agree with itself.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

import pandas as pd
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.errors import Unproven
from flows.extract import FETCH_ROWS, timestamp_expression
from flows.models import (
    ITEM_ATTRIBUTES,
    PROVENANCE_ATTRIBUTES,
    Difference,
    Item,
    Report,
    SourceTable,
    digest,
    is_enterprise,
    is_newer,
)
from flows.stores.dynamodb import READ_KEYS, EnterpriseTable
from flows.stores.postgres import translated_errors

logger = logging.getLogger(__name__)

CLASSES = (
    "matched",
    "missing",
    "extra",
    "mismatched",
    "malformed",
    "newer_in_target",
    "deleted_in_target",
    "explained",
)
DIFFERENT = ("missing", "extra", "mismatched", "malformed")
FIRST_DIFFERENCES = 1_000

DERIVE_ROWS = sql.SQL("""
SELECT {id}::text, {name}, {created}, {updated} FROM {table} {where}
""")
# date_trunc cuts, as the timestamp rule demands; to_char then only writes.
ISO_TEXT = sql.SQL("""
CASE WHEN isfinite(coalesce({first}, {second})) THEN to_char(date_trunc('milliseconds',
     coalesce({first}, {second}) AT TIME ZONE 'UTC'), 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
END
""")


@dataclass(frozen=True, repr=False)
class ReconciliationReport(Report):
    """What the comparison found: counts by class, and every difference."""

    source_rows: int
    target_items: int
    counts: Mapping[str, int]
    found: tuple[Difference, ...] = ()
    files: Mapping[str, str] | None = None

    @property
    def status(self) -> str:
        """Return ``clean`` or ``different``."""
        return "different" if any(self.counts[c] for c in DIFFERENT) else "clean"

    @property
    def differences(self) -> pd.DataFrame:
        """Return the differences, one row a key and differing field."""
        columns = ["class", "source_id", "id", "field", "source", "target"]
        rows = [
            (d.kind, d.source_id, d.id, name, sides.get("source"), sides.get("target"))
            for d in self.found
            for name, sides in (d.fields or {"": {}}).items()
        ]
        return pd.DataFrame(rows, columns=columns, dtype=object)

    def asdict(self) -> dict[str, Any]:
        """Return the report as plain values, with the first 1,000 differences."""
        return {
            "status": self.status,
            "source_rows": self.source_rows,
            "target_items": self.target_items,
            **self.counts,
            "differences": [d.asdict() for d in self.found[:FIRST_DIFFERENCES]],
            "files": dict(self.files or {}),
        }

    def tables(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the counts as one table."""
        rows = {"source rows": self.source_rows, "target items": self.target_items}
        return [(f"Reconciliation: {self.status}", rows | dict(self.counts))]

    def raise_for_failures(self) -> None:
        """Raise unless source and target agree.

        Raises:
            Unproven: some keys are different.
        """
        if self.status != "clean":
            message = f"Source and target differ: {self.wrong}."
            raise Unproven(message, "See the differences in the report.")

    @property
    def wrong(self) -> str:
        """Return the counts of the classes that make the two sides different."""
        wrong = {name: self.counts[name] for name in DIFFERENT if self.counts[name]}
        return ", ".join(f"{count} {name}" for name, count in wrong.items())


@dataclass(frozen=True)
class Derivation:
    """How a row becomes an item, told apart from ``transform``."""

    source: SourceTable
    namespace: UUID
    provenance: bool = False

    @property
    def attributes(self) -> tuple[str, ...]:
        """Return the attributes that are compared."""
        return ITEM_ATTRIBUTES + (PROVENANCE_ATTRIBUTES if self.provenance else ())

    def item(self, row: Sequence[str | None]) -> Item:
        """Derive the item of a row, given as id, name and both times."""
        source_id, name, created, updated = row
        integer = self.source.id_kind == "integer"
        identity = uuid5(self.namespace, str(source_id)) if integer else UUID(source_id)
        own: dict[str, Any] = {
            "PK": f"ENT#{identity}",
            "SK": "METADATA",
            "id": str(identity),
            "enterprise_name": name,
            "name": name,
            "created_date": created,
            "createdAt": created,
            "updated_date": updated,
            "updatedAt": updated,
            "entity_type": "enterprise",
        }
        if self.provenance:
            own |= {"migrated_from_pg": True, "original_pg_id": int(str(source_id))}
        return own


def reconcile_enterprises(
    connection: Connection,
    table: EnterpriseTable,
    derivation: Derivation,
    *,
    quarantined: frozenset[str] = frozenset(),
    breaks_suite: Callable[[pd.DataFrame], Sequence[bool]] | None = None,
) -> ReconciliationReport:
    """Compare every row with every enterprise item, in both directions.

    The table is scanned whole, strongly consistent; what seems different is read once
    more before it is reported. *quarantined* are the source ids that are explained by
    the quarantine; *breaks_suite* tells which items without a row are malformed.
    """
    items = _digest_items(table, derivation.attributes)
    target_items = len(items)
    counts = dict.fromkeys(CLASSES, 0)
    doubtful: list[tuple[str, Item]] = []
    source_rows = 0
    for row in stream_rows(connection, derivation.source):
        source_rows += 1
        item = derivation.item(row)
        found = items.pop(str(item["PK"]), None)
        if row[0] in quarantined:
            counts["explained"] += 1
        elif found == digest(item.values()):
            counts["matched"] += 1
        else:
            doubtful.append((str(row[0]), item))
    differences = [*_settle(table, doubtful), *_unmatched(table, items, breaks_suite)]
    counts |= Counter(d.kind for d in differences if d.kind != "matched")
    counts["matched"] += sum(d.kind == "matched" for d in differences)
    differing = tuple(d for d in differences if d.kind != "matched")
    return ReconciliationReport(source_rows, target_items, counts, differing)


def stream_rows(
    connection: Connection, source: SourceTable
) -> Iterator[tuple[str | None, ...]]:
    """Stream the source's rows as id, name and both times in the item's form."""
    created = timestamp_expression(
        source.created_column, source, zoneless=source.created_zoneless
    )
    updated = timestamp_expression(
        source.updated_column, source, zoneless=source.updated_zoneless
    )
    query = DERIVE_ROWS.format(
        id=sql.Identifier(source.id_column),
        name=sql.Identifier(source.name_column),
        created=ISO_TEXT.format(first=created, second=updated),
        updated=ISO_TEXT.format(first=updated, second=created),
        table=sql.Identifier(source.schema, source.table),
        where=sql.SQL(""),
    )
    with translated_errors(), connection.cursor("reconcile") as cursor:
        cursor.itersize = FETCH_ROWS
        cursor.execute(query)
        yield from cursor


def _digest_items(
    table: EnterpriseTable, attributes: Sequence[str]
) -> dict[str, bytes]:
    return {
        str(item["PK"]): digest(item.get(name) for name in attributes)
        for page in table.scan(attributes)
        for item in page
    }


def _settle(
    table: EnterpriseTable, doubtful: Sequence[tuple[str, Item]]
) -> Iterator[Difference]:
    for start in range(0, len(doubtful), READ_KEYS):
        chunk = doubtful[start : start + READ_KEYS]
        there = table.read([str(item["PK"]) for _, item in chunk])
        for source_id, item in chunk:
            yield _compare(source_id, item, there.get(str(item["PK"])))


def _compare(source_id: str, item: Item, there: Item | None) -> Difference:
    if there is None:
        return Difference("missing", source_id, str(item["id"]))
    fields = {
        name: {"source": value, "target": there.get(name)}
        for name, value in item.items()
        if there.get(name) != value
    }
    kind = "mismatched" if fields else "matched"
    if fields and is_enterprise(there) and is_newer(there, str(item["updatedAt"])):
        kind = "newer_in_target"
    return Difference(kind, source_id, str(item["id"]), fields)


def _unmatched(
    table: EnterpriseTable,
    items: Mapping[str, bytes],
    breaks_suite: Callable[[pd.DataFrame], Sequence[bool]] | None,
) -> Iterator[Difference]:
    keys = list(items)
    for start in range(0, len(keys), READ_KEYS):
        chunk = table.read(keys[start : start + READ_KEYS])
        there = [item for item in chunk.values() if is_enterprise(item)]
        if not there:
            continue
        frame = pd.DataFrame(there, dtype=object).reindex(columns=list(ITEM_ATTRIBUTES))
        frame = frame.where(frame.notna(), None)
        broken = breaks_suite(frame) if breaks_suite else [False] * len(there)
        for item, malformed in zip(there, broken, strict=True):
            kind = "malformed" if malformed else "extra"
            identity = str(item.get("id", str(item["PK"]).removeprefix("ENT#")))
            yield Difference(kind, None, identity)
