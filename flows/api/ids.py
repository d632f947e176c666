"""Ids as they appear in paths: opaque texts, which each store interprets."""

import re
from uuid import UUID

from flows.models import IdKind

# Items of older tools have ids such as 1001.
_OPAQUE = re.compile(r"[A-Za-z0-9_-]{1,128}")
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_BIGINT = 2**63


def is_opaque(text: str) -> bool:
    """Return whether a text may be the id of an item."""
    return _OPAQUE.fullmatch(text) is not None


def row_id(text: str, kind: IdKind) -> int | str | None:
    """Return the id of a row as its column holds it; None if the column cannot."""
    if kind == "integer":
        if _INTEGER.fullmatch(text) is None:
            return None
        number = int(text)
        return number if -_BIGINT <= number < _BIGINT else None
    if kind == "text":
        return text if is_opaque(text) else None
    try:
        canonical = str(UUID(text)) == text
    except ValueError:
        return None
    return text if canonical else None
