"""The values of rules: read by the type of their attribute, or named as a fault."""

import pytest

from flows.mapping.model import Attribute, FieldType
from flows.models import Rules
from flows.stores.postgres.rules import read_rules, spell


@pytest.mark.parametrize(
    ("text", "kind", "spelled"),
    [
        ("1.50", "number", "1.5"),
        ("-0.0", "number", "0"),
        ("5e3", "number", "5000"),
        ("1E-130", "number", "0." + "0" * 129 + "1"),
        ("9" * 38, "number", "9" * 38),
        ("true", "boolean", "true"),
        ("2024-01-31", "date", "2024-01-31"),
        ("2024-01-31", "timestamp", "2024-01-31 00:00:00+00"),
        ("2024-01-31T12:00:00Z", "timestamp", "2024-01-31 12:00:00+00"),
        ("2024-01-31 12:00:00.250+02:00", "timestamp", "2024-01-31 10:00:00.25+00"),
        ("0001-01-01 00:00:00", "timestamp", "0001-01-01 00:00:00+00"),
        ("", "text", ""),
        (" 1.50", "text", " 1.50"),
        ("{1}", "list", "{1}"),
    ],
)
def test_a_value_is_spelled_as_postgresql_does(
    text: str, kind: FieldType, spelled: str
) -> None:
    """Rows hold PostgreSQL's text, so a rule's value must have the same form."""
    assert spell(text, kind) == spelled


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *((text, "number") for text in ("", "NaN", "inf", "1_0", "٣", "0x1", " 1")),
        *((text, "number") for text in ("1e126", "1e-131", "9" * 39, "1e99999")),
        *((text, "boolean") for text in ("yes", "True", "1", "")),
        *((text, "date") for text in ("now", "2024-02-30", "2024-01-01 00:00:00")),
        *((text, "timestamp") for text in ("infinity", "12:00", "2024-13-01")),
        ("0001-01-01 00:00:00+02:00", "timestamp"),
    ],
)
def test_a_value_that_cannot_be_read_is_none(text: str, kind: FieldType) -> None:
    """A value that no row can have, or that means something else later, is refused."""
    assert spell(text, kind) is None


def test_all_rules_are_kept() -> None:
    """Each rule of an attribute must arrive, so that none is silently not checked."""
    attribute = Attribute(
        column="price",
        is_name=True,
        required=True,
        one_of=("1.0", "2"),
        matches=r"\d+",
        minimum="1.0",
        maximum="2e1",
        unique=True,
        severity="warning",
    )

    rules, faults = read_rules(attribute, "number")

    assert not faults
    assert rules == Rules(
        is_name=True,
        required=True,
        one_of=("1", "2"),
        matches=r"\d+",
        minimum="1",
        maximum="20",
        unique=True,
        severity="warning",
    )


@pytest.mark.parametrize(
    ("rule", "kind", "fault"),
    [
        (
            {"minimum": "1"},
            "text",
            "minimum needs type number, timestamp, date, and the type is text",
        ),
        (
            {"maximum": "x"},
            "number",
            "maximum 'x' is not a number that DynamoDB can hold, e.g. 12.5",
        ),
        ({"one_of": ("yes",)}, "boolean", "one_of 'yes' is not true or false"),
        (
            {"max_length": 3},
            "number",
            "max_length needs a text, and the type is number",
        ),
        ({"minimum": "10", "maximum": "9"}, "number", "minimum 10 is above maximum 9"),
        (
            {"minimum": "2024-01-01", "maximum": "2023-12-31"},
            "date",
            "minimum 2024-01-01 is above maximum 2023-12-31",
        ),
    ],
)
def test_a_rule_that_does_not_fit_is_a_fault(
    rule: dict[str, object], kind: FieldType, fault: str
) -> None:
    """A fault names the rule, its value, and what is needed."""
    _, faults = read_rules(Attribute.model_validate({"column": "c"} | rule), kind)

    assert faults == [fault]
