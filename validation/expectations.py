"""The rules in terms of the business.

Each is a stock expectation of Great Expectations on one fact of a row
(`validation.facts`), and has the reason for which a row that breaks it fails.
"""

from typing import ClassVar, Self, TypeAlias

from great_expectations.expectations.core.expect_column_values_to_be_in_set import (
    ExpectColumnValuesToBeInSet,
)
from great_expectations.expectations.core.expect_table_row_count_to_be_between import (
    ExpectTableRowCountToBeBetween,
)
from great_expectations.expectations.metadata_types import FailureSeverity

from validation import rules
from validation.contract import USUAL_ROW_CHANGE, Reason


class ExpectFactToHold(ExpectColumnValuesToBeInSet):
    """Expect a fact to be true of every row."""

    reason: ClassVar[Reason]
    value_set: list[bool] = [True]  # noqa: RUF012  # a field: pydantic copies it


class ExpectEnterpriseIdToBePresent(ExpectFactToHold):
    """Expect every row to have an id."""

    reason: ClassVar = Reason.ID_MISSING
    column: str = "id_present"


class ExpectEnterpriseIdToBeUnique(ExpectFactToHold):
    """Expect no two rows of the partition to have the same id."""

    reason: ClassVar = Reason.ID_DUPLICATE
    column: str = "id_unique"


class ExpectEnterpriseIdToBeUnclaimed(ExpectFactToHold):
    """Expect no row elsewhere in the table to yield the same id."""

    reason: ClassVar = Reason.ID_DUPLICATE
    column: str = "id_unclaimed"


class ExpectEnterpriseNameToBePresent(ExpectFactToHold):
    """Expect every enterprise to have a name."""

    reason: ClassVar = Reason.NAME_MISSING
    column: str = "name_present"


class ExpectEnterpriseNameToBeVisible(ExpectFactToHold):
    """Expect every name to have a visible character."""

    reason: ClassVar = Reason.NAME_BLANK
    column: str = "name_visible"


class ExpectEnterpriseNameToBeUnicode(ExpectFactToHold):
    """Expect every name to be text that both stores can hold."""

    reason: ClassVar = Reason.NAME_NOT_UNICODE
    column: str = "name_unicode"


class ExpectCreatedDateToBeFinite(ExpectFactToHold):
    """Expect no created_date to be infinity."""

    reason: ClassVar = Reason.CREATED_DATE_NOT_FINITE
    column: str = "created_date_finite"


class ExpectCreatedDateToBeRecognised(ExpectFactToHold):
    """Expect every created_date to be PostgreSQL's text in UTC."""

    reason: ClassVar = Reason.CREATED_DATE_MALFORMED
    column: str = "created_date_recognised"


class ExpectCreatedDateToBeInRange(ExpectFactToHold):
    """Expect every created_date to lie in the years 0001 to 9999."""

    reason: ClassVar = Reason.CREATED_DATE_OUT_OF_RANGE
    column: str = "created_date_in_range"


class ExpectUpdatedDateToBeFinite(ExpectFactToHold):
    """Expect no updated_date to be infinity."""

    reason: ClassVar = Reason.UPDATED_DATE_NOT_FINITE
    column: str = "updated_date_finite"


class ExpectUpdatedDateToBeRecognised(ExpectFactToHold):
    """Expect every updated_date to be PostgreSQL's text in UTC."""

    reason: ClassVar = Reason.UPDATED_DATE_MALFORMED
    column: str = "updated_date_recognised"


class ExpectUpdatedDateToBeInRange(ExpectFactToHold):
    """Expect every updated_date to lie in the years 0001 to 9999."""

    reason: ClassVar = Reason.UPDATED_DATE_OUT_OF_RANGE
    column: str = "updated_date_in_range"


class ExpectEnterpriseTimestampToBePresent(ExpectFactToHold):
    """Expect every row to have a created_date or an updated_date."""

    reason: ClassVar = Reason.TIMESTAMPS_MISSING
    column: str = "timestamp_present"


class ExpectItemAttributeToBeText(ExpectFactToHold):
    """Expect every item to have an attribute, as a string."""

    reason: ClassVar = Reason.ATTRIBUTE_MISSING

    @classmethod
    def named(cls, attribute: str) -> Self:
        """Return the expectation for *attribute*."""
        return cls(
            column=f"{attribute}_text",
            description=f"{attribute} is there, and is a string.",
            meta={"column": attribute},
        )


class ExpectEnterpriseKeyToMatchId(ExpectFactToHold):
    """Expect every partition key to be ENT# followed by the item's id."""

    reason: ClassVar = Reason.KEY_MISMATCH
    column: str = "key_matches_id"


class ExpectEnterpriseSortKeyToBeMetadata(ExpectFactToHold):
    """Expect every sort key to be METADATA."""

    reason: ClassVar = Reason.SORT_KEY_WRONG
    column: str = "sort_key_right"


class ExpectEntityTypeToBeEnterprise(ExpectFactToHold):
    """Expect every item to have the entity type of an enterprise."""

    reason: ClassVar = Reason.ENTITY_TYPE_WRONG
    column: str = "entity_type_right"


