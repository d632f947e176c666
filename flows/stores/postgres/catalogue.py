"""The catalogue of the source: the table, and the tables that refer to it.

Each kind of fact is read by one statement, for all tables at once.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.errors import SourceError
from flows.mapping.catalogue import (
    CatalogueColumn,
    CatalogueTable,
    ForeignKey,
    TableName,
)
from flows.stores.postgres.check_lists import listed_values
from flows.stores.postgres.columns import ID_KINDS
from flows.stores.postgres.session import translating_errors

# The oid of a table, and the number of its column.
_Place = tuple[int, int]

# A partition's foreign key is its parent's, and its rows are read from its parent.
FIND_TABLES = """
WITH RECURSIVE reached (oid) AS (
    SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relname = %s
    UNION
    SELECT f.conrelid FROM reached r
    JOIN pg_constraint f ON f.confrelid = r.oid JOIN pg_class c ON c.oid = f.conrelid
    WHERE f.contype = 'f' AND cardinality(f.conkey) = 1 AND f.conparentid = 0
      AND NOT c.relispartition
)
SELECT c.oid, n.nspname, c.relname,
       CASE WHEN c.relkind <> 'p' THEN nullif(c.reltuples, -1)
            ELSE (SELECT CASE WHEN bool_and(l.reltuples >= 0) THEN sum(l.reltuples) END
                  FROM pg_partition_tree(c.oid) t JOIN pg_class l ON l.oid = t.relid
                  WHERE t.isleaf) END,
       has_schema_privilege(n.oid, 'USAGE'), row_security_active(c.oid),
       c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid)
FROM reached r JOIN pg_class c ON c.oid = r.oid
JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY n.nspname <> %s OR c.relname <> %s, n.nspname, c.relname
"""
# A domain may be based on another, and each of them may refuse NULL.
FIND_COLUMNS = """
SELECT a.attrelid, a.attnum, a.attname, quote_ident(a.attname),
       format_type(a.atttypid, a.atttypmod),
       coalesce(element.typname, base.typname), element.oid IS NOT NULL,
       coalesce(element.oid, base.oid), a.attnotnull OR base.not_null,
       has_column_privilege(a.attrelid, a.attnum, 'SELECT'),
       coalesce(l.collisdeterministic, true)
