"""The facts about mapped columns as SQL, for the rules that PostgreSQL can judge.

Left out are sets, lists and JSON that no item can hold, references, and keys of other
rows; a time's spelling is PostgreSQL's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from validation.bounds import read_bound
from validation.decimal_text import LEAST_EXPONENT, MOST_DIGITS, MOST_EXPONENT
from validation.rules import Rule, pattern_of, row_rules, type_of, whats

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from validation.subject import ColumnRules, Subject

_TIMES: Final = {"timestamp": "timestamptz", "date": "date"}
_YEARS: Final = {
    "timestamp": "{0} >= '0001-01-01 00:00+00' AND {0} < '10000-01-01 00:00+00'",
    "date": "{0} >= '0001-01-01' AND {0} < '10000-01-01'",
}
# SQLAlchemy takes a colon before a word, and a percent sign, for a parameter.
_ESCAPES: Final = {"\\": "\\\\", ":": r"\x3A", "%": r"\x25"}
_DIGITS: Final = "replace(ltrim({0}::text, '-'), '.', '')"


def mapped_facts(
    columns: Mapping[str, str], subject: Subject
) -> Iterator[tuple[Rule, str]]:
    """Yield the rules of mapped columns that SQL can judge, each with its condition.

    *columns* has the SQL of each column by its name. A condition of a missing value
    may be NULL.

    Raises:
        InputError: a bound of a rule is not a value of the column's type.
    """
    rules = {rule.fact: rule for rule in row_rules(subject)}
    for column in subject.columns:
        for what in whats(column, subject):
            if sql := _condition(column, what, columns, subject):
                yield rules[f"{column.name}:{what}"], sql


def _condition(
    column: ColumnRules, what: str, columns: Mapping[str, str], subject: Subject
) -> str | None:
    """Return a rule as a condition; None if only frames can judge it."""
    value, kind = columns[column.name], type_of(column)
    sql: str | None
    match what:
        case "missing":
            sql = f"{value} IS NOT NULL"
        case "key_missing":
            sql = _key_condition(column, columns, subject)
        case "not_one_of":
            sql = _listed(value, column)
        case "not_a_uuid" | "not_matching":
            sql = f"{_text(value)} ~ {quote(f'^(?:{pattern_of(column, what)})$')}"
        case "too_short":
            sql = f"length({value}::text) >= {column.min_length}"
        case "too_long":
            sql = f"length({value}::text) <= {column.max_length}"
        case "too_small":
            bound = _spell_bound(column, column.minimum, "minimum")
            sql = _bounded(value, kind, f">= {bound}")
        case "too_large":
            bound = _spell_bound(column, column.maximum, "maximum")
            sql = _bounded(value, kind, f"<= {bound}")
        case "not_unique":
            sql = f"{value} IS NULL OR count(*) OVER ({_partition(value, kind)}) = 1"
        case _:
            sql = _possible(value, kind, what)
    return sql


def _possible(value: str, kind: str, what: str) -> str | None:
    """Return whether a number or a time can be part of an item."""
    if kind == "number":
        number = _number(value)
        digits = f"btrim({_DIGITS.format(number)}, '0')"
        least, most = f"1E{LEAST_EXPONENT}", f"1E{MOST_EXPONENT + 1}"
        conditions = {
            "not_a_number": f"NOT {_is_odd(value)}",
            "too_precise": f"length({digits}) <= {MOST_DIGITS}",
            "out_of_range": f"{number} = 0 OR abs({number}) >= {least}"
            f" AND abs({number}) < {most}",
        }
        condition = conditions[what]
        return condition if what == "not_a_number" else _unless_odd(value, condition)
    if kind in _TIMES:
        years = _YEARS[kind].format(value)
        conditions = {
            "not_finite": f"isfinite({value})",
            "out_of_range": f"NOT isfinite({value}) OR {years}",
        }
        return conditions.get(what)
    return None


def _key_condition(
    column: ColumnRules, columns: Mapping[str, str], subject: Subject
) -> str:
    conditions = [f"{columns[column.name]} IS NOT NULL"]
    for key in (subject.partition_key, subject.sort_key):
        names = dict.fromkeys(name for _, name in key if name is not None)
        constant = "".join(text for text, _ in key)
        if column.name in names and not constant and "id" not in names:
            empty = " AND ".join(f"{columns[name]}::text = ''" for name in names)
            conditions.append(f"({empty}) IS NOT TRUE")
    return " AND ".join(conditions)


def _listed(value: str, column: ColumnRules) -> str:
    kind = type_of(column)
    texts = [_spell_bound(column, text, "one_of") for text in column.one_of]
    values = ", ".join(texts)
    if kind == "number":
        odd, listed = _is_odd(value), f"{_number(value)} IN ({values})"
        return f"CASE WHEN {odd} THEN false ELSE {listed} END"
    return f"{value if kind in _TIMES else _text(value)} IN ({values})"


def _bounded(value: str, kind: str, condition: str) -> str:
    if kind == "number":
        return _unless_odd(value, f"{_number(value)} {condition}")
    if kind in _TIMES:
        plain = f"isfinite({value}) AND {_YEARS[kind].format(value)}"
        return f"CASE WHEN {plain} THEN {value} {condition} ELSE true END"
    return f"{_text(value)} {condition}"


def _partition(value: str, kind: str) -> str:
    if kind != "number":
        return f"PARTITION BY {_text(value)}"
    odd, number = _is_odd(value), _number(value)
    spelling = f"CASE WHEN {odd} THEN {value}::text END"
    return f"PARTITION BY {spelling}, CASE WHEN NOT {odd} THEN {number} END"


def _spell_bound(column: ColumnRules, text: str | None, rule: str) -> str:
    kind = type_of(column)
    bound = quote(str(read_bound(column, text or "", rule)))
    if kind == "number":
        return f"{bound}::numeric"
    return f"{bound}::{_TIMES[kind]}" if kind in _TIMES else bound


def _text(value: str) -> str:
    return f'{value}::text COLLATE "C"'


def _number(value: str) -> str:
    # The text of a float is exact, unlike its cast.
    return f"({value}::text)::numeric"


def _is_odd(value: str) -> str:
    return f"({value}::text IN ('NaN', 'Infinity', '-Infinity'))"


def _unless_odd(value: str, condition: str) -> str:
    return f"CASE WHEN {_is_odd(value)} THEN true ELSE {condition} END"


def quote(text: str) -> str:
    """Return a text as a constant of SQL, whatever is in it."""
    quoted = text.replace("'", "''")
    for mark, escape in _ESCAPES.items():
        quoted = quoted.replace(mark, escape)
    return f"E'{quoted}'" if "\\" in quoted else f"'{quoted}'"
