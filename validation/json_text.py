"""JSON as text: what DynamoDB cannot hold of it."""

from __future__ import annotations

import json
import re
from typing import Any, Final, NamedTuple

from validation.decimal_text import judge_number

# DynamoDB nests lists and maps up to 32 levels, those of the attribute itself included.
MOST_LEVELS: Final = 32
# A text without these has no number beyond DynamoDB's precision or range, and no lone
# surrogate: 26 digits with an exponent of two digits are always within the range.
ODD_JSON: Final = r"[0-9.]{27}|[0-9][eE][-+]?[0-9]{3}|\\u[dD][89a-fA-F]"
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class DocumentFacts(NamedTuple):
    """What DynamoDB can hold of a document."""

    is_shallow: bool = True
    is_precise: bool = True
    is_in_range: bool = True
    is_unicode: bool = True


class _Number(str):
    """The text of a number, beside the texts of a document."""

    __slots__ = ()


def judge_json(text: str, levels: int = 0) -> DocumentFacts:
    """Judge a document that is *levels* deep in lists already.

    Of equal names in a map the last one counts. A text that is not JSON is not judged:
    PostgreSQL has none.
    """
    try:
        document = json.loads(text, parse_int=_Number, parse_float=_Number)
    except RecursionError:
        return DocumentFacts(is_shallow=False)
    except ValueError:
        return DocumentFacts()
    return _judge(document, levels)


def _judge(document: Any, levels: int) -> DocumentFacts:
    is_shallow = is_precise = is_in_range = is_unicode = True
    waiting = [(document, levels)]
    while waiting:
        value, level = waiting.pop()
        if isinstance(value, _Number):
            number = judge_number(value)
            is_precise &= number.is_precise
            is_in_range &= number.is_in_range
        elif isinstance(value, str):
            is_unicode &= _SURROGATE.search(value) is None
        elif isinstance(value, (dict, list)):
            is_shallow &= level < MOST_LEVELS
            inside = value.values() if isinstance(value, dict) else value
            waiting.extend((one, level + 1) for one in inside)
            if isinstance(value, dict):
                waiting.extend((name, level) for name in value)
    return DocumentFacts(is_shallow, is_precise, is_in_range, is_unicode)
