"""The verdict of a reconciliation on its counts: when it is clean, and when not."""

from dataclasses import replace

import pytest

from flows.errors import Unproven
from flows.models import CLASSES
from flows.reconciliation.report import ReconciliationReport


def compared(rows: int, mode: str = "full", **counts: int) -> ReconciliationReport:
    """Return the report of a comparison of that many rows."""
    classes = dict.fromkeys(CLASSES, 0) | counts
    return ReconciliationReport(rows, rows, classes, mode=mode)


@pytest.mark.parametrize(
    ("report", "status"),
    [
        (compared(65, matched=65), "clean"),
        (compared(65, matched=1, explained=64), "clean"),
        (compared(65, explained=65), "unproven"),
        (compared(65, newer_in_target=65), "unproven"),
        (compared(65, newer_in_target=1, explained=64), "unproven"),
        (compared(65, explained=64, missing=1), "different"),
        (compared(0), "unproven"),
        (replace(compared(0), allow_empty=True), "clean"),
        (replace(compared(0, extra=1), allow_empty=True), "different"),
        # Of some rows: none changed, or all were changed later in the target.
        (compared(0, "partial"), "clean"),
        (compared(3, "partial", newer_in_target=2, explained=1), "clean"),
        (compared(3, "partial", explained=3), "unproven"),
        (replace(compared(65, matched=64, explained=1), unaccepted=1), "unproven"),
    ],
)
def test_nothing_is_clean_that_proves_nothing(
    report: ReconciliationReport, status: str
) -> None:
    """A clean verdict requires equal rows; each verdict must begin with its status."""
    assert report.status == status
    assert report.verdict.startswith(f"{status.capitalize()}: ")
    assert bool(report.unproven) is (status == "unproven") or report.wrong
    if status == "clean":
        report.raise_for_failures()
    else:
        with pytest.raises(Unproven):
            report.raise_for_failures()


def test_the_reason_stands_in_the_verdict() -> None:
    """The last line alone must state why the comparison is no proof."""
    assert compared(65, explained=65).verdict == (
        "Unproven: 0 of 65 rows proven equal, 65 explained; all rows are in quarantine."
    )
