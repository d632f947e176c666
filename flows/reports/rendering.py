"""Rendering of a report as a self-contained HTML page and as Markdown."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any

from flows.models import CLASSES, DIFFERENT, LEFT_BEHIND
from flows.reports.cover import cover_lines
from flows.reports.glossary import meaning_of
from flows.stores.dynamodb.prices import AS_OF, SOURCE
from validation.contract import Reason

if TYPE_CHECKING:
    from jinja2 import Environment

COST = "Cost in dollars, on demand"
# Tables whose lines are reasons: codes to search for.
OF_REASONS = ("Quarantine", "Unusual rows")
SHOWN_DIFFERENCES = 100
SHOWN_HISTORY = 10
SIGNED = ("Name", "Date", "Signature")
FINGERPRINT = "SHA-256 of report.json"
REASONS = frozenset(reason.value for reason in Reason)
_NUMBER = re.compile(r"(< )?-?[0-9][0-9,]*(\.[0-9]+)?")


def render_html(report: Any, found: Any, **parts: Any) -> str:
    """Render the report of a run, or of the reconciliation *found*, as one page.

    *parts* are further values for the template: ``fingerprint``, the digest of the
    JSON, ``files``, the addresses of files beside the page by name, and those of this
    kind of report.
    """
    history = found.history[: -SHOWN_HISTORY - 1 : -1] if found else ()
    template = "reconciliation.html" if report is found else "report.html"
    return (
        _templates()
        .get_template(template)
        .render(
            report=report,
            values=report.asdict(),
            cover=cover_lines(report),
            signed=SIGNED,
            found=found,
            differences=found.found[:SHOWN_DIFFERENCES] if found else (),
            history=history,
            charts=report.charts,
            cost=COST,
            of_reasons=OF_REASONS,
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

    environment = Environment(
        loader=PackageLoader("flows.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: "" if value is None else value,
    )
    environment.filters |= {
        "shown": show_value,
        "kind": lambda value: "number" if _NUMBER.fullmatch(show_value(value)) else "",
        "meaning": meaning_of,
        "words": show_name,
    }
    environment.tests["term"] = lambda name: bool(meaning_of(name))
    return environment


def show_value(value: Any) -> str:
    """Return a value for display: a number with separators, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def show_name(name: str) -> str:
    """Return a name of JSON or of a key as words; reasons are codes to search for."""
    return name if name in REASONS else name.replace("_", " ")


def render_markdown(report: Any, fingerprint: str) -> str:
    """Render a report as Markdown, without any value of a row.

    *fingerprint* is the digest of its JSON.
    """
    # A message may contain a table's name, which no viewer may interpret as HTML.
    lines = [f"# {_plain(report.heading)}", "", _plain(report.verdict)]
    if appeared := getattr(report, "appeared", ""):
        lines += ["", _plain(appeared)]
    lines += _table(cover_lines(report) | {FINGERPRINT: fingerprint})
    lines += ["", *(f"{word}: {'_' * 24}  " for word in SIGNED)]
    warnings = getattr(report, "warnings", ())
    lines += [line for text in warnings for line in ("", _one_line(text))]
    for title, row in report.tables():
        lines += ["", f"## {title}", *_table(row, codes=title in OF_REASONS)]
    if report.spot_checks:
        lines += ["", "## To check by hand"]
    for check in report.spot_checks:
        lines += ["", f"Row {_plain(check.source_id)}, item {check.id}:", ""]
        lines += [f"    {_joined(command)}" for command in check.commands]
    return "\n".join(lines) + "\n"


def _table(row: Mapping[str, Any], *, codes: bool = False) -> Iterator[str]:
    """Yield a table with a line for each value, and what its name means.

    Names that are *codes* stay as they are.
    """
    meanings = {name: meaning_of(name) for name in row}
    explained = any(meanings.values())
    yield from ("", "| | |" + " |" * explained, "| --- | --- |" + " --- |" * explained)
    for name, value in row.items():
        shown = name if codes else show_name(name)
        cells = [shown, show_value(value), *[meanings[name]] * explained]
        yield f"| {' | '.join(map(_cell, cells))} |"


def _plain(text: str) -> str:
    # "< " opens no tag.
    return escape(text, quote=False).replace("&lt; ", "< ").replace("[", "&#91;")


def _cell(text: str) -> str:
    return _plain(_joined(text)).replace("|", "&#124;")


def _one_line(warning: str) -> str:
    return f"Warning: {_plain(_joined(warning))}"


def _joined(text: str) -> str:
    """Return a text without line breaks, which would end a cell or a block of code."""
    return " ".join(text.split())
