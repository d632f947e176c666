"""Rows and expected items of reconciliation, independent of ``transform``.

SQL formats the times and the standard library derives the ids, so that one bug cannot
affect both sides. The selection of rows is all that is shared with extraction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from io import BytesIO
from typing import Any
from uuid import UUID, uuid5

import pyarrow as pa
import pyarrow.compute as pc
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812
from pyarrow import csv

from flows.extract import changed_since, is_among
from flows.models import ITEM_ATTRIBUTES, PROVENANCE_ATTRIBUTES, Item, SourceTable
from flows.models.digests import DIGEST, digest_texts
from flows.stores.postgres.session import translating_errors

COPY_BYTES = 4_000_000
TEXT = pa.large_string()
KEY = pa.large_binary()
NO_TEXT = pa.scalar("", TEXT)
COLUMNS = ("source_id", "name", "created", "updated")
DERIVED = pa.schema(
    [("key", KEY), ("digest", DIGEST), *((name, TEXT) for name in COLUMNS)]
)

# In CSV an empty name is quoted and NULL is not: no value is mistaken for NULL.
DERIVE_ROWS = sql.SQL("""
COPY (SELECT {id}::text, {name}, {created}, {updated} FROM {table} WHERE {changed}
{chosen}) TO STDOUT (FORMAT csv)
""")
BY_CHANCE = sql.SQL("ORDER BY random() LIMIT {}")
# PostgreSQL's parser reads a local time with its zone; extraction uses AT TIME ZONE
# instead. A time that is outside an item's years in every zone becomes infinite.
ZONED = sql.SQL("""
CASE WHEN {column} >= DATE '0002-01-01 BC' AND {column} < DATE '10001-01-01'
THEN ({column}::timestamp::text || {zone})::timestamptz
WHEN {column} IS NOT NULL THEN 'infinity' END
""")
# date_trunc truncates, as the timestamp rule requires; to_char then only formats. Times
# beyond the bounds, including infinities, become NULL, since to_char would hide BC.
ISO_TEXT = sql.SQL("""
CASE WHEN coalesce({first}, {second}) >= '0001-01-01 00:00:00+00'
      AND coalesce({first}, {second}) < '10000-01-01 00:00:00+00'
THEN to_char(date_trunc('milliseconds', coalesce({first}, {second}) AT TIME ZONE 'UTC'),
             'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
END
""")


@dataclass(frozen=True)
class ExpectedItems:
    """The derivation of items from rows, independent of ``transform``."""

    source: SourceTable
    namespace: UUID
    provenance: bool = False
    # Ids that several rows share; none of these rows can be proven.
    shared: frozenset[str] = frozenset()

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

    def derive(self, rows: pa.Table) -> pa.Table:
        """Derive keys and digests of rows; a row that cannot be an item has no digest.

        A row that shares its id with another row has no digest either.
        """
        rows = rows.combine_chunks()
        source_ids, name, created, updated = (rows[c].combine_chunks() for c in COLUMNS)
        ids = pa.array(self._ids(source_ids.to_pylist()), TEXT)
        keys = pc.binary_join_element_wise(pa.scalar("ENT#", TEXT), ids, NO_TEXT)
        named: list[Any] = [keys, "METADATA", ids, name, name]
        named += [created, created, updated, updated, "enterprise"]
        texts = [("s", part) for part in named]
        if self.provenance:
            texts += [("b", "True"), ("i", source_ids)]
        # Null if one of them is null.
        whole = pc.is_valid(pc.binary_join_element_wise(name, created, updated, name))
        if self.shared:
            claimed = pc.is_in(ids, value_set=pa.array(sorted(self.shared), TEXT))
            whole = pc.and_(whole, pc.invert(claimed))
        digests = digest_texts(texts, len(rows))
        digests = pc.if_else(whole, digests, pa.scalar(None, DIGEST))
        columns = [pc.cast(keys, KEY), digests, source_ids, name, created]
        return pa.table([*columns, updated], schema=DERIVED)

    def _ids(self, source_ids: Sequence[str]) -> list[str]:
        if self.source.id_kind != "integer":
            return [str(UUID(text)) for text in source_ids]
        # As in uuid5, but on hexadecimal digits: version 5, then the variant's bits.
        space = self.namespace.bytes
        hexes = (sha1(space + text.encode()).hexdigest() for text in source_ids)  # noqa: S324
        variant = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
        return [
            f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{variant[h[16]]}{h[17:20]}-{h[20:32]}"
            for h in hexes
        ]


class _Chunks:
    """Collects rows from COPY, one per call, and passes on chunks of whole rows."""

    def __init__(self, take: Callable[[pa.Table], None]) -> None:
        self._take = take
        self._content = BytesIO()

    def write(self, row: bytes) -> None:
        """Add one row."""
        self._content.write(row)
        if self._content.tell() >= COPY_BYTES:
            self.flush()

    def flush(self) -> None:
        """Pass on the collected rows."""
        if self._content.tell():
            content, self._content = self._content.getvalue(), BytesIO()
            self._take(_read_csv(content))


@dataclass(frozen=True)
class Selection:
    """The rows to compare: all, or those selected in one of three ways."""

    # Rows that were stamped since this time.
    since: str | None = None
    # This many random rows, each equally likely.
    sample: int | None = None
    # The rows of these ids.
    ids: Sequence[str] | None = None

    @property
    def mode(self) -> str:
        """Return ``full``, ``sampled`` or ``partial``."""
        if self.sample is not None:
            return "sampled"
        return "full" if self.since is None and self.ids is None else "partial"


ALL_ROWS = Selection()


def copy_rows(
    connection: Connection,
    source: SourceTable,
    take: Callable[[pa.Table], None],
    selection: Selection = ALL_ROWS,
) -> None:
    """Stream the selected rows: id, name and both times in the item's form."""
    since, sample, ids = selection.since, selection.sample, selection.ids
    created = _moment(source.created_column, source, zoneless=source.created_zoneless)
    updated = _moment(source.updated_column, source, zoneless=source.updated_zoneless)
    query = DERIVE_ROWS.format(
        id=sql.Identifier(source.id_column),
        name=sql.Identifier(source.name_column),
        created=ISO_TEXT.format(first=created, second=updated),
        updated=ISO_TEXT.format(first=updated, second=created),
        table=sql.Identifier(source.schema, source.table),
        changed=changed_since(source, since) if ids is None else is_among(source, ids),
        chosen=sql.SQL("") if sample is None else BY_CHANCE.format(sql.Literal(sample)),
    )
    chunks = _Chunks(take)
    with translating_errors(), connection.cursor() as cursor:
        cursor.copy_expert(query, chunks)
    chunks.flush()


def _moment(column: str, source: SourceTable, *, zoneless: bool) -> sql.Composable:
    name = sql.Identifier(column)
    zone = sql.Literal(f" {source.timezone}")
    return ZONED.format(column=name, zone=zone) if zoneless else name


def _read_csv(content: bytes) -> pa.Table:
    return csv.read_csv(
        pa.BufferReader(content),
        # One block, since no row may exceed a block.
        csv.ReadOptions(
            use_threads=False, block_size=len(content), column_names=COLUMNS
        ),
        csv.ParseOptions(newlines_in_values=True),
        csv.ConvertOptions(
            column_types=dict.fromkeys(COLUMNS, TEXT),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
