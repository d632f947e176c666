"""Charts: what they show, and that nothing in them is taken for markup."""

from xml.etree import ElementTree as ET

import pytest

from flows.charts import MOST_PERIODS, draw_bars

SVG = "{http://www.w3.org/2000/svg}"


def heights(chart: str) -> dict[str, list[float]]:
    """Return the bars' heights by class; the chart must be well-formed."""
    found: dict[str, list[float]] = {}
    for bar in ET.fromstring(chart).iter("rect"):  # noqa: S314 - our own
        found.setdefault(bar.attrib["class"], []).append(float(bar.attrib["height"]))
    return found


def test_bars_are_as_high_as_their_counts() -> None:
    """Both sides must share one scale and the same periods."""
    chart = draw_bars(
        "Created",
        {"source": {"2024-01-01": 4, "2024-01-02": 2}, "target": {"2024-01-02": 1}},
    )

    assert heights(chart) == {"bar0": [160.0, 80.0], "bar1": [0.0, 40.0]}
    assert "source" in chart
    assert "2024-01-02: 2" in chart


@pytest.mark.parametrize(
    ("days", "labels"),
    [
        ([f"2024-01-{n:02}" for n in range(1, 32)], 31),
        ([f"2024-{n % 12 + 1:02}-{n % 28 + 1:02}" for n in range(100)], 12),
        ([f"{n}-01-01" for n in range(1990, 2025)], 35),
        ([f"{n}-{n % 12 + 1:02}-01" for n in range(1900, 2025)], 13),
    ],
)
def test_many_days_are_taken_together(days: list[str], labels: int) -> None:
    """There may be no more bars than can be told apart, and none may be lost."""
    (bars,) = heights(draw_bars("x", {"source": dict.fromkeys(days, 1)})).values()

    assert len(bars) == labels <= MOST_PERIODS


def test_nothing_is_no_chart() -> None:
    """Without a count there is nothing to draw."""
    assert draw_bars("x", {}) == draw_bars("x", {"source": {}}) == ""


def test_names_are_no_markup() -> None:
    """A name with signs of HTML must be shown as it is."""
    chart = draw_bars("<b>", {"<script>": {"2024-01-01": 1}})

    assert "<script>" not in chart
    assert "&lt;script&gt;" in chart
