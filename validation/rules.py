"""The reasons of a subject: those of the contract and of its columns.

A rule is a fact, by its name, and the reason of the rows for which it is false. The
rules of columns that a mapping names are made here; the suites have an expectation for
each of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from validation import contract
from validation.contract import Reason, Severity
from validation.subject import ENTERPRISES, ColumnRules, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a reference becomes: the id of what it refers to.
_ID_CHARACTERS: Final = 36
# The characters of a list of values in a description.
_LONGEST_LIST: Final = 80
# The types that become strings.
TEXT_TYPES: Final = frozenset({"text", "timestamp", "date"})
_NUMBERS: Final = ("not_a_number", "too_precise", "out_of_range")
_MOMENTS: Final = ("not_finite", "malformed", "out_of_range")
_DOCUMENTS: Final = ("too_deep", "too_precise", "out_of_range", "not_unicode")
_SETS: Final = ("set_empty", "set_null", "set_nested", "set_duplicate")
# The reasons for which a value of a type cannot be part of an item.
IMPOSSIBLE: Final = {
    "number": _NUMBERS,
    "timestamp": _MOMENTS,
    "date": _MOMENTS,
    "json": _DOCUMENTS,
    "list of number": _NUMBERS,
    "list of json": _DOCUMENTS,
    "string_set": _SETS,
    "number_set": (*_SETS, *_NUMBERS),
}
# The sentence of each reason, about the column that it names.
SENTENCES: Final = {
    "missing": "{0} is not NULL.",
    "key_missing": "{0} is not NULL, and leaves no key empty that is made of it.",
    "not_a_uuid": "{0} is the text of a UUID, as the ids are to which it refers.",
    "not_a_number": "No number of {0} is NaN or an infinity.",
    "too_precise": "No number of {0} has more than 38 significant digits.",
    "out_of_range": "Each number of {0} is zero, or within DynamoDB's range of 1E-130 "
    "to 9.9E+125.",
    "not_finite": "{0} is a moment, not infinity.",
    "malformed": "{0} is spelt as PostgreSQL spells a moment in UTC, or a date.",
    "year_out_of_range": "{0} lies in the years 0001 to 9999.",
    "too_deep": "{0} is nested at most 32 levels deep.",
    "not_unicode": "The texts of {0} can be written as UTF-8: they hold no lone "
    "surrogate.",
    "set_empty": "{0} has an element: a set cannot be empty.",
    "set_null": "No element of {0} is NULL.",
    "set_nested": "{0} has one dimension: a set has no arrays as elements.",
    "set_duplicate": "No two elements of {0} are equal.",
    "not_one_of": "{0} is {1}.",
    "not_matching": "The whole of {0} matches its pattern.",
    "too_short": "{0} has at least {1} characters.",
    "too_long": "{0} has at most {1} characters.",
    "too_small": "{0} is at least {1}.",
    "too_large": "{0} is at most {1}.",
    "not_unique": "No other row has the same {0}.",
    "reference_missing": "The row to which {0} refers is there, and is not in "
    "quarantine.",
}
_KINDS: Final = {
    "text": "a string",
    "number": "a number",
    "boolean": "a boolean",
    "timestamp": "a string",
    "date": "a string",
    "json": "a string, a number, a boolean, NULL, a list or a map",
    "list": "a list",
    "string_set": "a set of strings",
    "number_set": "a set of numbers",
    "binary": "binary",
}


@dataclass(frozen=True)
class RuleReason:
    """A reason that only some subjects have, with the properties of a `Reason`."""

    value: str
    column: str
    description: str
    severity: Severity = Severity.CRITICAL


AnyReason: TypeAlias = Reason | RuleReason


class Rule(NamedTuple):
    """A fact, and the reason of a row for which it is false."""

    fact: str
    reason: RuleReason


class SuiteOf(NamedTuple):
    """A suite, by its name, of the rules of a subject."""

    name: str
    subject: Subject = ENTERPRISES

    @property
    def is_of_items(self) -> bool:
        """Return whether the suite judges items, instead of rows."""
        return self.name == item_suite_of(self.subject).name


def source_suite_of(subject: Subject) -> SuiteOf:
    """Return the suite that judges the rows of a subject."""
    if subject.entity == contract.ENTITY_TYPE:
        return SuiteOf(contract.SOURCE_SUITE, subject)
    return SuiteOf(f"source_{subject.entity}", subject)


def item_suite_of(subject: Subject) -> SuiteOf:
    """Return the suite that judges the items of a subject."""
    if subject.entity == contract.ENTITY_TYPE:
        return SuiteOf(contract.ITEM_SUITE, subject)
    return SuiteOf(f"{subject.entity}_items", subject)


def name_column(subject: Subject) -> ColumnRules | None:
    """Return the column with the rules of an enterprise's name, if there is one."""
    return next((column for column in subject.columns if column.is_name), None)


