"""Great Expectations' pages, rendered from the results of a run.

They load their styles from the network; a run's report does not.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from great_expectations.core import (
    ExpectationSuiteValidationResult,
    ExpectationValidationResult,
)
from great_expectations.render.renderer.page_renderer import (
    ExpectationSuitePageRenderer,
    ValidationResultsPageRenderer,
)
from great_expectations.render.view.view import DefaultJinjaPageView

from validation.suites import SUITES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def write_pages(results: Mapping[str, Mapping[str, Any]], directory: Path) -> Path:
    """Write a page for each suite and one for its results; return the index's path.

    *results* has the merged result of each suite, by its name.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    links = []
    view: Any = DefaultJinjaPageView()
    for suite, result in results.items():
        rules: Any = ExpectationSuitePageRenderer()
        found: Any = ValidationResultsPageRenderer()
        pages = {
            f"{suite}.html": rules.render(SUITES[suite]()),
            f"{suite}_results.html": found.render(suite_result(suite, result)),
        }
        for name, document in pages.items():
            (directory / name).write_text(view.render(document), "utf-8")
            links.append(f'<li><a href="{name}">{html.escape(name)}</a></li>')
    index = directory / "index.html"
    index.write_text(f"<!doctype html><ul>{''.join(links)}</ul>", "utf-8")
    return index


def suite_result(
    suite: str, result: Mapping[str, Any]
) -> ExpectationSuiteValidationResult:
    """Return a merged result in Great Expectations' format, without any value."""
    rows = result.get("rows", 0)
    counts = {**result.get("warnings", {}), **result.get("by_reason", {})}
    rules: list[Any] = SUITES[suite]().expectations
    expectations = [
        ExpectationValidationResult(
            success=not counts.get(rule.reason.value, 0),
            expectation_config=rule.configuration,
            result=_counted(rows, counts.get(rule.reason.value, 0)),
        )
        for rule in rules
    ]
    met = sum(bool(each.success) for each in expectations)
    return ExpectationSuiteValidationResult(
        success=not result.get("failed_rows", 0),
        results=expectations,
        suite_name=suite,
        statistics={
            "evaluated_expectations": len(expectations),
            "successful_expectations": met,
            "unsuccessful_expectations": len(expectations) - met,
            "success_percent": 100 * met / len(expectations),
        },
        meta={"run_id": {"run_name": suite, "run_time": ""}},
    )


def _counted(rows: int, broken: int) -> dict[str, Any]:
    share = 100 * broken / rows if rows else 0.0
    return {
        "element_count": rows,
        "unexpected_count": broken,
        "unexpected_percent": share,
        "partial_unexpected_list": [],
    }
