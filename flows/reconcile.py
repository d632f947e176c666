"""Rows against items, field by field: the proof.

The rows are derived from PostgreSQL by SQL text and the standard library, along a path
that shares nothing with ``transform``: one bug cannot agree with itself.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias
from uuid import UUID, uuid5

import pandas as pd
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.errors import Unproven
from flows.extract import changed_since, is_among, timestamp_expression
from flows.models import (
    ITEM_ATTRIBUTES,
    PROVENANCE_ATTRIBUTES,
    Difference,
    Item,
    Report,
    SourceTable,
    Trace,
    digest,
    is_enterprise,
    is_newer,
    is_theirs,
    same_value,
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
    "created_in_target",
)
DIFFERENT = ("missing", "extra", "mismatched", "malformed")
FIRST_DIFFERENCES = 1_000
FETCH_ROWS = 10_000

# Returns, for some ids, what earlier runs left of their items.
Known: TypeAlias = Callable[[set[str]], Mapping[str, Trace]]

DERIVE_ROWS = sql.SQL("""
SELECT {id}::text, {name}, {created}, {updated} FROM {table} WHERE {changed}
""")
# date_trunc cuts, as the timestamp rule demands; to_char then only writes. Beyond the
# bounds, infinities among it, nothing is an item's time: to_char would hide BC.
ISO_TEXT = sql.SQL("""
CASE WHEN coalesce({first}, {second}) >= '0001-01-01 00:00:00+00'
      AND coalesce({first}, {second}) < '10000-01-01 00:00:00+00'
THEN to_char(date_trunc('milliseconds', coalesce({first}, {second}) AT TIME ZONE 'UTC'),
             'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
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


def reconcile_enterprises(  # noqa: PLR0913 - each is a question of its own
    connection: Connection,
    table: EnterpriseTable,
    derivation: Derivation,
    *,
    quarantined: frozenset[str] = frozenset(),
    breaks_suite: Callable[[pd.DataFrame], Sequence[bool]] | None = None,
    known: Known | None = None,
    since: str | None = None,
    ids: Sequence[str] | None = None,
) -> ReconciliationReport:
    """Compare every row with every enterprise item, in both directions.

    The table is scanned whole, strongly consistent; what seems different is read once
    more before it is reported. *quarantined* are the source ids that are explained by
    the quarantine; *breaks_suite* tells which items without a row are malformed.

    After the cutover *known* says how earlier runs left some items: what is otherwise
    now is the application's own right. With *since*, only the rows stamped since then
    are compared, with the items of the same keys; with *ids*, so are only these rows.
    """
    some = since is not None or ids is not None
    items = {} if some else _digest_items(table, derivation.attributes)
    target_items = len(items)
    counts = dict.fromkeys(CLASSES, 0)
    doubtful: list[tuple[str, Item]] = []
    source_rows = 0
    for row in stream_rows(connection, derivation.source, since, ids):
        source_rows += 1
        item = derivation.item(row)
        found = items.pop(str(item["PK"]), None)
        if row[0] in quarantined:
            counts["explained"] += 1
        elif None not in item.values() and found == digest(item.values()):
            counts["matched"] += 1
        else:
            doubtful.append((str(row[0]), item))
    differences = [*_settle(table, doubtful), *_unmatched(table, items, breaks_suite)]
    if known is not None:
        differences = _after_cutover(differences, table, dict(doubtful), known)
    counts |= Counter(d.kind for d in differences if d.kind != "matched")
    counts["matched"] += sum(d.kind == "matched" for d in differences)
    differing = tuple(d for d in differences if d.kind != "matched")
    if some:
        target_items = source_rows - counts["missing"] - counts["deleted_in_target"]
    return ReconciliationReport(source_rows, target_items, counts, differing)


def stream_rows(
    connection: Connection,
    source: SourceTable,
    since: str | None = None,
    ids: Sequence[str] | None = None,
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
        changed=changed_since(source, since) if ids is None else is_among(source, ids),
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
        if value is None or not same_value(there.get(name), value)
    }
    kind = "mismatched" if fields else "matched"
    stamp = item["updatedAt"]
    if fields and stamp and is_enterprise(there) and is_newer(there, str(stamp)):
        kind = "newer_in_target"
    return Difference(kind, source_id, str(item["id"]), fields)


def _after_cutover(
    differences: Sequence[Difference],
    table: EnterpriseTable,
    rows: Mapping[str, Item],
    known: Known,
) -> list[Difference]:
    """Tell what the application did, in its own right, from what is wrong."""
    wrong = [d for d in differences if d.kind in DIFFERENT]
    ours = known({d.id for d in wrong})
    kinds: dict[int, str] = {}
    for difference in wrong:
        if difference.source_id is None:
            if difference.id not in ours:
                kinds[id(difference)] = "created_in_target"
            continue
        item = rows[difference.source_id]
        there = table.read([str(item["PK"])]).get(str(item["PK"]))
        # A row that can be no item is nothing that the application did.
        if None not in item.values() and is_theirs(ours, item, there):
            gone = there is None
            kinds[id(difference)] = "deleted_in_target" if gone else "newer_in_target"
    return [replace(d, kind=kinds.get(id(d), d.kind)) for d in differences]


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
        rows = [[item.get(name) for name in ITEM_ATTRIBUTES] for item in there]
        frame = pd.DataFrame(rows, columns=list(ITEM_ATTRIBUTES), dtype=object)
        broken = breaks_suite(frame) if breaks_suite else [False] * len(there)
        for item, malformed in zip(there, broken, strict=True):
            kind = "malformed" if malformed else "extra"
            identity = str(item.get("id", str(item["PK"]).removeprefix("ENT#")))
            yield Difference(kind, None, identity)