FROM pg_attribute a CROSS JOIN LATERAL (
    WITH RECURSIVE types AS (
        SELECT oid, typname, typbasetype, typcategory, typelem, typnotnull
        FROM pg_type WHERE oid = a.atttypid
        UNION ALL
        SELECT t.oid, t.typname, t.typbasetype, t.typcategory, t.typelem,
               t.typnotnull OR d.typnotnull
        FROM pg_type t JOIN types d ON t.oid = d.typbasetype
    )
    SELECT oid, typname, typcategory, typelem, typnotnull AS not_null
    FROM types WHERE typbasetype = 0
) base
LEFT JOIN pg_type element ON element.oid = base.typelem AND base.typcategory = 'A'
LEFT JOIN pg_collation l ON l.oid = a.attcollation
WHERE a.attrelid = ANY (%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
"""
FIND_LABELS = """
SELECT enumtypid, array_agg(enumlabel::text ORDER BY enumsortorder)
FROM pg_enum WHERE enumtypid = ANY (%s::oid[]) GROUP BY enumtypid
"""
# Older rows may violate a check that is not valid.
FIND_CHECKS = """
SELECT conrelid, conkey[1], pg_get_expr(conbin, conrelid)
FROM pg_constraint
WHERE contype = 'c' AND conrelid = ANY (%s::oid[]) AND cardinality(conkey) = 1
  AND convalidated
ORDER BY conrelid, conname
"""
FIND_DOMAIN_CHECKS = """
SELECT a.attrelid, a.attnum, pg_get_expr(k.conbin, 0)
FROM pg_attribute a CROSS JOIN LATERAL (
    WITH RECURSIVE types AS (
        SELECT oid, typbasetype FROM pg_type WHERE oid = a.atttypid
        UNION ALL
        SELECT t.oid, t.typbasetype FROM pg_type t JOIN types d ON t.oid = d.typbasetype
    )
    SELECT oid FROM types
) type
JOIN pg_constraint k ON k.contypid = type.oid AND k.contype = 'c' AND k.convalidated
WHERE a.attrelid = ANY (%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum, k.conname
"""
# As for the source table: older rows may violate a NOT NULL that is not valid.
FIND_KEYS = """
SELECT i.indrelid, i.indkey[0]
FROM pg_index i
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indrelid = ANY (%s::oid[]) AND i.indisunique AND i.indisvalid
  AND i.indpred IS NULL AND i.indnkeyatts = 1 AND a.attnotnull
  AND NOT EXISTS (
    SELECT FROM pg_constraint n
    WHERE n.conrelid = i.indrelid AND n.contype = 'n' AND NOT n.convalidated
      AND n.conkey[1] = a.attnum)
ORDER BY i.indrelid, NOT i.indisprimary, a.attnum
"""
FIND_FOREIGN_KEYS = """
SELECT f.conrelid, n.nspname, c.relname, f.confrelid, tn.nspname, t.relname,
       (SELECT array_agg(a.attname::text ORDER BY k.place)
        FROM unnest(f.conkey) WITH ORDINALITY AS k (attnum, place)
        JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.attnum),
       (SELECT array_agg(a.attname::text ORDER BY k.place)
        FROM unnest(f.confkey) WITH ORDINALITY AS k (attnum, place)
        JOIN pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.attnum)
FROM pg_constraint f
JOIN pg_class c ON c.oid = f.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class t ON t.oid = f.confrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
WHERE f.contype = 'f' AND f.conparentid = 0 AND NOT c.relispartition
  AND (f.conrelid = ANY (%(oids)s::oid[]) OR f.confrelid = ANY (%(oids)s::oid[]))
ORDER BY n.nspname, c.relname, f.conkey, f.conname
"""


def read_catalogue(
    connection: Connection, root: TableName
) -> tuple[CatalogueTable, ...]:
    """Read what the catalogue says of a table, and of the tables that refer to it.

    The root is the first. A table belongs to them if it refers to the root, or to
    another of them, by a foreign key on a single column. Of a partitioned table only
    the parent is among them. The catalogue needs no privilege on the tables.

    Raises:
        SourceError: the root is not in the database, or a statement is refused.
    """
    with translating_errors(), connection.cursor() as cursor:
        cursor.execute(FIND_TABLES, [*root, *root])
        tables = cursor.fetchall()
        if not tables:
            message = f"The table {'.'.join(root)} is not in this database."
            raise SourceError(message, "Set SOURCE_TABLE to a table that is.")
        oids = [row[0] for row in tables]
        columns = _read_columns(cursor, oids)
        keys = _read_keys(cursor, columns)
        cursor.execute(FIND_FOREIGN_KEYS, {"oids": oids})
        foreign_keys = cursor.fetchall()
    return tuple(
        CatalogueTable(
            schema=schema,
            table=table,
            columns=tuple(columns[oid].values()),
            keys=keys[oid],
            references=_foreign_keys(foreign_keys, oid, single=True),
            composite=_foreign_keys(foreign_keys, oid, single=False),
            composite_referrers=_referrers(foreign_keys, oid, oids),
            rows=None if rows is None else int(rows),
            usable=usable,
            filtered=filtered,
            inherited=inherited,
        )
        for oid, schema, table, rows, usable, filtered, inherited in tables
    )


def _read_columns(
    cursor: Any, oids: Sequence[int]
) -> dict[int, dict[int, CatalogueColumn]]:
    """Return the columns of each table by their numbers."""
    cursor.execute(FIND_COLUMNS, [oids])
    rows = cursor.fetchall()
    cursor.execute(FIND_LABELS, [list({row[7] for row in rows})])
    labels: dict[int, tuple[str, ...]] = {oid: tuple(found) for oid, found in cursor}
    checks = _read_checks(cursor, oids)
    columns: dict[int, dict[int, CatalogueColumn]] = {oid: {} for oid in oids}
    for oid, number, name, quoted, *facts in rows:
        type_, base_type, is_array, type_oid, not_null, readable, exact = facts
        own = labels.get(type_oid, ())
        # Texts of another spelling are equal under a nondeterministic collation.
        found = checks[oid, number] if exact and not is_array else []
        columns[oid][number] = CatalogueColumn(
            name=name,
            type=type_,
            base_type=base_type,
            is_array=is_array,
            not_null=not_null,
            labels=own,
            listed=_allowed(found, quoted, base_type, is_enum=bool(own)),
            id_kind=None if is_array else ID_KINDS.get(base_type),
            readable=readable,
        )
    return columns


def _read_checks(cursor: Any, oids: Sequence[int]) -> dict[_Place, list[str]]:
    """Return the checks of each column, and of its domains, by its place."""
    checks: dict[_Place, list[str]] = defaultdict(list)
    for statement in (FIND_CHECKS, FIND_DOMAIN_CHECKS):
        cursor.execute(statement, [oids])
        for oid, number, expression in cursor:
            checks[oid, number].append(expression)
    return checks


def _allowed(
    expressions: Iterable[str], quoted: str, base_type: str, *, is_enum: bool
) -> tuple[str, ...]:
    """Return the values that all checks allow; those that list no values are left."""
    allowed: tuple[str, ...] | None = None
    for expression in expressions:
        subject = "VALUE" if _of_domain(expression) else quoted
        values = listed_values(expression, subject, base_type, is_enum=is_enum)
        if values is not None:
            allowed = tuple(v for v in allowed or values if v in values)
    return allowed or ()


def _of_domain(expression: str) -> bool:
    # A column of the name "VALUE" is in quotes, since quote_ident quotes capitals.
    return expression.startswith(("(VALUE ", "((VALUE)"))


def _read_keys(
    cursor: Any, columns: dict[int, dict[int, CatalogueColumn]]
) -> dict[int, tuple[str, ...]]:
    """Return the columns of each table that can be its id."""
    keys: dict[int, tuple[str, ...]] = defaultdict(tuple)
    cursor.execute(FIND_KEYS, [list(columns)])
    for oid, number in cursor:
        column = columns[oid][number]
        if column.id_kind and column.name not in keys[oid]:
            keys[oid] += (column.name,)
    return keys


def _foreign_keys(
    rows: Iterable[tuple[Any, ...]], oid: int, *, single: bool
) -> tuple[ForeignKey, ...]:
    found = (
        ForeignKey(tuple(columns), (schema, table), tuple(target))
        for referrer, _, _, _, schema, table, columns, target in rows
        if referrer == oid and (len(columns) == 1) is single
    )
    # Two constraints may be the same foreign key.
    return tuple(dict.fromkeys(found))


def _referrers(
    rows: Iterable[tuple[Any, ...]], oid: int, oids: Sequence[int]
) -> tuple[TableName, ...]:
    """Return the tables that refer to a table and are not among the others."""
    found = ((r[1], r[2]) for r in rows if r[3] == oid and r[0] not in oids)
    return tuple(dict.fromkeys(found))
