"""Preparation of a partition's items from its rows: validate, transform, validate.

The rows that may not be sent keep their reasons.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from flows.models import SourceTable
from flows.settings import Settings
from flows.state.runs import QUARANTINE_COLUMNS
from flows.timing import Stopwatch
from flows.transform import transform_enterprises
from validation.report import ValidationReport
from validation.validate import validate_enterprises, validate_items

REFUSED_BY_STORE = "refused_by_store"


@dataclass(frozen=True)
class MadeItems:
    """The items of a partition that may be sent, and why the other rows may not."""

    rows: pd.DataFrame
    items: pd.DataFrame
    row_report: ValidationReport
    item_report: ValidationReport
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def validation(self) -> dict[str, Any]:
        """Return both validations' counts, and the first rows of each."""
        return {
            "source": self.row_report.result(),
            "items": self.item_report.result(),
        }

    def quarantine(self, refused: Mapping[str, str | None]) -> pd.DataFrame:
        """Return the rows that must not be in the table, with their reasons.

        *refused* has the source ids that the store refused, with the store's reasons.
        """
        by_store = self.items.index[self.items["source_id"].isin(refused)]
        reasons = pd.concat(
            [
                self.row_report.reasons,
                self.item_report.reasons,
                pd.Series(REFUSED_BY_STORE, index=by_store, dtype=object),
            ]
        )
        rows: pd.DataFrame = self.rows.loc[reasons.index].astype(object)
        # Arrow columns have another null value, which cannot be encoded as JSON.
        rows = rows.where(rows.notna(), None)
        said = rows["source_id"].map(refused).astype(object)
        said = said.where(said.notna(), None)
        rows = rows.assign(reasons=reasons, store_reason=said)
        return rows[list(QUARANTINE_COLUMNS)]


def make_items(
    rows: pd.DataFrame,
    source: SourceTable,
    settings: Settings,
    key_limits: Sequence[tuple[str, int]] = (),
) -> MadeItems:
    """Validate rows, transform the good ones, and validate their items.

    *key_limits* are the sizes, in bytes, that attributes may have as keys of indexes.
    """
    watch = Stopwatch()
    with watch.timing("validate"):
        row_report = validate_enterprises(rows)
    with watch.timing("transform"):
        items = transform_enterprises(
            rows.drop(row_report.critical),
            id_kind=source.id_kind,
            namespace=settings.id_namespace,
            provenance=settings.item_provenance,
        )
    with watch.timing("validate"):
        derived = settings.id_namespace if source.id_kind == "integer" else None
        item_report = validate_items(items, namespace=derived, key_limits=key_limits)
    good = items.drop(item_report.critical)
    return MadeItems(rows, good, row_report, item_report, watch.seconds)
