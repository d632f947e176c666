"""The suites: what every row of the source, every item and the table must satisfy."""

from collections.abc import Callable
from typing import Final

from great_expectations.core import ExpectationSuite
from great_expectations.expectations.metadata_types import FailureSeverity

from validation import contract
from validation import expectations as rules


def source_suite() -> ExpectationSuite:
    """Build the suite that judges the facts of the source's rows."""
    return _suite(
        contract.SOURCE_SUITE,
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
    )


def item_suite() -> ExpectationSuite:
    """Build the suite that judges the facts of the items."""
    return _suite(
        contract.ITEM_SUITE,
        *map(rules.ExpectItemAttributeToBeText.named, contract.ITEM_ATTRIBUTES),
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
    )


def table_suite(*, last_rows: int) -> ExpectationSuite:
    """Build the suite that judges the source as a whole against the last run."""
    usual = rules.ExpectRowCountToBeUsual.after(last_rows)
    return _suite(contract.TABLE_SUITE, usual)


def _suite(name: str, *expectations: rules.Rule) -> ExpectationSuite:
    return ExpectationSuite(name=name, expectations=[_told(e) for e in expectations])


def _told(expectation: rules.Rule) -> rules.Rule:
    """Add reason and column to the results and Data Docs of an expectation.

    Great Expectations does not write the defaults of a class into its results, so
    these values are set on the instance.
    """
    reason = expectation.reason
    told = {"reason": reason.value, "column": reason.column}
    expectation.meta = told | (expectation.meta or {})
    expectation.description = expectation.description or reason.description
    expectation.severity = FailureSeverity(reason.severity.value)
    return expectation


SUITES: Final[dict[str, Callable[[], ExpectationSuite]]] = {
    contract.SOURCE_SUITE: source_suite,
    contract.ITEM_SUITE: item_suite,
}
