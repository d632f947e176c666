"""Facts about times and dates in PostgreSQL's text."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa

from validation import contract
from validation.arrow_text import Array, Mask
from validation.masks import all_hold, is_one_of, spelt

FACTS = ("finite", "recognised", "in_range")


def find_plain(texts: Array, kind: str = "timestamp") -> Mask:
    """Return which texts are plain moments or dates of the years 1 to 9999.

    Plain ones of one kind sort as text in order of time: "+" and "." are before the
    digits.
    """
    patterns = {
        "timestamp": contract.PLAIN_TIMESTAMP_PATTERN,
        "date": contract.PLAIN_DATE_PATTERN,
    }
    return spelt(texts, patterns[kind])


def odd_facts(texts: Array, plain: Mask, kind: str = "timestamp") -> dict[str, Mask]:
    """Compute why texts are not plain; only those that are not are examined."""
    facts = {name: all_hold(len(plain)) for name in FACTS}
    odd = np.flatnonzero(~plain)
    if len(odd):
        few = texts.take(pa.array(odd))
        infinite = is_one_of(few, contract.INFINITIES)
        recognised = infinite | spelt(few, _recognised(kind))
        in_range = spelt(few, contract.SOURCE_YEAR_PATTERN)
        found = (~infinite, recognised, in_range | infinite | ~recognised)
        for name, fact in zip(FACTS, found, strict=True):
            facts[name][odd] = fact
    return facts


def _recognised(kind: str) -> str:
    is_date = kind == "date"
    return (
        contract.SOURCE_DATE_PATTERN if is_date else contract.SOURCE_TIMESTAMP_PATTERN
    )


def spell_moment(text: str, kind: str = "timestamp") -> str:
    """Return a time or a date as PostgreSQL spells it; without zone it is in UTC.

    Raises:
        ValueError: the text is neither.
    """
    if kind == "date":
        return date.fromisoformat(text[:10]).isoformat()
    moment = datetime.fromisoformat(text)
    moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    whole, _, rest = moment.isoformat(" ", "microseconds").partition(".")
    fraction = rest.removesuffix("+00:00").rstrip("0")
    return f"{whole}.{fraction}+00" if fraction else f"{whole}+00"