def type_of(column: ColumnRules) -> str:
    """Return the type by which the text of a row is read; a reference is text."""
    return "text" if column.is_reference else column.type


def pattern_of(column: ColumnRules, what: str) -> str:
    """Return the pattern of a reason for which whole texts must match one."""
    return contract.UUID_TEXT if what == "not_a_uuid" else column.matches or ""


def must_be_there(column: ColumnRules) -> bool:
    """Return whether each item must have the attributes of a column."""
    return column.required and column.severity != "warning"


def is_made_of_ids(subject: Subject) -> bool:
    """Return whether both keys have constants and the id alone, and always fit.

    Such keys differ if and only if the ids differ.
    """
    limits = (
        (subject.partition_key, contract.MAX_PARTITION_KEY_BYTES),
        (subject.sort_key, contract.MAX_SORT_KEY_BYTES),
    )
    names = [name for key, _ in limits for _, name in key if name is not None]
    return set(names) == {"id"} and all(
        0 < sum(_bytes(*piece) for piece in key) <= most for key, most in limits
    )


def _bytes(constant: str, name: str | None) -> int:
    return len(constant.encode()) + (_ID_CHARACTERS if name else 0)


def spell_key(key: tuple[tuple[str, str | None], ...]) -> str:
    """Return a key's template as a mapping file has it."""
    return "".join(
        text + (f"{{{name.strip('{}')}}}" if name else "") for text, name in key
    )


@cache
def row_rules(subject: Subject) -> tuple[Rule, ...]:
    """Return the rules of a subject's rows that are not those of the contract."""
    rules = [
        Rule(f"{column.name}:{what}", reason)
        for column in subject.columns
        for what, reason in _column_reasons(column, subject)
    ]
    if not is_made_of_ids(subject):
        sentence = "No other row of the table makes the same key."
        rules.append(
            Rule("key:unclaimed", RuleReason("key_duplicate", "source_id", sentence))
        )
    return tuple(rules)


def whats(column: ColumnRules, subject: Subject) -> tuple[str, ...]:
    """Return the reasons that a column's values can have, without its name."""
    return tuple(what for what, _ in _column_reasons(column, subject))


def in_keys(subject: Subject) -> frozenset[str]:
    """Return the columns of which a key is made."""
    named = {name for _, name in (*subject.partition_key, *subject.sort_key) if name}
    named |= {column.name for column in subject.columns if column.in_key}
    return frozenset(named - {"id"})


def _column_reasons(
    column: ColumnRules, subject: Subject
) -> Iterator[tuple[str, RuleReason]]:
    severity = Severity(column.severity or Severity.CRITICAL)
    is_named = column == name_column(subject)
    if column.required and not is_named:
        yield _reason(column, "missing", severity)
    if column.name in in_keys(subject):
        yield _reason(column, "key_missing")
    if column.is_uuid:
        yield _reason(column, "not_a_uuid")
    kind = type_of(column)
    kind = f"list of {column.element}" if kind == "list" else kind
    for what in IMPOSSIBLE.get(kind, ()):
        yield _reason(column, what)
    for what in _given_rules(column):
        yield _reason(column, what, severity)
    if column.is_reference:
        severity = Severity(column.severity or Severity.WARNING)
        yield _reason(column, "reference_missing", severity)


def _given_rules(column: ColumnRules) -> Iterator[str]:
    rules = {
        "not_one_of": bool(column.one_of),
        "not_matching": column.matches is not None,
        "too_short": column.min_length is not None,
        "too_long": column.max_length is not None,
        "too_small": column.minimum is not None,
        "too_large": column.maximum is not None,
        "not_unique": column.unique,
    }
    return (what for what, given in rules.items() if given)


