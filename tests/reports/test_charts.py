"""Charts: what they show, and that no text in them becomes markup."""

from xml.etree import ElementTree as ET

import pytest

from flows.reports.charts import (
    MOST_PERIODS,
    draw_across,
    draw_bars,
    draw_history,
    draw_rate,
)


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
    """There may be no more bars than can be distinguished, and none may be lost."""
    (bars,) = heights(draw_bars("x", {"source": dict.fromkeys(days, 1)})).values()

    assert len(bars) == labels <= MOST_PERIODS


def test_horizontal_bars_have_their_labels_and_counts() -> None:
    """The largest bar is first; a label is whole, however long, and no markup."""
    long = "a reason with <b> & many words " * 9
    chart = ET.fromstring(draw_across("Why", {"few": 1, long: 4_000}))  # noqa: S314
    labels = [span.text for span in chart.iter("span")][::2]
    shares = [bar.attrib["style"] for bar in chart.iter("i")]

    assert labels == [long, "few"]
    assert shares == ["--share: 1.0000", "--share: 0.0003"]
    assert [bar.tail for bar in chart.iter("i")] == ["4,000", "1"]


def test_nothing_is_no_chart() -> None:
    """Without a count there is nothing to draw."""
    assert draw_across("x", {}) == draw_across("x", {"y": 0}) == ""
    assert draw_bars("x", {}) == draw_bars("x", {"source": {}}) == ""
    assert draw_history("x", {}) == draw_history("x", {"extra": {"2024": 0}}) == ""
    assert draw_rate("x", []) == draw_rate("x", [(1.0, 9.0, 0), (2.0, 9.0, 0)]) == ""


def test_where_there_is_nothing_to_see_is_no_chart() -> None:
    """One bar, or one point, says no more than its number."""
    day, moment = {"2024-02-29": 7}, {"2024-02-29T01:02:03": 7}

    assert draw_bars("x", {"source": day, "target": day}) == ""
    assert draw_bars("x", {"source": day | {"2024-03-01": 0}}) == ""
    assert draw_history("x", {"missing": moment, "extra": moment}) == ""
    # A load of 0.2 s, and one whose rate cannot change.
    assert draw_rate("x", [(0.0, 0.1, 5), (0.1, 0.2, 5)]) == ""
    assert draw_rate("x", [(0.0, 60.0, 25_000)]) == ""
    assert draw_rate("x", [(0.0, 2.0, 5), (1.0, 2.0, 5)])


def test_one_of_many_is_seen() -> None:
    """A single difference beside a million must still have a bar."""
    chart = draw_bars("x", {"extra": {"2024-01-01": 1, "2024-01-02": 1_000_000}})

    assert heights(chart)["bar0"] == [1.5, 160.0]


def test_moments_are_not_taken_together() -> None:
    """Two reconciliations of one day have two bars, and the last ones are shown."""
    moments = [f"2024-02-29T{n // 60:02}:{n % 60:02}:00" for n in range(100)]
    counts = {moment: n for n, moment in enumerate(moments, 1)}
    chart = draw_history("Drift", {"missing": counts, "extra": {moments[-1]: 50}})

    bars = heights(chart)
    assert len(bars["bar0"]) == len(bars["bar1"]) == MOST_PERIODS
    assert (bars["bar0"][-1], bars["bar1"][-1]) == (160.0, 80.0)
    assert f"{moments[-1]}: 100" in chart


def labels_of(chart: str) -> list[str]:
    """Return the texts of a chart below its bars, the name of the axis last."""
    texts = [str(text.text) for text in ET.fromstring(chart).iter("text")]  # noqa: S314 - our own
    highest, zero, below, beside, *labels = texts
    assert (highest, zero, beside) == ("1", "0", "enterprises")
    return [*labels, below.removeprefix("time of the reconciliation, UTC")]


@pytest.mark.parametrize(
    ("moments", "labels"),
    [
        # The same minute, the same day, the same year, and none of them.
        (
            ["2024-02-29T01:02:03.1", "2024-02-29T01:02:09.7"],
            ["01:02:03", "01:02:09", ", 2024-02-29"],
        ),
        (
            ["2024-02-29T01:02:03", "2024-02-29T05:30:00"],
            ["01:02", "05:30", ", 2024-02-29"],
        ),
        (
            ["2024-02-28T01:02:03", "2024-02-29T01:02:03"],
            ["02-28", "02-29", ", 2024"],
        ),
        (
            ["2024-02-28T01:02:03", "2024-02-29T01:02:03", "2024-02-29T06:00:00"],
            ["02-28 01:02", "02-29 01:02", "02-29 06:00", ", 2024"],
        ),
        (
            ["2023-02-28T01:02:03", "2024-02-28T01:02:03"],
            ["2023-02-28", "2024-02-28", ""],
        ),
        (
            ["2024-02-29T01:02:03.1", "2024-02-29T01:02:03.2"],
            ["2024-02-29T01:02:03.1", "2024-02-29T01:02:03.2", ""],
        ),
    ],
)
def test_each_reconciliation_has_another_label(
    moments: list[str], labels: list[str]
) -> None:
    """Labels must differ, and be no longer than that takes."""
    chart = draw_history("x", {"extra": dict.fromkeys(moments, 1)})

    assert labels_of(chart) == labels


def test_the_rate_is_of_all_parts_at_once() -> None:
    """Two simultaneous parts must add up, and a pause between parts must be a gap."""
    chart = draw_rate("x", [(0, 10, 1_000), (0, 10, 1_000), (30, 40, 1_000)])

    (bars,) = heights(chart).values()
    assert bars == [160.0] * 10 + [0.0] * 20 + [80.0] * 10
    assert "items per second" in chart
    assert ">200<" in chart


def test_a_part_without_duration_is_drawn() -> None:
    """A clock that did not move must not stop the report."""
    assert draw_rate("x", [(5.0, 5.0, 3), (9.0, 9.5, 3)])


def test_names_are_no_markup() -> None:
    """A name with HTML characters must be shown literally."""
    days = {"2024-01-01": 1, "2024-01-02": 1}
    chart = draw_bars("<b>", {"<script>": days})

    assert "<script>" not in chart
    assert "&lt;script&gt;" in chart
