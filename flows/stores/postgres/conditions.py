"""SQL of a source table: its columns, times and keys, and conditions on its rows."""

from collections.abc import Collection, Sequence

from psycopg2 import sql

from flows.mapping.template import Template
from flows.models import Field, IdKind, Key, SourceTable

ID_TYPES: dict[IdKind, str] = {"integer": "bigint", "uuid": "uuid", "text": "text"}

# Excludes local times that are no timestamptz in any zone; dates have a wider range.
WITHIN = sql.SQL("""
({column} < DATE '200000-01-01' AND {column} > DATE '4000-01-01 BC'
 OR NOT isfinite({column}))
""")
# Rows whose texts are equal have one key: each part is spelled as an item's key is.
KEY_NUMBER = sql.SQL("trim_scale({}::numeric)::text")
KEY_BOOLEAN = sql.SQL("{}::boolean::text")
KEY_TIME = sql.SQL("date_trunc('milliseconds', {})::text")
KEY_TEXT = sql.SQL('{}::text COLLATE "C"')
# As for ids, two spellings of a UUID are one.
KEY_REFERENCE = sql.SQL("translate(lower({}::text COLLATE \"C\"), '{{}}-', '')")
# The row's own column needs the alias: the condition may have a column of its name.
REFERENCE_MISSING_IF = sql.SQL("""
({column} IS NOT NULL AND NOT EXISTS (
    SELECT FROM {table} AS referred WHERE {id} = {column} AND ({where})))
""")
NO_CONDITION = sql.SQL("true")


def timestamp_expression(
    column: str, source: SourceTable, *, zoneless: bool
) -> sql.Composable:
    """Return the SQL of a column as timestamptz, in the source's time zone.

    Values that no timestamptz can hold are NULL.
    """
    if not zoneless:
        return sql.Identifier(column)
    name = sql.Identifier(column)
    return sql.SQL("CASE WHEN {} THEN {}::timestamp AT TIME ZONE {} END").format(
        WITHIN.format(column=name), name, sql.Literal(source.timezone)
    )


def timestamp_text(
    column: str, source: SourceTable, *, zoneless: bool
) -> sql.Composable:
    """Return the SQL of a column's text in UTC; times beyond timestamptz are kept."""
    moment = timestamp_expression(column, source, zoneless=zoneless)
    if not zoneless:
        return sql.SQL("{}::text").format(moment)
    text = sql.SQL("{}::text").format(sql.Identifier(column))
    return sql.SQL("coalesce(({})::text, {})").format(moment, text)


def field_text(one: Field, source: SourceTable) -> sql.Composable:
    """Return the SQL of a field that COPY writes as PostgreSQL's text of it."""
    if one.type == "timestamp":
        return timestamp_text(one.column, source, zoneless=one.zoneless)
    # COPY writes booleans as t and f: as texts they are true and false. Blanks at the
    # end of a character(n) are no part of an id.
    as_text = one.reference or (one.type == "text" and one.pg_type == "bool")
    if as_text or (one.type == "string_set" and one.pg_type == "bool"):
        kind = sql.SQL("text" if as_text else "text[]")
        return sql.SQL("{}::{}").format(sql.Identifier(one.column), kind)
    # A cast would take the trailing blanks of other columns of that type.
    return sql.Identifier(one.column)


def meets(source: SourceTable) -> sql.Composable:
    """Return the condition of the mapping that rows must meet."""
    # On separate lines, so that a comment at its end comments nothing else out.
    return sql.SQL(f"(\n{source.where}\n)") if source.where else NO_CONDITION


def changed_since(source: SourceTable, since: str | None) -> sql.Composable:
    """Return the condition that a row is stamped since a time, or has no stamp.

    It includes the condition of the mapping.
    """
    if since is None or not source.moments:
        return meets(source)
    stamps = (
        timestamp_expression(one.column, source, zoneless=one.zoneless)
        for one in source.moments
    )
    latest = sql.SQL("), (").join(stamps)
    changed = sql.SQL("coalesce(greatest(({})) >= {}::timestamptz, true)").format(
        latest, sql.Literal(since)
    )
    if not source.where:
        return changed
    return sql.SQL("{} AND {}").format(changed, meets(source))


def is_among(source: SourceTable, ids: Sequence[str]) -> sql.Composable:
    """Return the condition that a row has one of these ids, and meets the mapping's."""
    among = sql.SQL("{} = ANY ({})").format(
        sql.Identifier(source.id_column), id_literal(list(ids), source, array="[]")
    )
    if not source.where:
        return among
    return sql.SQL("{} AND {}").format(among, meets(source))


def id_literal(
    value: str | list[str] | None, source: SourceTable, array: str = ""
) -> sql.Composed:
    """Return an id, or with ``[]`` an array of ids, as a literal of the id's type."""
    kind = sql.SQL(ID_TYPES[source.id_kind] + array)
    return sql.SQL("{}::{}").format(sql.Literal(value), kind)


def reference_missing(one: Field) -> sql.Composable:
    """Return the condition that a row of ``source`` refers to no row."""
    reference = one.reference
    if reference is None:
        message = f"the column {one.column} refers to no entity"
        raise ValueError(message)
    column = sql.SQL("source.{}").format(sql.Identifier(one.column))
    key = sql.SQL("referred.{}").format(sql.Identifier(reference.id_column))
    if one.is_uuid_text or reference.id_kind == "text":
        # A text may be no UUID, and may spell one in another way.
        column, key = KEY_REFERENCE.format(column), KEY_REFERENCE.format(key)
    return REFERENCE_MISSING_IF.format(
        column=column,
        table=sql.Identifier(reference.schema, reference.table),
        id=key,
        where=sql.SQL(f"\n{reference.where}\n") if reference.where else NO_CONDITION,
    )


def key_texts(source: SourceTable) -> tuple[sql.Composable, sql.Composable]:
    """Return the SQL of two texts that are equal for rows with equal keys."""
    return (
        _template_text(source.partition_key, source),
        _template_text(source.sort_key, source),
    )


def has_key_among(source: SourceTable, keys: Collection[Key]) -> sql.Composable:
    """Return the condition that a row has one of these ``key_texts``."""
    if not keys:
        return sql.SQL("false")
    pairs = sql.SQL(", ").join(
        sql.SQL("({}, {})").format(sql.Literal(one), sql.Literal(other))
        for one, other in sorted(keys)
    )
    return sql.SQL("({}, {}) IN ({})").format(*key_texts(source), pairs)


def _template_text(template: Template, source: SourceTable) -> sql.Composable:
    parts: list[sql.Composable] = []
    for constant, name in template.pieces:
        parts.append(sql.Literal(constant))
        if name == "id":
            column = sql.Identifier(source.id_column)
            parts.append(sql.SQL("{}::text").format(column))
        elif name is not None:
            parts.append(_key_text(source.named(name), source))
    return sql.SQL("({})").format(sql.SQL(" || ").join(parts or [sql.Literal("")]))


def _key_text(one: Field, source: SourceTable) -> sql.Composable:
    column = sql.Identifier(one.column)
    if one.reference:
        return KEY_REFERENCE.format(column)
    if one.type == "timestamp":
        moment = timestamp_expression(one.column, source, zoneless=one.zoneless)
        return KEY_TIME.format(moment)
    forms = {"number": KEY_NUMBER, "boolean": KEY_BOOLEAN}
    return forms.get(one.type, KEY_TEXT).format(column)
