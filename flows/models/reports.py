"""The common base of reports: output forms and classes of differences."""

from dataclasses import asdict, dataclass, field
from typing import Any

from flows.models.items import Attribute

# The relations of a row and its item; some of them are differences.
CLASSES = (
    "matched",
    "missing",
    "extra",
    "mismatched",
    "malformed",
    "newer_in_target",
    "deleted_in_target",
    "explained",
    "created_in_target",
)
DIFFERENT = ("missing", "extra", "mismatched", "malformed")
LEFT_BEHIND = "Left behind"


class Report:
    """Base of the reports: they print, render in a notebook and convert to JSON."""

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
        import pandas as pd

        return "".join(
            f"<h4>{title}</h4>"
            + pd.DataFrame([row]).to_html(index=False, escape=True, border=0)
            for title, row in self.tables()
        )


@dataclass(frozen=True)
class Difference:
    """A key on which source and target disagree, or that is listed separately.

    ``fields`` has, for each differing attribute, its value on either side.
    """

    kind: str
    source_id: str | None
    id: str
    fields: dict[str, dict[str, Attribute | None]] = field(default_factory=dict)
    # The origin of an item without a row, as far as manifests show it.
    origin: str = ""

    @property
    def has_row(self) -> bool:
        """Return whether a row of the source has this key."""
        return self.source_id is not None and not self.origin

    def asdict(self) -> dict[str, Any]:
        """Return the difference as plain values; its kind is its ``class``."""
        values = asdict(self)
        if not self.origin:
            del values["origin"]
        return {"class": values.pop("kind")} | values
