"""The suites of mapped entities: they agree with the facts, and explain their rules."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from great_expectations.core import ExpectationSuite
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.mapped_subject import PRODUCTS, ROW, mapped_items, mapped_rows
from validation import contract, facts
from validation.contract import Reason
from validation.data_docs import write_pages
from validation.report import describe_result
from validation.rules import (
    IMPOSSIBLE,
    SENTENCES,
    item_rules,
    item_suite_of,
    row_rules,
    source_suite_of,
)
from validation.subject import ENTERPRISES, ColumnRules, Subject
from validation.subject_reasons import reasons_of
from validation.suite_runner import ask_suite
from validation.suites import item_suite, source_suite
from validation.validate import validate_enterprises, validate_items

PROFILE = settings(
    max_examples=8,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
BUILDERS = [source_suite, item_suite]
ODD = st.sampled_from(
    ["", "{}", "{NULL}", "{1,1.0}", "NaN", "1e-131", "9" * 39, "[[", "\ud800", "{a,a}"]
)
TEXTS = st.none() | ODD | st.text(max_size=6) | st.decimals().map(str)
ROWS = st.lists(
    st.fixed_dictionaries({name: TEXTS | st.just(text) for name, text in ROW.items()}),
    min_size=1,
    max_size=8,
)
ANYTHING = (
    st.none()
    | st.integers()
    | st.booleans()
    | st.text(max_size=3)
    | st.sampled_from(
        [{"N": "1.5"}, {"M": {}}, {"NULL": True}, {"SS": [""]}, b"x", 1.5]
    )
)


def rules_of(suite: ExpectationSuite) -> list[Any]:
    """Return the expectations of a suite."""
    return list(suite.expectations)


def by_suite(broken: list[tuple[Any, ...]]) -> list[set[str]]:
    """Return the reasons of each row, as the suite finds them over all rows."""
    return [{rule.reason.value for rule in rules} for rules in broken]


def by_facts(failures: pd.DataFrame, rows: int) -> list[set[str]]:
    """Return the reasons of each row, as the report names them."""
    found: list[set[str]] = [set() for _ in range(rows)]
    for row, reason in zip(failures["row"], failures["reason"], strict=True):
        found[row].add(reason)
    return found


@PROFILE
@given(ROWS)
def test_mapped_rows_get_the_suites_verdict(rows: list[dict[str, Any]]) -> None:
    """For any row of any types, both find the same reasons, and no others."""
    frame = pd.DataFrame(rows, dtype=object)
    known = facts.source_facts(frame, subject=PRODUCTS)

    report = validate_enterprises(frame, subject=PRODUCTS)

    suite = by_suite(ask_suite(source_suite_of(PRODUCTS), known))
    assert by_facts(report.failures, len(frame)) == suite


@PROFILE
@given(st.data())
def test_mapped_items_get_the_suites_verdict(data: st.DataObject) -> None:
    """For any item of any values, both find the same reasons, and no others."""
    items = mapped_items(title=["a", "b", "c"], label=["a", "b", "c"])
    for name in data.draw(st.lists(st.sampled_from(list(items.columns)), max_size=6)):
        values = data.draw(st.lists(ANYTHING, min_size=3, max_size=3))
        items[name] = pd.Series(values, dtype=object)
    known = facts.item_facts(items, subject=PRODUCTS)

    report = validate_items(items, subject=PRODUCTS)

    suite = by_suite(ask_suite(item_suite_of(PRODUCTS), known))
    assert by_facts(report.failures, len(items)) == suite


def test_facts_and_rules_match_one_to_one() -> None:
    """None is unused and none is missing, of rows and of items."""
    rows = facts.source_facts(mapped_rows(), subject=PRODUCTS)
    items = facts.item_facts(mapped_items(), subject=PRODUCTS)

    source = [rule.column for rule in rules_of(source_suite(PRODUCTS))]
    assert sorted(source) == sorted(rows.columns)
    judged = [rule.column for rule in rules_of(item_suite(PRODUCTS))]
    assert sorted(judged) == sorted(items.columns)
    # More than a number of 64 bits has.
    assert len(rows.columns) > 64


@pytest.mark.parametrize(
    "suite", [contract.SOURCE_SUITE, contract.ITEM_SUITE], ids=["rows", "items"]
)
def test_the_built_in_subject_has_the_reasons_of_the_contract(suite: str) -> None:
    """Without a mapping there are the reasons of the contract, and no rule besides."""
    of = source_suite_of if suite == contract.SOURCE_SUITE else item_suite_of

    assert of(ENTERPRISES).name == suite
    assert reasons_of(of(ENTERPRISES)) == contract.SUITE_REASONS[suite]
    assert all(isinstance(reason, Reason) for reason in reasons_of(of(ENTERPRISES)))
    assert (row_rules(ENTERPRISES), item_rules(ENTERPRISES)) == ((), ())


@pytest.mark.parametrize("build", BUILDERS)
def test_each_rule_survives_its_configuration(
    build: Callable[[Subject], ExpectationSuite],
) -> None:
    """Reason, column, description and severity are in what a result holds."""
    suite = build(PRODUCTS)
    of = source_suite_of if build is source_suite else item_suite_of
    codes = {reason.value: reason for reason in reasons_of(of(PRODUCTS))}

    assert {rule.meta["reason"] for rule in rules_of(suite)} == set(codes)
    for rule in rules_of(suite):
        copy = rule.configuration.to_domain_obj()
        assert (copy.meta, copy.description) == (rule.meta, rule.description)
        assert copy.severity.value == codes[rule.meta["reason"]].severity.value
        assert rule.description.endswith(".")


def test_the_sentences_are_about_the_entity() -> None:
    """Keys, entity and columns are those of the mapping."""
    reasons = [*reasons_of(source_suite_of(PRODUCTS))]
    reasons += reasons_of(item_suite_of(PRODUCTS))
    worded = {reason.value: (reason.column, reason.description) for reason in reasons}

    assert worded["key_mismatch"] == (
        "PK",
        "The partition key is made as ENT#{enterprise_id}.",
    )
    assert worded["sort_key_wrong"] == (
        "SK",
        "The sort key is made as PROD#{code}#{id}.",
    )
    assert worded["entity_type_wrong"][1] == (
        "The item says that it is of the entity product."
    )
    assert worded["name_twins_differ"] == (
        "label",
        "label and title are the same text.",
    )
    assert worded["timestamps_missing"] == ("updated_date", "The row has updated_date.")
    assert worded["plan_not_one_of"] == ("plan", "plan is one of free, pro's.")
    assert worded["day_too_large"] == ("day", "day is at most 2024-12-31.")
    assert worded["sold_out_of_range"][1] == "sold lies in the years 0001 to 9999."


def test_a_long_list_of_values_is_counted() -> None:
    """A description names a few values, and counts many."""
    column = ColumnRules("a", one_of=tuple(map(str, range(1_000))))
    subject = Subject("a", (column,))

    assert row_rules(subject)[0].reason.description == (
        "a is one of the 1,000 values of the mapping."
    )


def test_subjects_of_one_name_do_not_share_verdicts() -> None:
    """Two mappings of one entity in a process have separate suites."""
    strict = replace(PRODUCTS, columns=(ColumnRules("plan", one_of=("a",)),))
    loose = replace(
        strict, columns=(ColumnRules("plan", one_of=("a",), severity="warning"),)
    )
    rows = mapped_rows(plan=["b"])

    reports = [validate_enterprises(rows, subject=each) for each in (strict, loose)]
    assert [report.success for report in reports] == [False, True]


def test_many_combinations_keep_their_rows() -> None:
    """With more facts than a number has bits, each row has its own verdict."""
    choices = {
        "price": ["1", "NaN", "-1"],
        "tags": ["{a}", "{}"],
        "photo": [None, "\\x"],
        "day": ["2024-02-29", "infinity"],
        "words": ["{}", None],
        "settings": ["{}", "[1e999]"],
    }
    size = 480
    columns = {
        name: [values[row // (place + 1) % len(values)] for row in range(size)]
        for place, (name, values) in enumerate(choices.items())
    }
    report = validate_enterprises(mapped_rows(**columns), subject=PRODUCTS)
    wrong = {
        "NaN": "price_not_a_number",
        "-1": "price_too_small",
        "infinity": "day_not_finite",
        "[1e999]": "settings_out_of_range",
    }

    expected = [
        {wrong[v] for v in row if v in wrong}
        | ({"tags_set_empty"} if row[1] == "{}" else set())
        for row in zip(*columns.values(), strict=True)
    ]
    assert by_facts(report.failures, size) == expected


def test_results_are_described_by_the_subject() -> None:
    """The lines of a report have each rule of a mapping, with its counts."""
    report = validate_enterprises(mapped_rows(price=["-1", "1"]), subject=PRODUCTS)
    lines = describe_result("source_product", report.result(), PRODUCTS)
    (line,) = [line for line in lines if line["reason"] == "price_too_small"]

    assert line == {
        "reason": "price_too_small",
        "column": "price",
        "severity": "critical",
        "must_hold": "price is at least 0.",
        "rows": 1,
        "first_source_ids": ["1"],
    }
    assert len(lines) == len({line["reason"] for line in lines})


def test_data_docs_show_the_rules_of_a_mapping(tmp_path: Path) -> None:
    """Each rule is on its page as it is, whatever signs its values have."""
    odd = ColumnRules("<i>$cost", one_of=("$free", "<b>", "{x}"))
    subject = replace(PRODUCTS, columns=(odd, *PRODUCTS.columns))
    results = {
        "source_product": {
            "rows": 5,
            "failed_rows": 2,
            "by_reason": {"<i>$cost_not_one_of": 2},
        },
        "product_items": {"rows": 3, "failed_rows": 0},
        contract.SOURCE_SUITE: {"rows": 1, "failed_rows": 0},
    }
    write_pages(results, tmp_path, subjects=(ENTERPRISES, subject))
    shown = (tmp_path / "source_product.html").read_text("utf-8")
    found = (tmp_path / "source_product_results.html").read_text("utf-8")

    for text in (shown, found):
        assert "&lt;i&gt;$cost is one of $free, &lt;b&gt;, {x}." in text
        assert "<i>" not in text
        assert "price is at least 0." in text
    assert "Results for the rows of the source of the entity product" in found
    assert "2 of 5 broke a critical rule" in found
    assert (tmp_path / "product_items_results.html").exists()


README = Path(__file__).parents[2] / "validation" / "README.md"


def test_the_readme_lists_each_reason_of_a_mapping() -> None:
    """The table of the reasons of mapped columns has each of them once."""
    lines = README.read_text("utf-8").splitlines()
    listed = [line.split("`")[1] for line in lines if line.startswith("| `<column>_")]

    whats = [what for what in SENTENCES if what != "year_out_of_range"]
    assert sorted(listed) == sorted(
        [f"<column>_{what}" for what in whats] + ["<column>_twins_differ"]
    )
    assert {what for names in IMPOSSIBLE.values() for what in names} <= set(whats)
    codes = {rule.reason.value for rule in item_rules(PRODUCTS)}
    others = {code for code in codes if not re.search("_twins_differ$", code)}
    text = json.dumps("\n".join(lines))
    assert [
        code for code in [*others, "key_duplicate"] if f"`{code}`" not in text
    ] == []
