"""The end of an entity's part in a run: the outcomes of its rows, and its proof."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from flows.models import (
    CLASSES,
    DifferenceClass,
    Ledger,
    PartitionLedger,
    SourceTable,
    describe_columns,
    describe_columns_left,
)
from flows.reconciliation.report import ReconciliationReport
from flows.reports.validation_results import merge_validations

VALIDATION = {"rows": 0, "failed_rows": 0, "by_reason": {}, "warnings": {}}


@dataclass(frozen=True)
class EntityEnd:
    """What became of the rows of an entity.

    ``loaded`` counts what loading did, and ``ledger`` what the table has at the end.
    """

    source: SourceTable
    rows: int
    loaded: Ledger = field(default_factory=Ledger)
    ledger: Ledger = field(default_factory=Ledger)
    validation: Mapping[str, Any] = field(default_factory=dict)
    # The comparison of this entity alone.
    reconciliation: ReconciliationReport | None = None
    # The number of quarantined rows by reason.
    quarantine: Mapping[str, int] = field(default_factory=dict)
    profile: Mapping[str, Any] | None = None
    last_profile: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()

    def asdict(self) -> dict[str, Any]:
        """Return the part as plain values."""
        return {
            "ledger": asdict(self.ledger),
            "reconciliation": counts_of(self.reconciliation),
            "validation": plain_validation(self.validation),
            "source": describe_rows([self]),
        }


def counts_of(found: ReconciliationReport | None) -> dict[str, int | None]:
    """Return the counts of a comparison by class; None for what was not compared."""
    counts = found.shown_counts if found else {}
    left = {"explained_with_item": found.explained_with_item if found else None}
    return {name: counts.get(name) for name in CLASSES} | left


def plain_validation(validation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the counts of both validations."""
    return {
        side: {
            name: validation.get(side, {}).get(name, nothing)
            for name, nothing in VALIDATION.items()
        }
        for side in ("source", "items")
    }


def describe_rows(
    parts: Sequence[EntityEnd], snapshot: str | None = None
) -> dict[str, Any]:
    """Return tables, rows, snapshot and columns of some entities as plain values."""
    sources = [one.source for one in parts]
    return {
        "table": ", ".join(dict.fromkeys(source.name for source in sources)),
        "rows": sum(one.rows for one in parts),
        **({} if snapshot is None else {"snapshot": snapshot}),
        "columns_migrated": describe_columns(sources),
        "columns_not_migrated": describe_columns_left(sources),
        "referring_tables": [
            name for source in sources for name in source.tables_left_behind
        ],
    }


def validate_ends(
    ledgers: Iterable[PartitionLedger], profile: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the validations of all partitions of an entity as one."""
    duplicates = profile.get("name_duplicate") if profile else None
    validations = (one.validation for one in ledgers)
    return merge_validations(validations, duplicate_names=duplicates)


def count_rows(found: ReconciliationReport, written: int) -> Ledger:
    """Count every row of the snapshot in the column that the table shows for it.

    Only the loader knows how many of the equal items were *written*, not already there.
    A malformed item of a row was kept, since it claims to be newer.
    """
    counts = found.counts
    malformed = sum(
        d.kind == DifferenceClass.MALFORMED and d.has_row for d in found.found
    )
    kept = counts["newer_in_target"] + counts["deleted_in_target"] + malformed
    return Ledger(
        read=found.source_rows,
        written=written,
        unchanged=counts["matched"] - written,
        kept_newer=kept,
        quarantined=counts["explained"],
        failed=counts["missing"] + counts["mismatched"],
    )
