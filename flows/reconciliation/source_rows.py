"""The rows of a source as reconciliation reads them: SQL derives the texts of values.

SQL formats times, dates, arrays and bytes, so that one bug cannot affect both sides.
The selection of rows is all that is shared with extraction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO

import pyarrow as pa
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812
from pyarrow import csv

from flows.models import Field, SourceTable
from flows.stores.postgres.conditions import changed_since, is_among
from flows.stores.postgres.session import translating_errors

COPY_BYTES = 4_000_000
TEXT = pa.large_string()

# In CSV an empty name is quoted and NULL is not: no value is mistaken for NULL.
DERIVE_ROWS = sql.SQL("""
COPY (SELECT {texts} FROM {table} WHERE {condition}
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
ISO_DATE = sql.SQL("""
CASE WHEN {column} >= DATE '0001-01-01' AND {column} < DATE '10000-01-01'
THEN to_char({column}, 'YYYY-MM-DD') END
""")
# A value beyond the bounds keeps PostgreSQL's text, which has another form.
OR_AS_IT_IS = sql.SQL("coalesce({text}, {column}::text)")
AS_TEXT = sql.SQL("{column}::text")
# Not jsonb: elements of type json may be no jsonb, as those with U+0000.
ELEMENTS = sql.SQL("to_json({column})::text")
TEXT_ELEMENTS = sql.SQL("to_json({column}::text[])::text")
BASE64 = sql.SQL("translate(encode({column}, 'base64'), E'\\n', '')")
# A cast to text would cut off the blanks of char(n), and add a mask to addresses.
UNCAST_ELEMENTS = frozenset({"bpchar", "character", "inet"})
JSON_ELEMENTS = frozenset({"number", "boolean", "json"})


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
    """Stream the selected rows as texts, in the columns of the source.

    Times and dates have the form that they have in items, or PostgreSQL's text if they
    cannot be in one; the times of creation and of the last change are then NULL. Bytes
    are in base64, lists and sets are JSON; each other value is PostgreSQL's text.
    """
    since, sample, ids = selection.since, selection.sample, selection.ids
    texts = [
        AS_TEXT.format(column=sql.Identifier(source.id_column)),
        *(text_expression(one, source) for one in source.fields),
    ]
    query = DERIVE_ROWS.format(
        texts=sql.SQL(", ").join(texts),
        table=sql.Identifier(source.schema, source.table),
        condition=changed_since(source, since)
        if ids is None
        else is_among(source, ids),
        chosen=sql.SQL("") if sample is None else BY_CHANCE.format(sql.Literal(sample)),
    )
    chunks = _Chunks(take, source.columns)
    with translating_errors(), connection.cursor() as cursor:
        cursor.copy_expert(query, chunks)
    chunks.flush()


def text_expression(field: Field, source: SourceTable) -> sql.Composable:
    """Return the SQL of a field's text, from which its value is derived."""
    column = sql.Identifier(field.column)
    if field in source.moments:
        other = next((one for one in source.moments if one != field), field)
        first, second = _moment(field, source), _moment(other, source)
        return ISO_TEXT.format(first=first, second=second)
    if field.reference:
        return AS_TEXT.format(column=column)
    if field.type == "timestamp":
        moment = _moment(field, source)
        text = ISO_TEXT.format(first=moment, second=moment)
        return OR_AS_IT_IS.format(text=text, column=column)
    if field.type == "date":
        return OR_AS_IT_IS.format(text=ISO_DATE.format(column=column), column=column)
    # COPY writes booleans as t and f, and each other type as PostgreSQL shows it.
    if field.type == "text" and field.pg_type != "bool":
        return column
    return _template_of(field).format(column=column)


def _template_of(field: Field) -> sql.SQL:
    if field.type == "binary":
        return BASE64
    if field.type in {"list", "string_set", "number_set"}:
        whole = field.type == "list" and field.element in JSON_ELEMENTS
        return ELEMENTS if whole or field.pg_type in UNCAST_ELEMENTS else TEXT_ELEMENTS
    return AS_TEXT


def _moment(field: Field, source: SourceTable) -> sql.Composable:
    name = sql.Identifier(field.column)
    zone = sql.Literal(f" {source.timezone}")
    return ZONED.format(column=name, zone=zone) if field.zoneless else name


class _Chunks:
    """Collects rows from COPY, one per call, and passes on chunks of whole rows."""

    def __init__(
        self, take: Callable[[pa.Table], None], columns: Sequence[str]
    ) -> None:
        self._take = take
        self._columns = columns
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
            self._take(_read_csv(content, self._columns))


def _read_csv(content: bytes, columns: Sequence[str]) -> pa.Table:
    return csv.read_csv(
        pa.BufferReader(content),
        # One block, since no row may exceed a block.
        csv.ReadOptions(
            use_threads=False, block_size=len(content), column_names=columns
        ),
        csv.ParseOptions(newlines_in_values=True),
        csv.ConvertOptions(
            column_types=dict.fromkeys(columns, TEXT),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
