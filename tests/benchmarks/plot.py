"""The rates as bars, written as SVG by hand: no plotting library is needed for it."""

from collections.abc import Mapping
from html import escape
from typing import Any

WIDTH, BAR, LABEL, RIGHT, TOP = 760, 26, 190, 110, 64
OURS, THEIRS = "#1f77b4", "#b0b0b0"
STYLE = "font-family='sans-serif' font-size='13'"


def draw(result: Mapping[str, Any]) -> str:
    """Draw the rate of each contender, as a share of the best of its part."""
    groups: dict[str, dict[str, float]] = {}
    for name, figures in result["rates"].items():
        part, by, contender = name.partition("_by_")
        if by:
            groups.setdefault(part, {})[contender] = figures["rate"]
    lines: list[str] = []
    y = TOP
    for part, rates in groups.items():
        lines.append(_text(8, y + 14, part, "font-weight='bold'"))
        y += BAR
        for contender, rate in rates.items():
            lines += _bar(y, contender, rate, max(rates.values()))
            y += BAR
        y += BAR // 2
    title = "Rows for each CPU second of the client; longer is better"
    machine = result["machine"]
    where = f"{machine['processor']}, {machine['cores']} cores"
    rows = ", ".join(f"{rows:,}" for rows in result["rows"])
    size = f"width='{WIDTH}' height='{y}'"
    head = [
        f"<svg xmlns='http://www.w3.org/2000/svg' {size} {STYLE}>",
        f"<rect {size} fill='white'/>",
        _text(8, 22, title, "font-size='16'"),
        _text(8, 44, f"{rows} rows; {where}", "fill='#555'"),
    ]
    return "\n".join([*head, *lines, "</svg>", ""])


def _bar(y: int, contender: str, rate: float, best: float) -> list[str]:
    length = max(1, round((WIDTH - LABEL - RIGHT) * rate / best))
    colour = OURS if contender == "program" else THEIRS
    shape = f"x='{LABEL}' y='{y}' width='{length}' height='{BAR - 8}' fill='{colour}'"
    return [
        _text(24, y + 14, contender.replace("_", " ")),
        f"<rect {shape}/>",
        _text(LABEL + length + 6, y + 14, f"{rate:,.0f}"),
    ]


def _text(x: int, y: int, text: str, more: str = "") -> str:
    return f"<text x='{x}' y='{y}' {more}>{escape(text)}</text>"
