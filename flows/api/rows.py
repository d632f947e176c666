"""The source table in SQLAlchemy's terms, and conversion of its rows to enterprises."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    TIMESTAMP,
    Row,
    Select,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal,
    literal_column,
    select,
    tuple_,
)
from sqlalchemy.sql.expression import ColumnElement, TableClause

from flows.api.store import Enterprise, Position
from flows.models import SourceTable

STAMP = 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'
INSTANT = TIMESTAMP(timezone=True)
# Characters of a name in a position: a cursor must fit into the head of a request.
BEGINNING = 100


@dataclass(frozen=True)
class Rows:
    """The source table as it was found; *utf8* is whether that is its encoding."""

    source: SourceTable
    table: TableClause
    utf8: bool

    @property
    def id(self) -> ColumnElement[Any]:
        """Return the id column."""
        return self.table.c[self.source.id_column]

    @property
    def name(self) -> ColumnElement[Any]:
        """Return the name column."""
        return self.table.c[self.source.name_column]

    @property
    def shown(self) -> tuple[ColumnElement[Any], ...]:
        """Return the four columns as the service shows them."""
        source = self.source
        created = self._stamp(source.created_column, zoneless=source.created_zoneless)
        updated = self._stamp(source.updated_column, zoneless=source.updated_zoneless)
        return self.id, self.name, created, updated

    def stamped(self, *, creating: bool) -> dict[str, ColumnElement[Any]]:
        """Return the time columns that a change sets, each to the value ``now``."""
        source = self.source
        zoneless = {source.updated_column: source.updated_zoneless}
        if creating:
            zoneless[source.created_column] = source.created_zoneless
        now: ColumnElement[Any] = cast(bindparam("now"), INSTANT)
        local = func.timezone(source.timezone, now)
        return {name: local if without else now for name, without in zoneless.items()}

    def select_by_id(self, after: Position | None) -> Select[Any]:
        """Return the query of the rows after a position, by id."""
        query = select(*self.shown).order_by(self.id)
        return query if after is None else query.where(self.id > after)

    def select_by_name(self, after: Position | None) -> Select[Any]:
        """Return the query of the rows after a position, in the order of lists."""
        key = self._sort_key(self._text, self.id)
        query = select(*self.shown, self._beginning).order_by(*key)
        if not isinstance(after, list):
            return query
        beginning, last = after
        start = self._sort_key(self._name_at(str(beginning), last), literal(last))
        return query.where(tuple_(*key) > tuple_(*start))

    def position(self, row: Row[Any]) -> Position:
        """Return the position of a row of one of these queries."""
        key, beginning = as_enterprise(row).id, row[4:]
        return [*beginning, key] if beginning else key

    @property
    def _text(self) -> ColumnElement[Any]:
        """Return the name as lists sort it: a missing one is empty."""
        return func.coalesce(cast(self.name, Text), "")

    @property
    def _beginning(self) -> ColumnElement[Any]:
        return func.left(self._text, BEGINNING, type_=Text)

    def _sort_key(
        self, name: ColumnElement[Any], key: ColumnElement[Any]
    ) -> tuple[ColumnElement[Any], ...]:
        by_text = self.source.id_kind == "text"
        return self._ordered(name), self._ordered(key) if by_text else key

    def _ordered(self, text: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return a text in the order of code points, whatever the database's is."""
        # The collation C compares bytes, which only in UTF-8 have the same order.
        return text.collate("C") if self.utf8 else func.convert_to(text, "UTF8")

    def _name_at(self, beginning: str, last: int | str) -> ColumnElement[Any]:
        """Return the name at a position, which has only the beginning of a long one."""
        text = literal(beginning, Text)
        if len(beginning) < BEGINNING:
            return text
        # If that row is gone, the rows with the same beginning are read again.
        same = self._beginning.collate("C") == text
        there = select(self._text).where(self.id == last, same).correlate(None)
        return func.coalesce(there.scalar_subquery(), text)

    def _stamp(self, name: str, *, zoneless: bool) -> ColumnElement[Any]:
        at: ColumnElement[Any] = self.table.c[name]
        if zoneless:
            at = func.timezone(self.source.timezone, cast(at, TIMESTAMP))
        fits = and_(
            at >= literal_column("timestamptz '0001-01-01 00:00:00+00'"),
            at < literal_column("timestamptz '10000-01-01 00:00:00+00'"),
        )
        # Times that ISO 8601 cannot express, e.g. infinity, are PostgreSQL's text.
        return case(
            (fits, func.to_char(func.timezone("UTC", at), STAMP)),
            else_=cast(at, Text),
        )


def as_enterprise(row: Row[Any]) -> Enterprise:
    """Convert a row as the migration does: a missing time is set to the other one."""
    key, name, created, updated, *_ = row
    # The driver returns a UUID as an object.
    shown = key if isinstance(key, int) else str(key)
    return Enterprise(shown, name, created or updated, updated or created)
