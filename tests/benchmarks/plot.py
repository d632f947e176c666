"""Rates and growth as bars in handwritten SVG, without a plotting library."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH, BAR, LABEL, RIGHT, TOP = 760, 26, 190, 150, 64
OURS, THEIRS = "#1f77b4", "#b0b0b0"
STYLE = "font-family='sans-serif' font-size='13'"


@dataclass(frozen=True)
class Bar:
    """One bar: its name, its length, and the text behind it."""

    name: str
    value: float
    text: str
    colour: str = THEIRS


def draw(result: Mapping[str, Any]) -> str:
    """Draw each contender's rate beside its rivals', then the growth of the whole."""
    groups = {f"{part}, rows/s": bars for part, bars in _rates(result["rates"])}
    groups["whole, seconds"] = _growth(result["runs"])
    lines: list[str] = []
    y = TOP
    for title, bars in groups.items():
        if bars:
            lines += [_text(8, y + 14, title, "font-weight='bold'")]
            lines += _group(y + BAR, bars)
            y += BAR * (len(bars) + 1) + BAR // 2
    machine, size = result["machine"], f"width='{WIDTH}' height='{y}'"
    where = f"{machine['processor']}, {machine['cores']} cores"
    rows = ", ".join(f"{rows:,}" for rows in result["rows"])
    head = [
        f"<svg xmlns='http://www.w3.org/2000/svg' {size} {STYLE}>",
        f"<rect {size} fill='white'/>",
        _text(8, 22, "Rows for each CPU second of the client", "font-size='16'"),
        _text(8, 44, f"{rows} rows; {where}", "fill='#555'"),
    ]
    return "\n".join([*head, *lines, "</svg>", ""])


def _rates(rates: Mapping[str, Any]) -> Iterator[tuple[str, list[Bar]]]:
    parts = dict.fromkeys(name.partition("_by_")[0] for name in rates if "_by_" in name)
    for part in parts:
        names = [name for name in rates if name.startswith(f"{part}_by_")]
        yield part, [_rate(name, rates[name]["rate"]) for name in names]


def _rate(name: str, rate: float) -> Bar:
    contender = name.partition("_by_")[2]
    colour = OURS if contender == "program" else THEIRS
    return Bar(contender.replace("_", " "), rate, f"{rate:,.0f}", colour)


def _growth(runs: Sequence[Mapping[str, Any]]) -> list[Bar]:
    return [
        Bar(
            f"{run['rows']:,} rows",
            run["wall_seconds"],
            f"{run['wall_seconds']:,.0f} s, {run['peak_rss_mib']:,} MiB",
            OURS,
        )
        for run in runs
        if run["contender"] == "whole_by_program" and "wall_seconds" in run
    ]


def _group(y: int, bars: Sequence[Bar]) -> Iterator[str]:
    longest = max(bar.value for bar in bars)
    for number, bar in enumerate(bars):
        top = y + number * BAR
        length = max(1, round((WIDTH - LABEL - RIGHT) * bar.value / longest))
        shape = f"x='{LABEL}' y='{top}' width='{length}' height='{BAR - 8}'"
        yield _text(24, top + 14, bar.name)
        yield f"<rect {shape} fill='{bar.colour}'/>"
        yield _text(LABEL + length + 6, top + 14, bar.text)


def _text(x: int, y: int, text: str, more: str = "") -> str:
    return f"<text x='{x}' y='{y}' {more}>{escape(text)}</text>"
