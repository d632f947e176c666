"""The differences between two mappings."""

from collections.abc import Mapping
from typing import Any


def changes_between(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each part that differs between two plain mappings."""
    names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    sentences: list[str] = []
    for name in names:
        before, now = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            inner = changes_between(before, now)
            sentences += [
                one if name == "entities" else f"{name}.{one}" for one in inner
            ]
        elif before is None:
            sentences.append(f"{name} is new")
        else:
            sentences.append(f"{name} is gone" if now is None else f"{name} differs")
    return sentences
