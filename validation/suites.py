"""The suites: what every row of the source, every item and the table must satisfy."""

from collections.abc import Iterable
from typing import Any

from great_expectations.core import ExpectationSuite
from great_expectations.expectations.metadata_types import FailureSeverity

from validation import contract
from validation import expectations as rules
from validation.contract import Reason
from validation.rules import (
    TEXT_TYPES,
    AnyReason,
    SuiteOf,
    item_rules,
    item_suite_of,
    required_attributes,
    row_rules,
    source_suite_of,
)
from validation.subject import ENTERPRISES, Subject
from validation.subject_reasons import contract_reasons


def source_suite(subject: Subject = ENTERPRISES) -> ExpectationSuite:
    """Build the suite that judges the facts of a subject's rows."""
    return _suite(
        source_suite_of(subject),
        rules.ExpectEnterpriseIdToBePresent(),
        rules.ExpectEnterpriseIdToBeUnique(),
        rules.ExpectEnterpriseIdToBeUnclaimed(),
        rules.ExpectEnterpriseNameToBePresent(),
        rules.ExpectEnterpriseNameToBeVisible(),
        rules.ExpectEnterpriseNameToBeUnicode(),
        rules.ExpectCreatedDateToBeFinite(),
        rules.ExpectCreatedDateToBeRecognised(),
        rules.ExpectCreatedDateToBeInRange(),
        rules.ExpectUpdatedDateToBeFinite(),
        rules.ExpectUpdatedDateToBeRecognised(),
        rules.ExpectUpdatedDateToBeInRange(),
        rules.ExpectEnterpriseTimestampToBePresent(),
        rules.ExpectEnterpriseNameToBeTrim(),
        rules.ExpectEnterpriseNameToBePrintable(),
        rules.ExpectEnterpriseNameToBeShort(),
        rules.ExpectEnterpriseNameToBeUnique(),
        rules.ExpectCreatedDateToBePast(),
        rules.ExpectUpdatedDateToBePast(),
        rules.ExpectUpdateToFollowCreation(),
        *map(rules.ExpectMappedRuleToHold.of, row_rules(subject)),
    )


def item_suite(subject: Subject = ENTERPRISES) -> ExpectationSuite:
    """Build the suite that judges the facts of a subject's items."""
    required = required_attributes(subject).items()
    texts = [name for name, kind in required if kind in TEXT_TYPES]
    return _suite(
        item_suite_of(subject),
        *map(rules.ExpectItemAttributeToBeText.named, texts),
        rules.ExpectEnterpriseKeyToMatchId(),
        rules.ExpectEnterpriseSortKeyToBeMetadata(),
        rules.ExpectEntityTypeToBeEnterprise(),
        rules.ExpectItemIdToBeCanonical(),
        rules.ExpectItemIdToBeUnique(),
        rules.ExpectItemIdToBeDerived(),
        rules.ExpectEnterpriseNameToBeVisible(),
        rules.ExpectEnterpriseNameToBeUnicode(),
        rules.ExpectNameTwinsToAgree(),
        rules.ExpectCreatedDateToBeCanonical(),
        rules.ExpectCreatedTwinsToAgree(),
        rules.ExpectUpdatedDateToBeCanonical(),
        rules.ExpectUpdatedTwinsToAgree(),
        rules.ExpectItemToFitDynamoDB(),
        rules.ExpectIndexKeysToFit(),
        *map(rules.ExpectMappedRuleToHold.of, item_rules(subject)),
    )


def build_suite(suite: SuiteOf) -> ExpectationSuite:
    """Build a suite of rows or of items, as its name says."""
    return (item_suite if suite.is_of_items else source_suite)(suite.subject)


def table_suite(*, last_rows: int) -> ExpectationSuite:
    """Build the suite that judges the source as a whole against the last run."""
    usual = rules.ExpectRowCountToBeUsual.after(last_rows)
    reason = Reason.ROW_COUNT_UNUSUAL
    return ExpectationSuite(
        name=contract.TABLE_SUITE, expectations=[_explain(usual, reason)]
    )


def _suite(suite: SuiteOf, *expectations: Any) -> ExpectationSuite:
    """Build a suite of those expectations whose reasons its subject has."""
    return ExpectationSuite(
        name=suite.name, expectations=list(_explained(suite, expectations))
    )


def _explained(suite: SuiteOf, expectations: Iterable[Any]) -> Iterable[Any]:
    reasons = contract_reasons(suite)
    for expectation in expectations:
        if isinstance(expectation, rules.ExpectMappedRuleToHold):
            yield expectation
        elif expectation.reason in reasons:
            yield _explain(expectation, reasons[expectation.reason])


def _explain(expectation: rules.Rule, reason: AnyReason) -> rules.Rule:
    """Add reason and column to the results and Data Docs of an expectation.

    Great Expectations does not write the defaults of a class into its results, so
    these values are set on the instance.
    """
    explained = {"reason": reason.value, "column": reason.column}
    expectation.meta = explained | (expectation.meta or {})
    expectation.description = expectation.description or reason.description
    expectation.severity = FailureSeverity(reason.severity.value)
    return expectation
