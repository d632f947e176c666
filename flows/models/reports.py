"""The common base of reports: their output forms."""

from html import escape
from typing import Any, ClassVar

LEFT_BEHIND = "Left behind"


class Report:
    """Base of the reports: they print, render in a notebook and convert to JSON."""

    # The titles of the tables that a command prints only on request.
    details: ClassVar[frozenset[str]] = frozenset()

    def asdict(self) -> dict[str, Any]:
        """Return the report as plain values, ready for JSON."""
        raise NotImplementedError

    def tables(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the report as titled tables of one row each, for display."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return "\n".join(
            f"{title}: " + ", ".join(f"{key} {value}" for key, value in row.items())
            for title, row in self.tables()
        )

    def _repr_html_(self) -> str:
        # The HTTP service loads the models, and nothing of the validation.
        from validation.html_tables import make_table

        return "".join(
            f"<h4>{escape(title)}</h4>{make_table([row])}"
            for title, row in self.tables()
        )
