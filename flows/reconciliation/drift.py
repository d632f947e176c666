"""Differences over time: which are new, and charts of them."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from flows.models import CLASSES, DIFFERENT
from flows.reports.charts import draw_bars, draw_history

# Counts by event, then by side or class, then by day.
Days: TypeAlias = Mapping[str, Mapping[str, Mapping[str, int]]]

TITLES = {
    "created": "Created, in the periods that have any",
    "updated": "Updated, in the periods that have any",
    "differences": "Differences, by the time of their rows' last change",
}


def new_classes(
    history: Sequence[Mapping[str, Any]], counts: Mapping[str, int]
) -> tuple[str, ...]:
    """Return the classes of differences that earlier reconciliations did not have.

    A sample or a comparison of some rows is incomplete, so the last full reconciliation
    and all later ones count.
    """
    seen: set[str] = set()
    for past in history:
        if past["mode"] == "full":
            seen.clear()
        seen.update(name for name in DIFFERENT if past["counts"].get(name))
    return tuple(name for name in DIFFERENT if counts[name] and name not in seen)


def drift_of(history: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Return the unequal counts by class and reconciliation; omit empty classes."""
    ever = [n for n in CLASSES[1:] if any(past["counts"].get(n) for past in history)]
    return {
        name: {str(past["at"]): past["counts"].get(name, 0) for past in history}
        for name in ever
    }


def draw_comparison(days: Days, history: Sequence[Mapping[str, Any]]) -> list[str]:
    """Draw the counts by day and the drift over time, without empty charts."""
    charts = [draw_bars(title, days.get(name, {})) for name, title in TITLES.items()]
    title = "Drift: keys that were not equal, by reconciliation"
    charts.append(draw_history(title, drift_of(history)))
    return [chart for chart in charts if chart]
