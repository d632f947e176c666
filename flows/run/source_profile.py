"""The profile of a source's rows: counts, NULLs, lengths and ranges, in one pass."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.models import Field, SourceTable
from flows.stores.postgres.conditions import meets, timestamp_expression
from flows.stores.postgres.session import translating_errors
from validation.contract import SQL_VISIBLE_CHARACTER_PATTERN

# A share of NULLs that rises or falls by more than this is reported.
USUAL_NULL_CHANGE = 0.05
NULLS = "_null"

READ_PROFILE = sql.SQL("SELECT {measures} FROM {table} WHERE {meets}")
COUNT_NULLS = sql.SQL("count(*) FILTER (WHERE {column} IS NULL)")
# Names are compared byte by byte, regardless of the column's collation.
COUNT_BLANKS = sql.SQL("""
count(*) FILTER (WHERE {column}::text COLLATE "C" !~ {visible})
""")
SHORTEST = sql.SQL("min(length({column}::text))")
LONGEST = sql.SQL("max(length({column}::text))")
AVERAGE = sql.SQL("round(avg(length({column}::text)), 1)::float8")
FIRST, LAST = sql.SQL("min({value})::text"), sql.SQL("max({value})::text")
COUNT_DUPLICATES = sql.SQL("""
(SELECT coalesce(sum(copies), 0) FROM (
    SELECT count(*) AS copies FROM {table} WHERE {column} IS NOT NULL AND {meets}
    GROUP BY {column}::text COLLATE "C"
    HAVING count(*) > 1 AND {column}::text COLLATE "C" ~ {visible}) AS twins)::bigint
""")
# Any text counts, also one without a visible character.
ANY_TEXT = ""


def read_profile(connection: Connection, source: SourceTable) -> dict[str, Any]:
    """Measure the rows: counts, NULLs, lengths and ranges, under the run's snapshot."""
    measures = _measures(source, _visible_pattern(connection))
    query = READ_PROFILE.format(
        measures=sql.SQL(", ").join(measures.values()),
        table=sql.Identifier(source.schema, source.table),
        meets=meets(source),
    )
    with translating_errors(), connection.cursor() as cursor:
        cursor.execute(query)
        row: Sequence[Any] = cursor.fetchone() or [None] * len(measures)
    return dict(zip(measures, row, strict=True))


def _measures(source: SourceTable, visible: str) -> dict[str, sql.Composable]:
    """Return the SQL of each measure: those of names and times first."""
    name = source.name_field
    moments = {one: one.name.removesuffix("_date") for one in source.moments}
    measures: dict[str, sql.Composable] = {"rows": sql.SQL("count(*)")}
    if name:
        column = sql.Identifier(name.column)
        measures["name_null"] = COUNT_NULLS.format(column=column)
        blank = COUNT_BLANKS.format(column=column, visible=sql.Literal(visible))
        measures["name_blank"] = blank
    for one, role in moments.items():
        column = sql.Identifier(one.column)
        measures[role + NULLS] = COUNT_NULLS.format(column=column)
    if name:
        column = sql.Identifier(name.column)
        lengths = {"shortest": SHORTEST, "longest": LONGEST, "average": AVERAGE}
        measures |= {
            f"name_{measure}": length.format(column=column)
            for measure, length in lengths.items()
        }
    for one, role in moments.items():
        value = timestamp_expression(one.column, source, zoneless=one.zoneless)
        measures |= {
            f"{role}_first": FIRST.format(value=value),
            f"{role}_last": LAST.format(value=value),
        }
    if name:
        measures["name_duplicate"] = _duplicates(name, source, visible)
    for one in source.fields:
        if one is not name and one not in moments and one.attributes:
            measures |= _of_field(one, source)
    return measures


def _of_field(one: Field, source: SourceTable) -> dict[str, sql.Composable]:
    """Return the measures of another mapped column."""
    column = sql.Identifier(one.column)
    measures: dict[str, sql.Composable] = {
        one.name + NULLS: COUNT_NULLS.format(column=column)
    }
    if one.type in {"number", "date"}:
        measures[f"{one.name}_first"] = FIRST.format(value=column)
        measures[f"{one.name}_last"] = LAST.format(value=column)
    elif one.type == "timestamp":
        value = timestamp_expression(one.column, source, zoneless=one.zoneless)
        measures[f"{one.name}_first"] = FIRST.format(value=value)
        measures[f"{one.name}_last"] = LAST.format(value=value)
    elif one.type == "text":
        measures[f"{one.name}_longest"] = LONGEST.format(column=column)
    if one.rules.unique:
        measures[f"{one.name}_duplicate"] = _duplicates(one, source, ANY_TEXT)
    return measures


def _duplicates(one: Field, source: SourceTable, visible: str) -> sql.Composable:
    return COUNT_DUPLICATES.format(
        column=sql.Identifier(one.column),
        table=sql.Identifier(source.schema, source.table),
        meets=meets(source),
        visible=sql.Literal(visible),
    )


def _visible_pattern(connection: Connection) -> str:
    """Return the pattern of a name that is not blank; approximate outside of UTF-8."""
    encoding = connection.get_parameter_status("server_encoding")
    return SQL_VISIBLE_CHARACTER_PATTERN if encoding == "UTF8" else "[^[:space:]]"


def unusual_values(
    now: Mapping[str, Any], last: Mapping[str, Any] | None
) -> Iterator[str]:
    """Return a sentence for each measure that differs from the last run."""
    if last is None or not (now["rows"] and last["rows"]):
        return
    for name in (one for one in now if one.endswith(NULLS) and one in last):
        share, before = now[name] / now["rows"], last[name] / last["rows"]
        if abs(share - before) > USUAL_NULL_CHANGE:
            column = name.removesuffix(NULLS)
            yield f"{share:.1%} of {column} are NULL, and {before:.1%} in the last run."
    longest, was = now.get("name_longest") or 0, last.get("name_longest") or 0
    if longest > 2 * was:
        yield f"The longest name has {longest:,} characters, not {was:,}."
