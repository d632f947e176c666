"""Charts as inline SVG: bars over time, in the colours of the page around them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 900, 200
LEFT, BOTTOM, TOP = 64, 28, 12
MOST_PERIODS = 40
MOST_LABELS = 10
# Of a day as text: a day, a month, a year, ten years.
PERIODS = (10, 7, 4, 3)


def draw_bars(title: str, series: Mapping[str, Mapping[str, int]]) -> str:
    """Draw counts by day, side by side for each of some series; "" if there are none.

    Days are taken together by month, year or ten years, so that the bars can be seen.
    """
    length = _period_length(day for days in series.values() for day in days)
    counts = {name: _by_period(days, length) for name, days in series.items()}
    periods = sorted({period for found in counts.values() for period in found})
    if not periods:
        return ""
    most = max(max(found.values(), default=0) for found in counts.values())
    parts = [_axis(most), *_labels(periods)]
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
        high = count / most * (HEIGHT - BOTTOM - TOP)
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


def _labels(periods: Sequence[str]) -> list[str]:
    room = (WIDTH - LEFT) / len(periods)
    step = -(-len(periods) // MOST_LABELS)
    return [
        f'<text x="{LEFT + (number + 0.5) * room:.1f}" y="{HEIGHT - 8}"'
        f' text-anchor="middle">{escape(periods[number])}</text>'
        for number in range(0, len(periods), step)
    ]