class ExpectItemIdToBeCanonical(ExpectFactToHold):
    """Expect every id to be a UUID in canonical lower case."""

    reason: ClassVar = Reason.ID_MALFORMED
    column: str = "id_canonical"


class ExpectItemIdToBeUnique(ExpectFactToHold):
    """Expect no two items to have the same id."""

    reason: ClassVar = Reason.ITEM_DUPLICATE
    column: str = "id_unique"


class ExpectNameTwinsToAgree(ExpectFactToHold):
    """Expect name to repeat enterprise_name."""

    reason: ClassVar = Reason.NAME_TWINS_DIFFER
    column: str = "name_twins_equal"


class ExpectCreatedDateToBeCanonical(ExpectFactToHold):
    """Expect every created_date to be written as YYYY-MM-DDTHH:MM:SS.mmmZ."""

    reason: ClassVar = Reason.CREATED_DATE_MALFORMED
    column: str = "created_date_canonical"


class ExpectCreatedTwinsToAgree(ExpectFactToHold):
    """Expect createdAt to repeat created_date."""

    reason: ClassVar = Reason.CREATED_TWINS_DIFFER
    column: str = "created_twins_equal"


class ExpectUpdatedDateToBeCanonical(ExpectFactToHold):
    """Expect every updated_date to be written as YYYY-MM-DDTHH:MM:SS.mmmZ."""

    reason: ClassVar = Reason.UPDATED_DATE_MALFORMED
    column: str = "updated_date_canonical"


class ExpectUpdatedTwinsToAgree(ExpectFactToHold):
    """Expect updatedAt to repeat updated_date."""

    reason: ClassVar = Reason.UPDATED_TWINS_DIFFER
    column: str = "updated_twins_equal"


class ExpectItemIdToBeDerived(ExpectFactToHold):
    """Expect every id to be the version 5 UUID of its integer source id."""

    reason: ClassVar = Reason.ID_NOT_DERIVED
    column: str = "id_derived"


class ExpectItemToFitDynamoDB(ExpectFactToHold):
    """Expect every item to be within DynamoDB's limit of bytes."""

    reason: ClassVar = Reason.ITEM_TOO_LARGE
    column: str = "item_fits"


class ExpectIndexKeysToFit(ExpectFactToHold):
    """Expect no value to be too long for the index whose key it is."""

    reason: ClassVar = Reason.INDEX_KEY_TOO_LONG
    column: str = "index_keys_fit"


class ExpectEnterpriseNameToBeTrim(ExpectFactToHold):
    """Expect no name to begin or end with a blank."""

    reason: ClassVar = Reason.NAME_PADDED
    column: str = "name_trim"


class ExpectEnterpriseNameToBePrintable(ExpectFactToHold):
    """Expect no name to hold a control character."""

    reason: ClassVar = Reason.NAME_CONTROL_CHARACTERS
    column: str = "name_printable"


class ExpectEnterpriseNameToBeShort(ExpectFactToHold):
    """Expect every name to have at most 255 characters."""

    reason: ClassVar = Reason.NAME_LONG
    column: str = "name_short"


class ExpectEnterpriseNameToBeUnique(ExpectFactToHold):
    """Expect no two rows to have the same name."""

    reason: ClassVar = Reason.NAME_DUPLICATE
    column: str = "name_unique"


class ExpectCreatedDateToBePast(ExpectFactToHold):
    """Expect no created_date to be in the future."""

    reason: ClassVar = Reason.CREATED_DATE_IN_FUTURE
    column: str = "created_date_past"


class ExpectUpdatedDateToBePast(ExpectFactToHold):
    """Expect no updated_date to be in the future."""

    reason: ClassVar = Reason.UPDATED_DATE_IN_FUTURE
    column: str = "updated_date_past"


class ExpectUpdateToFollowCreation(ExpectFactToHold):
    """Expect no updated_date to be before its created_date."""

    reason: ClassVar = Reason.UPDATED_BEFORE_CREATED
    column: str = "dates_ordered"


class ExpectRowCountToBeUsual(ExpectTableRowCountToBeBetween):
    """Expect about as many rows as in the last run."""

    reason: ClassVar = Reason.ROW_COUNT_UNUSUAL

    @classmethod
    def after(cls, rows: int) -> Self:
        """Return the expectation after a run of *rows* rows."""
        change = int(rows * USUAL_ROW_CHANGE)
        return cls(min_value=rows - change, max_value=rows + change)


class ExpectMappedRuleToHold(ExpectFactToHold):
    """Expect a rule that a mapping makes to hold for every row or item."""

    @classmethod
    def of(cls, rule: rules.Rule) -> Self:
        """Return the expectation of a rule."""
        reason = rule.reason
        return cls(
            column=rule.fact,
            description=reason.description,
            meta={"reason": reason.value, "column": reason.column},
            severity=FailureSeverity(reason.severity.value),
        )


Rule: TypeAlias = ExpectFactToHold | ExpectRowCountToBeUsual
