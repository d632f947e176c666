"""Comparison of two mappings."""

from collections.abc import Mapping
from typing import Any


def changes_between(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return what differs between two plain mappings, a phrase for each difference."""
    before, after = old.get("entities", {}), new.get("entities", {})
    return [
        f"entity {name} is {_describe(name in before, name in after)}"
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    ]


def _describe(was: bool, is_there: bool) -> str:  # noqa: FBT001
    if was and is_there:
        return "another"
    return "new" if is_there else "gone"
