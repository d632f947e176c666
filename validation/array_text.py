"""PostgreSQL's text of an array, as nested lists of texts."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def parse_array(text: str, delimiter: str = ",") -> list[Any]:
    """Read an array's text as lists of texts, of None for NULL, and of lists.

    Bounds that do not begin with 1, as in ``[2:3]={1,2}``, are left out. Arrays of
    boxes have another *delimiter*.

    Raises:
        ValueError: the text is not that of an array.
    """
    body = text.partition("=")[2] if text.startswith("[") else text
    if not (body.startswith("{") and body.endswith("}")):
        raise ValueError("the text is not that of an array")
    if '"' not in body and "\\" not in body and body.rfind("{") == 0:
        inside = body[1:-1]
        if not inside:
            return []
        return [None if one == "NULL" else one for one in inside.split(delimiter)]
    return _parse_nested(body, delimiter)


def _parse_nested(body: str, delimiter: str) -> list[Any]:
    outer: list[Any] = []
    open_arrays: list[list[Any]] = [outer]
    position = 0
    for token in _tokens(delimiter).finditer(body):
        if token.start() != position or not open_arrays:
            break
        position = token.end()
        mark, quoted, bare = token.groups()
        if mark == "{":
            inner: list[Any] = []
            open_arrays[-1].append(inner)
            open_arrays.append(inner)
        elif mark == "}":
            open_arrays.pop()
        elif quoted is not None:
            open_arrays[-1].append(_ESCAPED.sub(r"\1", quoted))
        elif bare is not None:
            open_arrays[-1].append(None if bare == "NULL" else bare)
    # What remains open is the list around the array itself.
    if position != len(body) or len(open_arrays) != 1 or len(outer) != 1:
        raise ValueError("the text is not that of an array")
    parsed: list[Any] = outer[0]
    return parsed


@cache
def _tokens(delimiter: str) -> re.Pattern[str]:
    mark = re.escape(delimiter)
    return re.compile(
        rf'([{{}}{mark}])|"((?:[^"\\]|\\.)*)"|([^{{}}"\\{mark}]+)', re.DOTALL
    )


def delimiter_of(pg_type: str) -> str:
    """Return the character between the elements of an array of a type."""
    return ";" if pg_type == "box" else ","


def leaves(parsed: list[Any]) -> list[str | None]:
    """Return the elements of an array of any dimensions, in their order."""
    found: list[str | None] = []
    for one in parsed:
        if isinstance(one, list):
            found.extend(leaves(one))
        else:
            found.append(one)
    return found
