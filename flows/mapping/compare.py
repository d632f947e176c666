"""The differences between two mappings."""

from collections.abc import Mapping
from typing import Any


def changes_between(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return a phrase for each part of the entities that differs in two mappings."""
    return _compare(old.get("entities", {}), new.get("entities", {}))


def _compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    phrases: list[str] = []
    for name in sorted({*old, *new}):
        before, now = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            phrases += [f"{name}.{one}" for one in _compare(before, now)]
        elif before != now:
            phrases.append(f"{name} differs")
    return phrases
