"""The history of reconciliations: new differences, and the notebook's table."""

from typing import Any

import pytest

from flows.models import CLASSES
from flows.reconciliation.drift import new_classes
from flows.state.reconciliations import as_frame


def past(mode: str = "full", **counts: int) -> dict[str, Any]:
    """Create the record of a reconciliation."""
    facts = {"name": "reconcile-1", "snapshot": "s", "status": "x", "verdict": "v"}
    rows = {"source_rows": 10, "target_items": 9, "at": "2024-02-29T00:00:00+00:00"}
    return facts | rows | {"mode": mode, "counts": dict.fromkeys(CLASSES, 0) | counts}


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([], ("missing", "extra")),
        ([past()], ("missing", "extra")),
        ([past(extra=1)], ("missing",)),
        ([past(missing=1, extra=9, mismatched=1)], ()),
        # A difference that was repaired in between is new again.
        ([past(missing=1, extra=1), past(extra=1)], ("missing",)),
        # A sample sees no extra items, but counts for the classes that it sees.
        ([past(extra=1), past("sampled")], ("missing",)),
        ([past(extra=1), past("sampled", missing=1), past("partial")], ()),
        ([past("sampled", missing=1), past()], ("missing", "extra")),
    ],
)
def test_what_the_previous_ones_had_is_not_new(
    history: list[dict[str, Any]], expected: tuple[str, ...]
) -> None:
    """The last full reconciliation and those after it must decide."""
    counts = past(missing=2, extra=1)["counts"]

    assert new_classes(history, counts) == expected


def test_what_is_no_difference_is_never_new() -> None:
    """A legitimate change by an application must not raise an alert."""
    rights = ("newer_in_target", "deleted_in_target", "created_in_target", "explained")
    counts = past(**dict.fromkeys(rights, 1), matched=10)["counts"]

    assert new_classes([past()], counts) == ()


def test_a_history_is_a_table() -> None:
    """Each class must be a column of numbers, and the times must have a zone."""
    frame = as_frame([past(missing=3), past()])

    assert set(CLASSES) < set(frame.columns)
    assert frame["missing"].tolist() == [3, 0]
    assert str(frame["at"].dt.tz) == "UTC"


def test_no_history_is_a_table_too() -> None:
    """Without a reconciliation the columns must still be present."""
    frame = as_frame([])

    assert len(frame) == 0
    assert {"at", "mode", "status", *CLASSES} <= set(frame.columns)
