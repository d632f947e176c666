"""The expressions of this program, for the benchmarks' endpoint.

Conditions and filters are terms joined by ``AND``, or several of them in parentheses
joined by ``OR``; updates set attributes to values, and remove attributes. Anything else
is refused, rather than treated as true.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeAlias

Wire: TypeAlias = Mapping[str, Any]
Term: TypeAlias = tuple[str, str, str]

PATH = r"([#\w]+)"
VALUE = r"(:\w+)"
TERMS = {
    "exists": re.compile(rf"attribute_exists\s*\(\s*{PATH}\s*()\)"),
    "missing": re.compile(rf"attribute_not_exists\s*\(\s*{PATH}\s*()\)"),
    "begins": re.compile(rf"begins_with\s*\(\s*{PATH}\s*,\s*{VALUE}\s*\)"),
    "equals": re.compile(rf"{PATH}\s*=\s*{VALUE}"),
    "differs": re.compile(rf"{PATH}\s*<>\s*{VALUE}"),
}
CHANGE = re.compile(rf"{PATH}\s*=\s*{VALUE}")
UPDATE = re.compile(r"(?:SET\s+(?P<set>[^()]+?))?\s*(?:REMOVE\s+(?P<remove>[^()=]+))?")


class BadExpressionError(ValueError):
    """Raised for an expression that is wrong or not supported."""


def is_met(item: Wire, request: Wire, expression: str = "ConditionExpression") -> bool:
    """Return whether an item, {} for none, meets the condition of a request."""
    text = request.get(expression)
    if text is None:
        return True
    names = request.get("ExpressionAttributeNames", {})
    values = request.get("ExpressionAttributeValues", {})
    return any(
        all(_holds(item, term, names, values) for term in terms)
        for terms in _alternatives(text)
    )


def changed(item: Wire, request: Wire) -> dict[str, Any]:
    """Return an item with the changes of an UpdateItem."""
    names = request.get("ExpressionAttributeNames", {})
    values = request.get("ExpressionAttributeValues", {})
    text = request.get("UpdateExpression", "")
    parts = UPDATE.fullmatch(text.strip())
    changes = (parts and parts["set"]) or ""
    matches = [CHANGE.fullmatch(part.strip()) for part in changes.split(",") if part]
    if parts is None or None in matches:
        message = f"the endpoint does not know the update {text!r}"
        raise BadExpressionError(message)
    new = {
        _name(match[1], names): _value(match[2], values) for match in matches if match
    }
    removed = (parts["remove"] or "").split(",")
    gone = {_name(part.strip(), names) for part in removed if part}
    kept = {name: value for name, value in item.items() if name not in gone}
    return {**request["Key"], **kept, **new}


def projection(request: Wire) -> frozenset[str] | None:
    """Return the attributes that a request wants, None for all of them."""
    text = request.get("ProjectionExpression")
    if text is None:
        return None
    names = request.get("ExpressionAttributeNames", {})
    return frozenset(_name(part.strip(), names) for part in text.split(","))


@lru_cache(maxsize=256)
def _alternatives(text: str) -> tuple[tuple[Term, ...], ...]:
    parts = re.split(r"\s+OR\s+", text)
    if len(parts) > 1:
        parts = [part.strip()[1:-1] if part[0] == "(" else "" for part in parts]
    return tuple(map(_terms, parts))


def _terms(text: str) -> tuple[Term, ...]:
    return tuple(_term(part.strip()) for part in re.split(r"\s+AND\s+", text))


def _term(text: str) -> Term:
    for kind, pattern in TERMS.items():
        if match := pattern.fullmatch(text):
            return kind, match[1], match[2]
    message = f"the endpoint does not know the condition {text!r}"
    raise BadExpressionError(message)


def _holds(item: Wire, term: Term, names: Wire, values: Wire) -> bool:
    kind, path, value = term
    return HOLDS[kind](item.get(_name(path, names)), value and _value(value, values))


def _begins(found: Any, wanted: Any) -> bool:
    # A type other than a string has no prefix.
    return found is not None and found.get("S", "").startswith(wanted["S"])


HOLDS: dict[str, Callable[[Any, Any], bool]] = {
    "exists": lambda found, _: found is not None,
    "missing": lambda found, _: found is None,
    "begins": _begins,
    "equals": lambda found, wanted: found == wanted,
    "differs": lambda found, wanted: found != wanted,
}


def _name(path: str, names: Wire) -> str:
    if not path.startswith("#"):
        return path
    if path not in names:
        message = f"{path} is not among the ExpressionAttributeNames"
        raise BadExpressionError(message)
    return str(names[path])


def _value(placeholder: str, values: Wire) -> Any:
    if placeholder not in values:
        message = f"{placeholder} is not among the ExpressionAttributeValues"
        raise BadExpressionError(message)
    return values[placeholder]
