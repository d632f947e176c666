"""One report of several entities: their counts are added, their findings joined."""

from collections.abc import Iterable, Mapping
from typing import Any

from flows.models import add_counts
from flows.reconciliation.report import ReconciliationReport


def combine(parts: Mapping[str, ReconciliationReport]) -> ReconciliationReport:
    """Return the report of some entities, given one of each; that of one is returned.

    The counts are sums, and the findings are in the entities' order. Items of other
    kinds are those of the whole table.
    """
    reports = tuple(parts.values())
    if len(reports) == 1:
        return reports[0]
    others: dict[str, int] = {}
    for report in reports:
        others |= report.other_items
    samples = [one.sample for one in reports if one.sample is not None]
    return ReconciliationReport(
        sum(one.source_rows for one in reports),
        sum(one.target_items for one in reports),
        add_counts(*(one.counts for one in reports)),
        tuple(difference for one in reports for difference in one.found),
        explained_with_item=sum(one.explained_with_item for one in reports),
        sources=tuple(source for one in reports for source in one.sources),
        unaccepted=sum(one.unaccepted for one in reports),
        other_items=others,
        days=_add_days(one.days for one in reports),
        sample=sum(samples) if samples else None,
        mode=_mode_of({one.mode for one in reports}),
        parts=dict(parts),
    )


def _mode_of(modes: set[str]) -> str:
    if "sampled" in modes:
        return "sampled"
    return "full" if modes == {"full"} else "partial"


def _add_days(days: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return add_counts(*days)
