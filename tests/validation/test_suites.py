"""The suites: every reason has its rule, and every rule has a description."""

import json
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from great_expectations.core import ExpectationSuite
from great_expectations.render.renderer.page_renderer import (
    ExpectationSuitePageRenderer,
)

from validation import contract, facts
from validation.contract import Reason, Severity
from validation.suites import item_suite, source_suite, table_suite

Frames = Callable[..., pd.DataFrame]

_SUITES = [source_suite, item_suite]


def _rules(suite: ExpectationSuite) -> list[Any]:
    return list(suite.expectations)


def _reasons(suite: ExpectationSuite) -> set[str]:
    return {rule.meta["reason"] for rule in _rules(suite)}


def test_every_reason_has_an_expectation() -> None:
    """No reason is left without a rule, and no rule gives an unknown reason."""
    reasons = _reasons(source_suite()) | _reasons(item_suite())
    reasons |= _reasons(table_suite(last_rows=1))

    assert reasons == set(Reason)


@pytest.mark.parametrize("build", _SUITES)
def test_the_contract_lists_the_reasons_of_each_suite(
    build: Callable[[], ExpectationSuite],
) -> None:
    """The report names every rule without loading Great Expectations."""
    suite = build()
    reasons = [rule.meta["reason"] for rule in _rules(suite)]

    assert [*dict.fromkeys(reasons)] == [*contract.SUITE_REASONS[suite.name]]


def test_suites_bear_the_names_of_the_contract() -> None:
    """A report and Data Docs use the same name for a suite."""
    names = [suite().name for suite in _SUITES]

    assert names == [contract.SOURCE_SUITE, contract.ITEM_SUITE]


@pytest.mark.parametrize("build", _SUITES)
def test_every_expectation_explains_itself(
    build: Callable[[], ExpectationSuite],
) -> None:
    """Each rule has a description, a column, a severity and a business name."""
    stock = "great_expectations"
    for rule in _rules(build()):
        assert rule.description
        assert rule.meta["column"]
        assert Severity(rule.severity.value) is Reason(rule.meta["reason"]).severity
        assert not type(rule).__module__.startswith(stock)
        assert type(rule).__doc__


def test_every_expectation_judges_a_fact(make_rows: Frames, make_items: Frames) -> None:
    """Facts and rules match one to one: none is unused, none is missing."""
    source = [rule.column for rule in _rules(source_suite())]
    items = [rule.column for rule in _rules(item_suite())]

    assert sorted(source) == sorted(facts.source_facts(make_rows()).columns)
    assert sorted(items) == sorted(facts.item_facts(make_items()).columns)


@pytest.mark.parametrize("build", _SUITES)
def test_data_docs_show_the_descriptions(
    build: Callable[[], ExpectationSuite],
) -> None:
    """The page of a suite shows the description of each rule."""
    suite = build()
    renderer: Any = ExpectationSuitePageRenderer()

    shown = json.dumps(renderer.render(suite).to_json_dict())
    assert [
        each.description
        for each in suite.expectations
        if json.dumps(each.description)[1:-1] not in shown
    ] == []


@pytest.mark.parametrize("build", _SUITES)
def test_exported_suite_keeps_what_results_need(
    build: Callable[[], ExpectationSuite],
) -> None:
    """Reason, column and description survive a round trip through a configuration."""
    for expectation in build().expectations:
        copy = expectation.configuration.to_domain_obj()

        assert (copy.meta, copy.description) == (
            expectation.meta,
            expectation.description,
        )
