"""The rules of an attribute, with their values in PostgreSQL's text."""

import re
from datetime import UTC, date, datetime
from decimal import Decimal

from flows.mapping.model import Attribute, FieldType
from flows.models import Rules
from flows.models.values import spell_number

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
# DynamoDB's numbers: digits, and exponents of the first digit.
DIGITS = 38
LOWEST, HIGHEST = -130, 125
ORDERED: tuple[FieldType, ...] = ("number", "timestamp", "date")
WITHOUT_LENGTH: tuple[FieldType, ...] = ("number", "boolean")
FORMS: dict[FieldType, str] = {
    "number": "a number that DynamoDB can hold, e.g. 12.5",
    "boolean": "true or false",
    "timestamp": "a time, e.g. 2024-01-31 12:00:00+00:00",
    "date": "a date, e.g. 2024-01-31",
}


def read_rules(attribute: Attribute, kind: FieldType) -> tuple[Rules, list[str]]:
    """Return the rules of an attribute whose values have a type, and their faults.

    A time without an offset is in UTC. Each fault names the rule first.
    """
    bounds = {"minimum": attribute.minimum, "maximum": attribute.maximum}
    given = {name: text for name, text in bounds.items() if text is not None}
    faults = [
        f"{name} needs type {', '.join(ORDERED)}, and the type is {kind}"
        for name in given
        if kind not in ORDERED
    ]
    faults += [
        f"{name} needs a text, and the type is {kind}"
        for name in ("min_length", "max_length")
        if getattr(attribute, name) is not None and kind in WITHOUT_LENGTH
    ]
    if not faults:
        named = [*given.items(), *(("one_of", text) for text in attribute.one_of)]
        faults = [
            f"{name} {text!r} is not {FORMS[kind]}"
            for name, text in named
            if spell(text, kind) is None
        ]
    if faults:
        return Rules(), faults
    rules = Rules(
        is_name=attribute.is_name,
        required=attribute.required,
        one_of=tuple(spell(text, kind) or "" for text in attribute.one_of),
        matches=attribute.matches,
        min_length=attribute.min_length,
        max_length=attribute.max_length,
        minimum=spell(attribute.minimum, kind),
        maximum=spell(attribute.maximum, kind),
        unique=attribute.unique,
        severity=attribute.severity,
    )
    return rules, _find_empty_ranges(rules, kind)


def spell(text: str | None, kind: FieldType) -> str | None:
    """Return a value in PostgreSQL's text; None if it cannot be read as the type.

    Numbers have the one spelling of ``spell_number``, and times are in UTC. Other types
    than numbers, booleans, times and dates keep their text.
    """
    if text is None:
        return None
    if kind == "number":
        return _spell_decimal(text)
    if kind == "boolean":
        return text if text in {"true", "false"} else None
    try:
        if kind == "date":
            return date.fromisoformat(text).isoformat()
        return _spell_time(text) if kind == "timestamp" else text
    except (ValueError, OverflowError):
        return None


def _spell_decimal(text: str) -> str | None:
    if not NUMBER.fullmatch(text):
        return None
    number = Decimal(text)
    digits = "".join(map(str, number.as_tuple().digits)).strip("0")
    if (number and not LOWEST <= number.adjusted() <= HIGHEST) or len(digits) > DIGITS:
        return None
    return spell_number(text)


def _spell_time(text: str) -> str:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    shown = moment.isoformat(" ")
    return (shown.rstrip("0") if "." in shown else shown) + "+00"


def _find_empty_ranges(rules: Rules, kind: FieldType) -> list[str]:
    low, high = rules.minimum, rules.maximum
    if low is None or high is None:
        return []
    # The texts of times and dates have the order of what they mean.
    empty = Decimal(low) > Decimal(high) if kind == "number" else low > high
    return [f"minimum {low} is above maximum {high}"] if empty else []
