"""Great Expectations' pages, rendered from the results of a run.

Their frame is ours: Great Expectations' would load styles and scripts from the network,
and says neither what a page is nor when it was made.
"""

from __future__ import annotations

import html
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import great_expectations
from great_expectations.core import (
    ExpectationSuite,
    ExpectationSuiteValidationResult,
    ExpectationValidationResult,
)
from great_expectations.render.components import RenderedDocumentContent
from great_expectations.render.renderer.page_renderer import (
    ExpectationSuitePageRenderer,
    ValidationResultsPageRenderer,
)
from great_expectations.render.view.view import DefaultJinjaPageView

from validation import contract
from validation.rules import SuiteOf, item_suite_of, source_suite_of
from validation.subject import ENTERPRISES, Subject
from validation.suites import build_suite

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TEMPLATES: Final = Path(__file__).parent / "templates"
# Great Expectations' site has the suites in another folder. It takes our rules for
# rules about the table, since they name a column only by default.
REPLACED: Final = {
    "../../../../expectations/": "",
    "Table-Level Expectations": "Expectations",
}


def write_pages(
    results: Mapping[str, Mapping[str, Any]],
    directory: Path,
    *,
    run: str = "",
    now: datetime | None = None,
    subjects: Iterable[Subject] = (ENTERPRISES,),
) -> Path:
    """Write a page for each suite and one for its results; return the index's path.

    Each page has a title, and says what it is and when it was made.

    Args:
        results: The merged result of each suite, by its name.
        directory: The folder of the pages, which is created.
        run: The run's id.
        now: The time at which the pages are made; by default that of the call.
        subjects: The subjects whose suites the results are of.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = f"{(now or datetime.now(UTC)).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    frame = {
        "made": made,
        "run": run,
        "version": great_expectations.__version__,
        "pages": [],
    }
    view: Any = DefaultJinjaPageView(custom_views_directory=str(TEMPLATES))

    def write(document: Any, page: dict[str, str], **parts: Any) -> None:
        text = view.render(document, "data_docs.html", **frame | page | parts)
        for theirs, ours in REPLACED.items():
            text = text.replace(theirs, ours)
        (directory / page["file"]).write_text(text, "utf-8")

    pages = []
    suites = {
        suite.name: suite
        for subject in subjects
        for suite in (source_suite_of(subject), item_suite_of(subject))
    }
    for name, result in results.items():
        suite = suites[name]
        rules: Any = ExpectationSuitePageRenderer()
        found: Any = ValidationResultsPageRenderer()
        rules_page, results_page = _describe_pages(suite, result)
        write(rules.render(_shown_suite(suite)), rules_page)
        write(found.render(suite_result(suite, result, made)), results_page)
        pages += [results_page, rules_page]
    index = {
        "file": "index.html",
        "title": "Data Docs",
        "about": "What every row and every item must satisfy, and how many did not.",
    }
    write(RenderedDocumentContent(sections=[]), index, pages=pages)
    return directory / index["file"]


def _describe_pages(
    suite: SuiteOf, result: Mapping[str, Any]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return file, title and description of a suite's page and its results' page."""
    subjects, name = _judged_by(suite), suite.name
    rows, failed = result.get("rows", 0), result.get("failed_rows", 0)
    return (
        {
            "file": f"{name}.html",
            "title": f"Rules for the {subjects}",
            "about": f"The suite {name}: what must hold for the {subjects}.",
        },
        {
            "file": f"{name}_results.html",
            "title": f"Results for the {subjects}",
            "about": f"How many {subjects} broke each rule of the suite {name}:"
            f" {failed:,} of {rows:,} broke a critical rule and are not moved.",
        },
    )


def _shown_suite(suite: SuiteOf) -> ExpectationSuite:
    """Build a suite whose texts, with names and values of a mapping, are HTML."""
    built = build_suite(suite)
    rules: list[Any] = built.expectations
    for rule in rules:
        rule.column = html.escape(rule.column, quote=False)
        rule.description = html.escape(rule.description, quote=False)
    return built


def _judged_by(suite: SuiteOf) -> str:
    """Return what a suite judges."""
    entity = suite.subject.entity
    of = "" if entity == contract.ENTITY_TYPE else f" of the entity {entity}"
    return f"items{of}" if suite.is_of_items else f"rows of the source{of}"


def suite_result(
    suite: SuiteOf, result: Mapping[str, Any], made: str
) -> ExpectationSuiteValidationResult:
    """Return a merged result in Great Expectations' format, without any value."""
    rows = result.get("rows", 0)
    counts = {**result.get("warnings", {}), **result.get("by_reason", {})}
    rules: list[Any] = _shown_suite(suite).expectations
    expectations = [
        ExpectationValidationResult(
            success=not counts.get(rule.meta["reason"], 0),
            expectation_config=rule.configuration,
            result=_counted(rows, counts.get(rule.meta["reason"], 0)),
        )
        for rule in rules
    ]
    met = sum(bool(each.success) for each in expectations)
    return ExpectationSuiteValidationResult(
        success=not result.get("failed_rows", 0),
        results=expectations,
        suite_name=suite.name,
        statistics={
            "evaluated_expectations": len(expectations),
            "successful_expectations": met,
            "unsuccessful_expectations": len(expectations) - met,
            "success_percent": 100 * met / len(expectations),
        },
        meta={
            "run_id": {"run_name": suite.name, "run_time": made},
            "batch_spec": {"data_asset_name": _judged_by(suite)},
        },
    )


def _counted(rows: int, broken: int) -> dict[str, Any]:
    share = 100 * broken / rows if rows else 0.0
    return {
        "element_count": rows,
        "unexpected_count": broken,
        "unexpected_percent": share,
        "partial_unexpected_list": [],
    }
