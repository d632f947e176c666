"""Columns of a table as they were found, and the types that their values can have."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args

from flows.mapping.model import FieldType
from flows.models import IdKind

ID_KINDS: dict[str, IdKind] = {
    "int2": "integer",
    "int4": "integer",
    "int8": "integer",
    "uuid": "uuid",
    "text": "text",
    "varchar": "text",
    "bpchar": "text",
}
NAME_TYPES = frozenset({"text", "varchar", "bpchar", "citext"})
ZONELESS_TYPES = frozenset({"timestamp", "date"})
TIME_TYPES = ZONELESS_TYPES | {"timestamptz"}
EXACT_NUMBERS = frozenset({"int2", "int4", "int8", "numeric"})
USUAL_TYPES: Mapping[str, FieldType] = {
    **dict.fromkeys(EXACT_NUMBERS, "number"),
    "bool": "boolean",
    "json": "json",
    "jsonb": "json",
    "bytea": "binary",
    "timestamp": "timestamp",
    "timestamptz": "timestamp",
    "date": "date",
}
# The types of elements that become more than text in a list.
LISTED: tuple[FieldType, ...] = ("number", "boolean", "json", "binary")
# A float's text is the shortest that reads back as the same float, so it is exact.
FITTING: Mapping[FieldType, frozenset[str]] = {
    "number": EXACT_NUMBERS | {"float4", "float8"},
    "boolean": frozenset({"bool"}),
    "timestamp": TIME_TYPES,
    "date": frozenset({"date"}),
    "json": frozenset({"json", "jsonb"}),
    "binary": frozenset({"bytea"}),
}
# A domain may be based on another. The elements of an array are those of its typarray:
# oidvector has elements too, and is no array. A type with the name of a built-in one is
# named with its schema. Older rows may violate a NOT NULL that is not valid.
TYPE_NAME = """
CASE WHEN t.typnamespace <> 'pg_catalog'::regnamespace AND EXISTS (
    SELECT FROM pg_type b
    WHERE b.typname = t.typname AND b.typnamespace = 'pg_catalog'::regnamespace)
THEN format_type(t.oid, NULL) ELSE t.typname::text END AS name
"""
FIND_COLUMNS = f"""
SELECT a.attname, base.name, format_type(base.oid, NULL), element.name,
       a.attnotnull AND EXISTS (
         SELECT FROM pg_index i
         WHERE i.indrelid = a.attrelid AND i.indisunique AND i.indisvalid
           AND i.indpred IS NULL AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum)
         AND NOT EXISTS (
         SELECT FROM pg_constraint n
         WHERE n.conrelid = a.attrelid AND n.contype = 'n' AND NOT n.convalidated
           AND n.conkey[1] = a.attnum),
       has_column_privilege(a.attrelid, a.attnum, 'SELECT')
FROM pg_attribute a CROSS JOIN LATERAL (
    WITH RECURSIVE types AS (
        SELECT t.* FROM pg_type t WHERE t.oid = a.atttypid
        UNION ALL
        SELECT t.* FROM pg_type t JOIN types d ON t.oid = d.typbasetype
    )
    SELECT oid, typelem, {TYPE_NAME} FROM types t WHERE typbasetype = 0
) base LEFT JOIN LATERAL (
    WITH RECURSIVE types AS (
        SELECT t.* FROM pg_type t WHERE t.oid = base.typelem AND t.typarray = base.oid
        UNION ALL
        SELECT t.* FROM pg_type t JOIN types d ON t.oid = d.typbasetype
    )
    SELECT {TYPE_NAME} FROM types t WHERE typbasetype = 0
) element ON true
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""  # noqa: S608 - only constants


@dataclass(frozen=True)
class Column:
    """A column: its type by the base type of domains, and what this role may do.

    *type* is PostgreSQL's name, *shown* is the same as SQL writes it, and *element* is
    the type of an array's elements. *is_key* is whether values are unique and not null.
    """

    name: str
    type: str
    shown: str
    element: str | None = None
    is_key: bool = False
    readable: bool = True

    @property
    def pg_type(self) -> str:
        """Return the base type's name; of an array that of its elements."""
        return self.element or self.type

    @property
    def usual_type(self) -> FieldType:
        """Return the type that values have unless a mapping names another."""
        return "list" if self.element else USUAL_TYPES.get(self.type, "text")

    @property
    def zoneless(self) -> bool:
        """Return whether its times have no time zone."""
        return self.type in ZONELESS_TYPES

    def fits(self, wanted: FieldType) -> bool:
        """Return whether the values can have a type without a loss."""
        if wanted in {"list", "string_set"}:
            return self.element is not None
        if wanted == "number_set":
            return self.element in EXACT_NUMBERS
        return wanted == "text" or self.type in FITTING[wanted]

    @property
    def fitting_types(self) -> list[FieldType]:
        """Return the types that the values can have."""
        return [one for one in get_args(FieldType) if self.fits(one)]

    def element_of(self, wanted: FieldType) -> FieldType:
        """Return what the elements become in a list or a set."""
        if wanted == "number_set":
            return "number"
        usual = USUAL_TYPES.get(self.element or "", "text")
        return usual if wanted == "list" and usual in LISTED else "text"


def read_columns(cursor: Any, oid: int) -> dict[str, Column]:
    """Return the columns of a table by name, in its order."""
    cursor.execute(FIND_COLUMNS, [oid])
    return {str(row[0]): Column(*row) for row in cursor.fetchall()}


def describe_missing(name: str, names: Iterable[str], what: str = "columns") -> str:
    """Return the names that are similar to a missing one, or all, for a message."""
    names = list(names)
    lower: dict[str, list[str]] = {}
    for one in names:
        lower.setdefault(one.lower(), []).append(one)
    near = [n for key in get_close_matches(name.lower(), lower) for n in lower[key]]
    if near:
        return f"similar: {', '.join(near)}"
    return f"the {what} are: {', '.join(names)}"
