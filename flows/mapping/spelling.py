"""The spelling of TOML: keys, texts and values as they stand in a mapping file."""

import re
from collections.abc import Iterable
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
# An integer of 64 bits, and a number that Decimal spells as it is.
_INTEGER = re.compile(r"0|-?[1-9]\d{0,17}", re.ASCII)
_DECIMAL = re.compile(r"-?(0|[1-9]\d*)\.\d{1,6}", re.ASCII)
_ESCAPES = {
    "\\": "\\\\",
    '"': '\\"',
    "\b": "\\b",
    "\t": "\\t",
    "\n": "\\n",
    "\f": "\\f",
    "\r": "\\r",
}
# Characters of a value that a message shows.
_SHOWN = 80


def spell_text(text: str) -> str:
    """Return a text in quotes; characters that cannot be seen are escaped."""
    return '"' + "".join(map(_spell_character, text)) + '"'


def spell_key(key: str) -> str:
    """Return a key, in quotes if it has other characters than a bare key."""
    return key if _BARE.fullmatch(key) else spell_text(key)


def spell_path(keys: Iterable[str]) -> str:
    """Return keys with dots between them, e.g. ``product.attributes.price``."""
    return ".".join(map(spell_key, keys))


def spell_value(value: Any) -> str:
    """Return a value as TOML has it: a list or a table in one line."""
    if isinstance(value, str):
        return spell_text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(spell_value, value)) + "]"
    if isinstance(value, dict):
        pairs = (f"{spell_key(k)} = {spell_value(v)}" for k, v in value.items())
        return "{ " + ", ".join(pairs) + " }" if value else "{}"
    return str(value)


def spell_bound(text: str) -> str:
    """Return a text without quotes if a reader returns it from a number unchanged."""
    plain = _INTEGER.fullmatch(text) or _DECIMAL.fullmatch(text)
    return text if plain else spell_text(text)


def show_value(value: Any) -> str:
    """Return the beginning of a value, for a message."""
    try:
        text = spell_value(value)
    except ValueError:
        # Python refuses to spell an integer of more than 4,300 digits.
        return "a number with too many digits"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"


def show_choices(choices: Iterable[str]) -> str:
    """Return names with commas between them."""
    return ", ".join(map(spell_key, choices))


def _spell_character(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"  # noqa: PLR2004
