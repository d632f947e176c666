"""The faults of an attribute's rules: bounds, lists, patterns and references."""

import re
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from flows.mapping.form_faults import unknown
from flows.mapping.model import Attribute, FieldType
from flows.mapping.spelling import show_value, spell_bound

_LENGTHS = ("min_length", "max_length")
_BOUNDS = ("minimum", "maximum")
# The rules of values, which an id that refers to a row has no use for.
_OF_VALUES = ("is_name", "one_of", "matches", *_LENGTHS, *_BOUNDS)
_WITHOUT_LENGTH: tuple[FieldType, ...] = ("number", "boolean")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def describe_reference_faults(form: Attribute, names: Collection[str]) -> Iterator[str]:
    """Yield what is wrong with a reference to one of the entities *names*."""
    if form.refers_to is None:
        return
    if form.refers_to not in names:
        yield f"refers_to {unknown(form.refers_to, names)}"
    given = f"refers_to {show_value(form.refers_to)}"
    if form.type not in {None, "text"}:
        yield f"{given} is a text, not of type {form.type}; remove the type"
    for key in _OF_VALUES:
        if key in form.model_fields_set:
            yield f"{given} excludes {key}; remove one of them"


def describe_rule_faults(form: Attribute) -> Iterator[str]:
    """Yield what is wrong with the rules of an attribute that is made of a column."""
    if form.is_name and form.type not in {None, "text"}:
        yield f"is_name excludes type {form.type}; remove one of them"
    yield from _describe_choices(form)
    if form.matches is not None:
        yield from _describe_pattern(form.matches)
    yield from _describe_lengths(form)
    yield from _describe_bounds(form)


def _describe_choices(form: Attribute) -> Iterator[str]:
    if "one_of" in form.model_fields_set and not form.one_of:
        yield "one_of [] is empty; list the values that are allowed"
    for value in dict.fromkeys(form.one_of):
        if form.one_of.count(value) > 1:
            yield f"one_of has {show_value(value)} more than once; list it once"


def _describe_pattern(pattern: str) -> Iterator[str]:
    reason = _refuse_by_python(pattern) or _refuse_by_arrow(pattern)
    if reason:
        given = f"matches {show_value(pattern)} is not a regular expression"
        yield f"{given} of both Python and RE2 ({reason}); write one that is"


def _refuse_by_python(pattern: str) -> str | None:
    with warnings.catch_warnings():
        # A set like [[:alpha:]], which RE2 reads otherwise.
        warnings.simplefilter("error", FutureWarning)
        try:
            re.compile(pattern)
        except (re.error, FutureWarning, OverflowError) as error:
            return f"Python: {error}"
        except RecursionError:
            return "Python: it is nested too deeply"
    return None


def _refuse_by_arrow(pattern: str) -> str | None:
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        # Only a text has the pattern compiled.
        pc.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowInvalid as error:
        return f"RE2: {str(error).removeprefix('Invalid regular expression: ')}"
    return None


def _describe_lengths(form: Attribute) -> Iterator[str]:
    if form.type in _WITHOUT_LENGTH:
        for key in _LENGTHS:
            if getattr(form, key) is not None:
                given = f"{key} {getattr(form, key)}"
                yield f"{given} cannot hold for type {form.type}; remove it"
    elif (
        form.min_length is not None
        and form.max_length is not None
        and form.min_length > form.max_length
    ):
        given = f"min_length {form.min_length} is more than max_length"
        yield f"{given} {form.max_length}; swap them, or change one"


def _describe_bounds(form: Attribute) -> Iterator[str]:
    bounds = {key: getattr(form, key) for key in _BOUNDS}
    given = {key: text for key, text in bounds.items() if text is not None}
    shown = {key: f"{key} {spell_bound(text)}" for key, text in given.items()}
    kinds = [form.type] if form.type else list(_READERS)
    if form.type is not None and form.type not in _READERS:
        lacks = f"needs an order, which type {form.type} lacks; remove it"
        yield from (f"{text} {lacks}" for text in shown.values())
        return
    values = {key: _read_bound(text, kinds) for key, text in given.items()}
    unread = [key for key, read in values.items() if not read]
    nouns = " or ".join(_READERS[kind][1] for kind in kinds)
    examples = " or ".join(_READERS[kind][2] for kind in kinds)
    for key in unread:
        yield f"{shown[key]} is not {nouns}; write one, e.g. {examples}"
    if len(values) == len(_BOUNDS) and not unread:
        yield from _compare_bounds(values, shown)


def _read_bound(text: str, kinds: Iterable[FieldType]) -> dict[FieldType, Any]:
    """Return a bound as a value of each type that it can be of."""
    found: dict[FieldType, Any] = {}
    for kind in kinds:
        with suppress(ValueError, InvalidOperation):
            found[kind] = _READERS[kind][0](text)
    return found


def _compare_bounds(
    values: Mapping[str, Mapping[FieldType, Any]], shown: Mapping[str, str]
) -> Iterator[str]:
    least, most = (values[key] for key in _BOUNDS)
    given = [shown[key] for key in _BOUNDS]
    common = [kind for kind in least if kind in most]
    if not common:
        yield f"{' and '.join(given)} are not of one type; change one of them"
    elif least[common[0]] > most[common[0]]:
        yield f"{' is more than '.join(given)}; swap them, or change one"


def _read_number(text: str) -> Decimal:
    number = Decimal(text)
    if not number.is_finite():
        raise ValueError(text)
    return number


def _read_date(text: str) -> date:
    if not _DATE.fullmatch(text):
        raise ValueError(text)
    return date.fromisoformat(text)


def _read_time(text: str) -> datetime:
    """Return a time; one without a zone counts as UTC, so that all can be compared."""
    if not _DATE.match(text):
        raise ValueError(text)
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


# The types with an order: how a bound is read, what it must be, and an example.
_READERS: Mapping[FieldType, tuple[Callable[[str], Any], str, str]] = {
    "number": (_read_number, "a number", "10"),
    "date": (_read_date, "a date", "2024-01-31"),
    "timestamp": (_read_time, "a time", "2024-01-31T12:00:00Z"),
}
