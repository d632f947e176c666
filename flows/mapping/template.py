"""Templates of keys: constant text with names in braces, e.g. ``ENT#{id}``."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from string import Formatter
from typing import Self


@dataclass(frozen=True)
class Template:
    """A text with names in braces; ``{{`` and ``}}`` stand for braces."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Check a template, and return it.

        Raises:
            ValueError: a brace is not closed, or a name is empty or has a format.
        """
        for _, name, form, conversion in Formatter().parse(text):
            if name is not None and (not name or form or conversion):
                message = f"{text!r} must have a plain name in each pair of braces"
                raise ValueError(message)
        return cls(text)

    @cached_property
    def pieces(self) -> tuple[tuple[str, str | None], ...]:
        """Return the constant texts, each with the name that follows it, if any."""
        parsed = Formatter().parse(self.text)
        return tuple((constant, name) for constant, name, _, _ in parsed)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names in the order of their places."""
        return tuple(name for _, name in self.pieces if name is not None)

    @property
    def prefix(self) -> str:
        """Return the constant text before the first name."""
        return self.pieces[0][0] if self.pieces else ""

    @property
    def is_constant(self) -> bool:
        """Return whether the template has no name."""
        return not self.names

    def may_be(self, value: object) -> bool:
        """Return whether a value may come from the template, by its first constant."""
        if not isinstance(value, str):
            return False
        return (
            value == self.prefix if self.is_constant else value.startswith(self.prefix)
        )

    def fill(self, values: Mapping[str, str | None]) -> str | None:
        """Return the text for some values; None if one of them is missing."""
        parts: list[str] = []
        for constant, name in self.pieces:
            parts.append(constant)
            if name is not None:
                value = values[name]
                if value is None:
                    return None
                parts.append(value)
        return "".join(parts)
