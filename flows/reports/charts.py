"""Charts as inline SVG: bars over time, in the browser's light or dark scheme."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil
from pathlib import Path
from typing import TypeAlias

WIDTH, HEIGHT = 900, 220
LEFT, BOTTOM, TOP = 84, 48, 12
MOST_PERIODS = 40
# Fewer bars than these show nothing that a number does not.
MANY = 2
LETTER_WIDTH = 8
# A load that is shorter has no rate worth a chart.
SHORTEST_LOAD = 2.0
# The parts of a moment in ISO 8601 that may label it, the shortest first.
LABELS = ((11, 16), (11, 19), (5, 10), (5, 16), (5, 19), (0, 10), (0, 16), (0, 19))
# The labels below and beside the bars.
Axes: TypeAlias = tuple[str, str]
# Lengths of a day's prefix: a day, a month, a year, ten years.
PERIODS = (10, 7, 4, 3)

STYLE = Path(__file__).parent / "templates" / "charts.css"


@dataclass(frozen=True)
class Drawing:
    """Charts for display in a notebook."""

    charts: tuple[str, ...]

    def __repr__(self) -> str:
        return f"{len(self.charts)} charts; a notebook shows them"

    def _repr_html_(self) -> str:
        return f"<style>{STYLE.read_text()}</style>{''.join(self.charts)}"


def draw_bars(title: str, series: Mapping[str, Mapping[str, int]]) -> str:
    """Draw counts by day, with the series side by side; "" if one day has them all.

    Days are grouped by month, year or ten years, so that the bars are visible.
    """
    if len({day for days in series.values() for day in days if days[day]}) < MANY:
        return ""
    length = _period_length(day for days in series.values() for day in days)
    counts = {name: _by_period(days, length) for name, days in series.items()}
    periods = sorted({period for found in counts.values() for period in found})
    return _draw(title, ("date", "enterprises"), counts, periods)


def draw_counts(title: str, axes: Axes, counts: Mapping[str, int]) -> str:
    """Draw counts in the given order; "" if there are none."""
    return _draw(title, axes, {axes[1]: Counter(counts)}, list(counts))


def draw_across(title: str, counts: Mapping[str, int]) -> str:
    """Draw counts as horizontal bars, the largest first; "" if there are none.

    Labels of any length are shown whole.
    """
    most = max(counts.values(), default=0)
    if not most:
        return ""
    ordered = sorted(counts.items(), key=lambda labelled: -labelled[1])
    bars = "".join(
        f"<span>{escape(label)}</span>"
        f'<span><i style="--share: {count / most:.4f}"></i>{count:,}</span>'
        for label, count in ordered
    )
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<div class="across">{bars}</div></figure>'
    )


def draw_history(title: str, series: Mapping[str, Mapping[str, int]]) -> str:
    """Draw the counts of the last moments, ungrouped; "" if there is one, or no count.

    Moments are ISO 8601 texts. Labels omit what all moments have in common, and what is
    not needed to distinguish them.
    """
    moments = sorted({moment for counts in series.values() for moment in counts})
    moments = moments[-MOST_PERIODS:]
    if len(moments) < MANY:
        return ""
    common, labels = _label(moments)
    counts = {
        name: Counter({m: n for m, n in found.items() if m in moments})
        for name, found in series.items()
    }
    axes = (f"time of the reconciliation, UTC{common}", "enterprises")
    return _draw(title, axes, counts, moments, labels)


def draw_rate(title: str, parts: Iterable[tuple[float, float, int]]) -> str:
    """Draw items per second, from parts with first second, last second and count.

    "" if there is nothing to see: no item, one part alone, or a load of a moment.
    """
    parts = [(first, max(last, first + 0.001), count) for first, last, count in parts]
    begun = min((first for first, _, _ in parts), default=0.0)
    ended = max((last for _, last, _ in parts), default=0.0)
    loaded = sum(count > 0 for _, _, count in parts)
    if loaded < MANY or ended - begun < SHORTEST_LOAD:
        return ""
    step = (ended - begun) / MOST_PERIODS
    digits = 0 if step >= 1 else 2
    labels = [f"{number * step:,.{digits}f} s" for number in range(MOST_PERIODS)]
    rates: Counter[str] = Counter()
    for number, label in enumerate(labels):
        low = begun + number * step
        rates[label] = round(_between(parts, low, low + step) / step)
    axes = ("since the first item", "items per second")
    return _draw(title, axes, {"items per second": rates}, labels)


def _label(moments: Sequence[str]) -> tuple[str, list[str]]:
    """Return what moments have in common, for display, and a label for each."""
    for start, end in LABELS:
        labels = [moment[start:end].replace("T", " ") for moment in moments]
        common = {moment[:start].strip("T-") for moment in moments}
        if len(common) == 1 and len(set(labels)) == len(moments):
            return f", {common.pop()}" if start else "", labels
    return "", list(moments)


def _between(
    parts: Iterable[tuple[float, float, int]], low: float, high: float
) -> float:
    """Return how many items fall between two times, with each part spread evenly."""
    return sum(
        count * max(0.0, min(last, high) - max(first, low)) / (last - first)
        for first, last, count in parts
    )


def _draw(
    title: str,
    axes: Axes,
    counts: Mapping[str, Counter[str]],
    periods: Sequence[str],
    labels: Sequence[str] | None = None,
) -> str:
    most = max((max(found.values(), default=0) for found in counts.values()), default=0)
    if not most:
        return ""
    parts = [_axis(most), _names(*axes), *_labels(labels or periods)]
    for place, found in enumerate(counts.values()):
        parts += _bars(place, len(counts), periods, found, most)
    legend = "".join(
        f'<span class="key key{place}">{escape(name.replace("_", " "))}</span>'
        for place, name in enumerate(counts)
    )
    return (
        f'<figure class="chart"><figcaption>{escape(title)} {legend}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' aria-label="{escape(title)}">{"".join(parts)}</svg></figure>'
    )


def _period_length(days: Iterable[str]) -> int:
    known = set(days)
    fitting = (n for n in PERIODS if len({d[:n] for d in known}) <= MOST_PERIODS)
    return next(fitting, PERIODS[-1])


def _by_period(days: Mapping[str, int], length: int) -> Counter[str]:
    counts: Counter[str] = Counter()
    for day, count in days.items():
        counts[day[:length] + ("0s" if length == PERIODS[-1] else "")] += count
    return counts


def _bars(
    place: int, series: int, periods: Sequence[str], found: Counter[str], most: int
) -> list[str]:
    room = (WIDTH - LEFT) / len(periods)
    wide = min(room * 0.8 / series, 28.0)
    bars = []
    for number, period in enumerate(periods):
        count = found[period]
        # One among millions must be visible, too.
        high = max(1.5, count / most * (HEIGHT - BOTTOM - TOP)) if count else 0.0
        middle = LEFT + (number + 0.5) * room
        left = middle + (place - series / 2) * wide
        bars.append(
            f'<rect class="bar{place}" x="{left:.1f}" y="{HEIGHT - BOTTOM - high:.1f}"'
            f' width="{wide:.1f}" height="{high:.1f}">'
            f"<title>{escape(period)}: {count:,}</title></rect>"
        )
    return bars


def _axis(most: int) -> str:
    base = HEIGHT - BOTTOM
    return (
        f'<line x1="{LEFT}" x2="{WIDTH}" y1="{base}" y2="{base}"/>'
        f'<line x1="{LEFT}" x2="{WIDTH}" y1="{TOP}" y2="{TOP}"/>'
        f'<text x="{LEFT - 8}" y="{TOP + 4}" text-anchor="end">{most:,}</text>'
        f'<text x="{LEFT - 8}" y="{base + 4}" text-anchor="end">0</text>'
    )


def _names(below: str, beside: str) -> str:
    """Name both axes."""
    center, middle = (LEFT + WIDTH) / 2, (TOP + HEIGHT - BOTTOM) / 2
    turned = f'transform="translate(14 {middle:g}) rotate(-90)"'
    return (
        f'<text class="name" x="{center:g}" y="{HEIGHT - 6}">{escape(below)}</text>'
        f'<text class="name" {turned}>{escape(beside)}</text>'
    )


def _labels(periods: Sequence[str]) -> list[str]:
    room = (WIDTH - LEFT) / len(periods)
    wide = max(map(len, periods)) * LETTER_WIDTH
    # The edge must not cut the last label.
    places = (
        (number, min(LEFT + (number + 0.5) * room, WIDTH - wide / 2))
        for number in range(0, len(periods), ceil(wide / room))
    )
    return [
        f'<text x="{place:.1f}" y="{HEIGHT - BOTTOM + 20}"'
        f' text-anchor="middle">{escape(periods[number])}</text>'
        for number, place in places
    ]
