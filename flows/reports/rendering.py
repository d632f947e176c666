"""Rendering of a report as a self-contained HTML page and as Markdown."""

from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any

from flows.models import CLASSES, DIFFERENT, LEFT_BEHIND
from flows.stores.dynamodb.prices import AS_OF, SOURCE

if TYPE_CHECKING:
    from jinja2 import Environment

COST = "Cost in dollars, on demand"
SHOWN_DIFFERENCES = 100
SHOWN_HISTORY = 10


def render_html(report: Any, found: Any, **parts: Any) -> str:
    """Render the report of a run, or of the reconciliation *found*, as one page.

    *parts* are further values for the template of this kind of report.
    """
    history = found.history[: -SHOWN_HISTORY - 1 : -1] if found else ()
    template = "reconciliation.html" if report is found else "report.html"
    return (
        _templates()
        .get_template(template)
        .render(
            report=report,
            values=report.asdict(),
            found=found,
            differences=found.found[:SHOWN_DIFFERENCES] if found else (),
            history=history,
            charts=report.charts,
            cost=COST,
            left_behind=LEFT_BEHIND,
            prices=f"Prices as of {AS_OF}: {SOURCE}.",
            classes=[
                name
                for name in CLASSES
                if name in DIFFERENT
                or any(past["counts"].get(name) for past in history)
            ],
            **parts,
        )
    )


@cache
def _templates() -> "Environment":
    """Return the environment, which compiles each template once per process."""
    # Imported here: only a finished run needs it.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("flows.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: "" if value is None else value,
    )


def render_markdown(report: Any) -> str:
    """Render a report as Markdown, without any value of a row."""
    # A message may contain a table's name, which no viewer may interpret as HTML.
    lines = [f"# {_plain(report.heading)}", "", _plain(report.verdict)]
    if appeared := getattr(report, "appeared", ""):
        lines += ["", _plain(appeared)]
    warnings = getattr(report, "warnings", ())
    lines += [line for text in warnings for line in ("", _one_line(text))]
    for title, row in report.tables():
        lines += ["", f"## {title}", "", f"| {' | '.join(map(_cell, row))} |"]
        lines += ["|" + " --- |" * len(row)]
        lines += [f"| {' | '.join(str(value) for value in row.values())} |"]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    return escape(text, quote=False).replace("[", "&#91;")


def _cell(text: str) -> str:
    return _plain(text).replace("|", "&#124;")


def _one_line(warning: str) -> str:
    return f"Warning: {_plain(' '.join(warning.split()))}"
