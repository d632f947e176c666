"""What of the source is moved, and what is left behind, for people."""

from collections.abc import Iterable, Sequence

from flows.models.sources import SourceTable

CARRY = "enterprises mapping init writes a mapping file that has them"


def describe_columns(sources: Sequence[SourceTable]) -> list[str]:
    """Return the columns that are moved; of several entities, with their tables."""
    if len(sources) == 1:
        return list(sources[0].attributes)
    return [f"{one.name}.{column}" for one in sources for column in one.attributes]


def describe_columns_left(sources: Sequence[SourceTable]) -> list[str]:
    """Return the columns that are left; of several entities, with their tables."""
    if len(sources) == 1:
        return list(sources[0].columns_not_migrated)
    return [f"{one.name}.{c}" for one in sources for c in one.columns_not_migrated]


def describe_coverage(sources: Iterable[SourceTable]) -> str:
    """Return " in 4 of 8 columns" for a verdict; empty if all columns are moved."""
    sources = tuple(sources)
    left = sum(len(one.columns_not_migrated) for one in sources)
    moved = sum(len(one.attributes) for one in sources)
    return f" in {moved} of {moved + left} columns" if left else ""


def describe_left_behind(sources: Sequence[SourceTable]) -> dict[str, str]:
    """Return the columns and referring tables that no run moves, for display."""
    several = len(sources) > 1
    parts = {
        "columns": [
            f"{one.table}.{_quoted(name)}" if several else _quoted(name)
            for one in sources
            for name in one.columns_not_migrated
        ],
        "tables that refer to it": [
            name for one in sources for name in one.tables_left_behind
        ],
    }
    left = {name: ", ".join(those) for name, those in parts.items() if those}
    hint = {"to carry them": CARRY}
    return left | hint if left else left


def _quoted(name: str) -> str:
    """Quote a name that contains anything but letters, digits and underscores."""
    plain = name.replace("_", "").isalnum()
    return name if plain else '"' + name.replace('"', '""') + '"'
