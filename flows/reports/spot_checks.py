"""Rows and items beside each other, for people who check some of them by hand."""

import json
import shlex
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from flows.models import Key

# A name may have hundreds of kilobytes.
SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class SpotCheck:
    """A row and its item as they were read again, and how to look them up.

    ``row`` has PostgreSQL's text of each column, ``item`` the typed value of each of
    our attributes, and ``attributes`` what is made from each column.
    """

    source_id: str
    id: str
    row: Mapping[str, str | None] = field(repr=False)
    item: Mapping[str, Any] = field(repr=False)
    attributes: Mapping[str, tuple[str, ...]]
    # Commands that show the row and the item; they have keys and no other value.
    commands: tuple[str, str]

    def asdict(self) -> dict[str, str]:
        """Return the keys, without any other value."""
        return {"source_id": self.source_id, "id": self.id}

    @property
    def lines(self) -> Iterator[tuple[str, str | None, str, str | None]]:
        """Yield column, its value, attribute and its value, for display.

        A column is named once, and an attribute that no column supplies has none.
        """
        left = dict(self.item)
        for column, attributes in self.attributes.items():
            value = _cut(self.row.get(column))
            for name in attributes:
                first = name == attributes[0]
                shown = (column, value) if first else ("", "")
                yield *shown, name, _typed(left.pop(name, None))
        for name, value in left.items():
            yield "", "", name, _typed(value)


def show_row(place: Mapping[str, str], query: str) -> str:
    """Return the command that runs a query as the program does, with times in UTC."""
    named = " ".join(f"{key}={_quoted(text)}" for key, text in place.items())
    return "PGTZ=UTC " + shlex.join(["psql", named, "-x", "-c", query])


def show_item(target: Mapping[str, str], item_key: Key) -> str:
    """Return the command that gets an item, strongly consistent."""
    partition_key, sort_key = item_key
    key = {"PK": {"S": partition_key}, "SK": {"S": sort_key}}
    words = ["aws", "dynamodb", "get-item", "--consistent-read"]
    words += ["--region", target["region"], "--endpoint-url", target["endpoint"]]
    words += ["--table-name", target["table"], "--key", json.dumps(key)]
    return shlex.join(words)


def _quoted(text: str) -> str:
    """Return a value of a connection string."""
    if text and not set(text) & set(" '\\"):
        return text
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _typed(value: Any) -> str | None:
    if value is None:
        return None
    return _cut(json.dumps(value, ensure_ascii=False, default=_base64))


def _base64(value: bytes) -> str:
    return b64encode(value).decode("ascii")


def _cut(text: str | None) -> str | None:
    if text is None or len(text) <= SHOWN_CHARACTERS:
        return text
    return f"{text[:SHOWN_CHARACTERS]}… ({len(text):,} characters)"