def _reason(
    column: ColumnRules, what: str, severity: Severity = Severity.CRITICAL
) -> tuple[str, RuleReason]:
    is_moment = what == "out_of_range" and column.type in {"timestamp", "date"}
    given = {
        "not_one_of": _list_values(column.one_of),
        "too_short": column.min_length,
        "too_long": column.max_length,
        "too_small": column.minimum,
        "too_large": column.maximum,
    }
    sentence = SENTENCES["year_out_of_range" if is_moment else what]
    description = sentence.format(column.name, given.get(what))
    return what, RuleReason(f"{column.name}_{what}", column.name, description, severity)


def _list_values(values: tuple[str, ...]) -> str:
    listed = "one of " + ", ".join(values)
    if len(listed) <= _LONGEST_LIST:
        return listed
    return f"one of the {len(values):,} values of the mapping"


def required_attributes(subject: Subject) -> dict[str, str]:
    """Return the attributes that each item must have, each with its type."""
    found = dict.fromkeys(("PK", "SK", "id"), "text")
    for column in subject.columns:
        if must_be_there(column):
            found |= dict.fromkeys(column.attributes, type_of(column))
    for there, names in ((subject.created, _CREATED), (subject.updated, _UPDATED)):
        found |= dict.fromkeys(names if there else (), "text")
    return found | {"entity_type": "text"}


_CREATED: Final = ("created_date", "createdAt")
_UPDATED: Final = ("updated_date", "updatedAt")


def optional_attributes(subject: Subject) -> dict[str, ColumnRules]:
    """Return the attributes that an item may lack, each with its column."""
    found = {
        name: column
        for column in subject.columns
        if not must_be_there(column)
        for name in column.attributes
    }
    made = ColumnRules("")
    return found | dict.fromkeys(subject.templates, made)


@cache
def item_rules(subject: Subject) -> tuple[Rule, ...]:
    """Return the rules of a subject's items that are not those of the contract."""
    return tuple(_item_rules(subject))


def _item_rules(subject: Subject) -> Iterator[Rule]:
    for name, kind in required_attributes(subject).items():
        if kind not in TEXT_TYPES:
            sentence = f"{name} is there, and is {_KINDS[kind]}."
            yield _rule(f"{name}:typed", "attribute_missing", name, sentence)
    for name, column in optional_attributes(subject).items():
        null = ", or NULL" if column.keep_null else ""
        kind = _KINDS[type_of(column)]
        sentence = f"{name} is missing, or is {kind}{null}."
        yield _rule(f"{name}:typed", "attribute_wrong_type", name, sentence)
    for column in subject.columns:
        if len(column.attributes) > 1 and column != name_column(subject):
            sentence = f"{', '.join(column.attributes)} have the same value."
            name = column.attributes[0]
            code = f"{column.name}_twins_differ"
            yield _rule(f"{column.name}:twins", code, name, sentence)
    if not is_made_of_ids(subject):
        yield from _key_rules()
    if may_be_empty(subject):
        sentence = "A value that is the key of an index is not empty."
        yield _rule("index_keys:filled", "index_key_empty", "id", sentence)


def _key_rules() -> Iterator[Rule]:
    for name, key, most in (
        ("PK", "partition", contract.MAX_PARTITION_KEY_BYTES),
        ("SK", "sort", contract.MAX_SORT_KEY_BYTES),
    ):
        empty = f"The {key} key is not empty."
        long = f"The {key} key has at most {most:,} bytes."
        yield _rule(f"{name}:filled", "key_empty", name, empty)
        yield _rule(f"{name}:fits", f"{key}_key_too_long", name, long)


def _rule(fact: str, code: str, column: str, description: str) -> Rule:
    return Rule(fact, RuleReason(code, column, description))


def may_be_empty(subject: Subject) -> bool:
    """Return whether an attribute of text or bytes may be empty; a name may not."""
    others = [c for c in subject.columns if c != name_column(subject)]
    kinds = {type_of(column) for column in others if column.attributes}
    return bool(subject.templates or kinds - {"number", "boolean"})
