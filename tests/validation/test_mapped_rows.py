"""Rows of a mapped entity: each reason names the rows that it should, and no other."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from tests.support.mapped_subject import PRODUCTS, column, mapped_rows, nested
from validation.contract import Severity
from validation.report import InputError
from validation.subject import ENTERPRISES, Subject
from validation.validate import validate_enterprises

NINES = "9" * 38
TIMES = {
    "2024-01-05 12:34:56.789+00": None,
    "2020-01-01 00:00:00+00": None,
    "2019-12-31 23:59:59.999999+00": "too_small",
    "infinity": "not_finite",
    "0044-03-15 00:00:00+00 BC": "out_of_range",
    "12000-01-01 00:00:00+00": "out_of_range",
    "2024-01-05": "malformed",
    None: None,
}
DAYS = {
    "2024-12-31": None,
    "0001-01-01": None,
    "2025-01-01": "too_large",
    "-infinity": "not_finite",
    "0044-03-15 BC": "out_of_range",
    "10000-01-01": "out_of_range",
    "5874897-12-31": "out_of_range",
    "2024-01-05 00:00:00+00": "malformed",
    None: None,
}
PRICES = {
    "0": None,
    "-0.0": None,
    "1.50": None,
    "1000.5": None,
    "1000.50": None,
    "1e-130": None,
    None: None,
    "-0.01": "too_small",
    "-5": "too_small",
    "1000.51": "too_large",
    str(2**63): "too_large",
    NINES: "too_large",
    "0." + NINES: None,
    "0.1" + NINES: "too_precise",
    "1e-131": "out_of_range",
    "NaN": "not_a_number",
    "Infinity": "not_a_number",
}
DOCUMENTS = {
    "{}": None,
    '{"": null}': None,
    '"text"': None,
    nested(32): None,
    nested(33): "too_deep",
    f"[{NINES}]": None,
    f"[{NINES}9]": "too_precise",
    f'["{NINES}9"]': None,
    '{"a": 1e999, "a": 1}': None,
    '{"a": 1, "a": 1e999}': "out_of_range",
    r'"\ud800"': "not_unicode",
    None: None,
}
WEIGHTS = {
    "{}": None,
    "{NULL}": None,
    "{{1,2},{3,NULL}}": None,
    "[0:1]={1.5,-2}": None,
    f"{{1,{NINES}}}": None,
    f"{{1,{NINES}9}}": "too_precise",
    "{1e-131}": "out_of_range",
    "{{1},{NaN}}": "not_a_number",
    None: None,
}
PARTS = {
    "{}": None,
    "{NULL,1}": None,
    '{"' + nested(31).replace('"', '\\"') + '"}': None,
    '{"' + nested(32).replace('"', '\\"') + '"}': "too_deep",
    '{{"' + nested(31).replace('"', '\\"') + '"}}': "too_deep",
    f"{{{NINES}9}}": "too_precise",
    r'{"\"\\ud800\""}': "not_unicode",
    None: None,
}
TAGS = {
    "{a,b}": None,
    '{"",a}': None,
    '{"NULL"}': None,
    "{1,1.0}": None,
    "{}": "set_empty",
    "{NULL,a}": "set_null",
    "{{a},{b}}": "set_nested",
    '{a,"a"}': "set_duplicate",
    None: None,
}
SIZES = {
    "{1,2}": None,
    "{1,-1}": None,
    "{}": "set_empty",
    "{1,NULL}": "set_null",
    "{{1,2}}": "set_nested",
    "{1,1.0}": "set_duplicate",
    "{0,-0.0}": "set_duplicate",
    "{1,NaN}": "not_a_number",
    f"{{{NINES}9}}": "too_precise",
    "{1e-131}": "out_of_range",
    None: None,
}
FREE = {
    "plan": {"free": None, "pro's": None, "Free": "not_one_of", "": "not_one_of"},
    "rate": {"1.0": None, "2.50": None, "1e0": None, "2": "not_one_of"},
    "code": {"": None, "é" * 2_000: None, "é" * 2_001: "too_long", None: "key_missing"},
    "owner_id": {None: None, "no number": None, "NaN": None},
    "keeper_id": {
        "3500A20A-FA32-5543-842F-DA54BEF06C63": None,
        "{3500a20afa325543842fda54bef06c63}": None,
        "{3500a20a-fa32-5543-842f-da54bef06c63": "not_a_uuid",
        "3500a20a-fa32-5543-842f-da54bef06c6": "not_a_uuid",
        "urn:uuid:3500a20a-fa32-5543-842f-da54bef06c63": "not_a_uuid",
        "nobody": "not_a_uuid",
        "": "not_a_uuid",
        None: None,
    },
    "active": {None: None, "false": None},
    "words": {"{}": None, "{{a},{NULL}}": None, '{"\\""}': None},
    "photo": {"\\x": None, "\\x00ff": None, None: None},
}
CASES = {
    "sold": TIMES,
    "day": DAYS,
    "price": PRICES,
    "settings": DOCUMENTS,
    "weights": WEIGHTS,
    "parts": PARTS,
    "tags": TAGS,
    "sizes": SIZES,
    **FREE,
}


def reasons(
    rows: pd.DataFrame, subject: Subject = PRODUCTS
) -> list[tuple[Any, str, str]]:
    """Return row, reason and severity of each failure."""
    failures = validate_enterprises(rows, subject=subject).failures
    columns = (failures[name] for name in ("row", "reason", "severity"))
    return list(zip(*columns, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_values_break_the_rule_that_they_should(name: str) -> None:
    """Each value has the reason of its kind, or none, whatever stands beside it."""
    values = list(CASES[name])
    found = reasons(mapped_rows(**{name: values}))

    assert {row: reason for row, reason, _ in found} == {
        row: f"{name}_{what}"
        for row, what in enumerate(CASES[name].values())
        if what is not None
    }
    assert len(found) == len({row for row, _, _ in found})


def test_a_rule_has_the_severity_of_its_column() -> None:
    """A warning does not keep a row; a value that no item can hold always does."""
    rows = mapped_rows(rate=["NaN", "3"], plan=["x", "free"], price=["-1", "1"])

    assert reasons(rows) == [
        (0, "plan_not_one_of", "warning"),
        (0, "price_too_small", "critical"),
        (0, "rate_not_a_number", "critical"),
        (0, "rate_not_one_of", "warning"),
        (1, "rate_not_one_of", "warning"),
    ]


def test_patterns_and_lengths_hold_for_whole_values() -> None:
    """A pattern must match all of a value, of either alternative."""
    values = ["AB-1", "x:y%", "AB-1\n", "xAB-1", "AB", "", None]

    assert [(row, what) for row, what, _ in reasons(mapped_rows(sku=values))] == [
        (2, "sku_not_matching"),
        (3, "sku_not_matching"),
        (4, "sku_not_matching"),
        (4, "sku_too_short"),
        (5, "sku_not_matching"),
        (5, "sku_too_short"),
    ]


@pytest.mark.parametrize(
    ("name", "values", "broken"),
    [
        ("sku", ["AB-1", "AB-2", "AB-1", None, None], [0, 2]),
        ("seats", ["1", "1.0", "10", "1e1", "2"], [0, 1, 2, 3]),
        ("seats", ["0", "-0.0", "3"], [0, 1]),
        ("seats", ["1", "2", str(2**63)], []),
    ],
)
def test_unique_values_are_compared_by_value(
    name: str, values: Sequence[str | None], broken: list[int]
) -> None:
    """Numbers are equal whatever their spelling; missing values are unique."""
    found = reasons(mapped_rows(**{name: values}))

    assert [row for row, what, _ in found if what == f"{name}_not_unique"] == broken


def test_what_is_required_is_missing() -> None:
    """NULL breaks the rule of its column, and the key that is made of it."""
    rows = mapped_rows(
        title=["a", None, "c"], seats=[None, "1", "2"], enterprise_id=["1", "2", None]
    )

    assert [(row, what) for row, what, _ in reasons(rows)] == [
        (0, "seats_missing"),
        (1, "name_missing"),
        (2, "enterprise_id_missing"),
        (2, "enterprise_id_key_missing"),
    ]


def test_a_key_may_not_be_empty() -> None:
    """Empty texts are missing if nothing else is in the key, and NULL always is."""
    subject = Subject(
        "pair",
        (column("a"), column("b")),
        created=False,
        updated=False,
        partition_key=(("", "a"), ("", "b")),
        sort_key=(("", "a"), ("#", None)),
    )
    rows = pd.DataFrame(
        {"source_id": list("1234"), "a": ["", "x", "", None], "b": ["", "", "y", "z"]}
    )

    assert [(row, what) for row, what, _ in reasons(rows, subject)] == [
        (0, "a_key_missing"),
        (0, "b_key_missing"),
        (3, "a_key_missing"),
    ]


def test_flags_are_reasons() -> None:
    """A missing reference is a warning unless its column is critical; a key is not."""
    rows = mapped_rows(price=["1", "2", "3"]).assign(
        key_duplicate=[True, False, None],
        **{
            "reference_missing:enterprise_id": [False, True, None],
            "reference_missing:owner_id": [False, True, False],
        },
    )

    assert reasons(rows) == [
        (0, "key_duplicate", "critical"),
        (1, "enterprise_id_reference_missing", "warning"),
        (1, "owner_id_reference_missing", "critical"),
    ]


@pytest.mark.parametrize("role", ["created", "updated"])
def test_a_single_time_must_be_there(role: str) -> None:
    """Of one time nothing can take the place; without any, none is needed."""
    times = {"created": False, "updated": False} | {role: True}
    subject = Subject("event", (column("a"),), **times)
    neither = replace(subject, created=False, updated=False)
    rows = pd.DataFrame(
        {"source_id": ["1", "2"], "a": ["", None], f"{role}_date": [None, "infinity"]}
    )

    assert [(row, what) for row, what, _ in reasons(rows, subject)] == [
        (0, "timestamps_missing"),
        (1, f"{role}_date_not_finite"),
    ]
    assert reasons(rows, neither) == []


def test_an_optional_name_has_the_rules_of_a_name() -> None:
    """Without `required` NULL passes, and other names are judged as ever."""
    name = replace(ENTERPRISES.columns[0], required=False)
    subject = replace(ENTERPRISES, columns=(name,))
    rows = pd.DataFrame(
        {
            "source_id": list("123"),
            "enterprise_name": [None, " ", "a "],
            "created_date": ["2024-01-05 12:34:56+00"] * 3,
            "updated_date": [None] * 3,
        }
    )

    assert [(row, what) for row, what, _ in reasons(rows, subject)] == [
        (1, "name_blank"),
        (2, "name_padded"),
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        column("a", "number", minimum="one"),
        column("a", "number", maximum="NaN"),
        column("a", "number", one_of=("1", "x")),
        column("a", "timestamp", minimum="tomorrow"),
        column("a", "date", maximum="2024-02-30"),
    ],
)
def test_a_bound_that_is_no_value_is_refused(wrong: Any) -> None:
    """The message names the rule, its column and the bound."""
    subject = Subject("a", (wrong,), created=False, updated=False)
    rows = pd.DataFrame({"source_id": ["1"], "a": ["1"]})

    with pytest.raises(InputError, match=f"of a must be a {wrong.type}, not '"):
        validate_enterprises(rows, subject=subject)


def test_the_report_explains_its_reasons() -> None:
    """A notebook shows the rule of each reason, those of a mapping too."""
    report = validate_enterprises(
        mapped_rows(price=["-1", "1"], title=[" ", "a"]), subject=PRODUCTS
    )
    shown = report._repr_html_()

    assert report.suite == "source_product"
    assert report.reasons.to_dict() == {0: "name_blank;price_too_small"}
    assert "price is at least 0." in shown
    assert "at least one character" in shown
    assert "price is at least 0." in type(report).merged([report])._repr_html_()
    assert set(report.failures["severity"]) == {Severity.CRITICAL.value}
