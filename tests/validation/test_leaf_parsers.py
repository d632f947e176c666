"""Numbers, arrays and JSON are read exactly, whatever PostgreSQL's text holds."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg2.extensions import STRINGARRAY

from tests.support.mapped_subject import nested
from validation.array_text import leaves, parse_array
from validation.decimal_text import judge_number, number_bytes, read_number
from validation.json_text import ODD_JSON, judge_json

PROFILE = settings(deadline=None, database=None, derandomize=True, max_examples=200)
NINES = "9" * 38

TEXTS = st.none() | st.text(st.characters(exclude_characters="\0", codec="utf-8"))
ARRAYS = st.recursive(
    st.lists(TEXTS, max_size=4),
    lambda inner: st.lists(inner.filter(len), min_size=1, max_size=3),
    max_leaves=6,
)


def spell_array(values: list[Any]) -> str:
    """Spell an array as PostgreSQL does, with each text in quotes."""
    parts = []
    for value in values:
        if isinstance(value, list):
            parts.append(spell_array(value))
        elif value is None:
            parts.append("NULL")
        else:
            quoted = value.replace("\\", "\\\\").replace('"', '\\"')
            parts.append(f'"{quoted}"')
    return "{" + ",".join(parts) + "}"


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("0", (True, True, True)),
        ("-0.0", (True, True, True)),
        ("1.50", (True, True, True)),
        (str(2**63), (True, True, True)),
        (NINES, (True, True, True)),
        (NINES + "0000", (True, True, True)),
        ("0.000" + NINES, (True, True, True)),
        (NINES + "9", (True, False, True)),
        ("1" + "0" * 37 + ".1", (True, False, True)),
        ("1e-130", (True, True, True)),
        ("1e-131", (True, True, False)),
        ("-9.9e-131", (True, True, False)),
        ("9" * 38 + "0" * 88, (True, True, True)),
        ("1" + "0" * 125, (True, True, True)),
        ("1" + "0" * 126, (True, True, False)),
        ("1e+126", (True, True, False)),
        ("0e999999999999", (True, True, True)),
        ("1e999999999999", (True, True, False)),
        ("-1E-00000000000000007", (True, True, True)),
        ("NaN", (False, True, True)),
        ("-Infinity", (False, True, True)),
        ("1_000", (False, True, True)),
        ("\u0661", (False, True, True)),
        (" 1", (False, True, True)),
        (".", (False, True, True)),
        ("", (False, True, True)),
    ],
)
def test_a_number_is_judged_by_its_digits(
    text: str, facts: tuple[bool, bool, bool]
) -> None:
    """Zeros at the ends do not count, and DynamoDB's range is exact at both ends."""
    assert judge_number(text) == facts


@PROFILE
@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_number_is_judged_as_decimal_reads_it(number: Decimal) -> None:
    """Digits and range are those of an independent reader of decimals."""
    text = str(number)
    digits = len("".join(map(str, number.as_tuple().digits)).strip("0"))
    in_range = not number or -130 <= number.adjusted() <= 125

    assert judge_number(text) == (True, digits <= 38, in_range)
    assert read_number(text) == number
    assert number_bytes(text) == (digits + 1) // 2 + 1 + (
        text.startswith("-") and bool(digits)
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", []),
        ("{1,2}", ["1", "2"]),
        ('{NULL,"NULL",null}', [None, "NULL", "null"]),
        ("{{1,2},{3,NULL}}", [["1", "2"], ["3", None]]),
        ("[2:3]={1,2}", ["1", "2"]),
        ("[0:0][-1:0]={{1,2}}", [["1", "2"]]),
        (r'{"a,b","{}","\"","\\",""}', ["a,b", "{}", '"', "\\", ""]),
        ('{"a=b"}', ["a=b"]),
        ("{=}", ["="]),
    ],
)
def test_an_array_is_read_as_postgresql_spells_it(
    text: str, expected: list[Any]
) -> None:
    """Quotes, NULL, dimensions and bounds have PostgreSQL's meaning."""
    assert parse_array(text) == expected


def test_boxes_are_separated_by_semicolons() -> None:
    """A comma within a box is part of it."""
    assert parse_array("{(1,1),(0,0);(2,2),(1,1)}", ";") == [
        "(1,1),(0,0)",
        "(2,2),(1,1)",
    ]


@pytest.mark.parametrize(
    "text", ["", "1", "{", "}", "{{}", "{}}", '{"a}', "[1:2]", "{a}{b}"]
)
def test_what_is_no_array_is_refused(text: str) -> None:
    """A text that ends too early or too late is an error, and not an empty array."""
    with pytest.raises(ValueError, match="not that of an array"):
        parse_array(text)


@PROFILE
@given(ARRAYS)
def test_any_array_is_read_back(values: list[Any]) -> None:
    """What is spelled is read; one dimension as psycopg2 reads it."""
    text = spell_array(values)

    assert parse_array(text) == values
    if not any(isinstance(value, list) for value in values):
        assert leaves(values) == values
        assert STRINGARRAY(text, None) == values


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("{}", (True, True, True, True)),
        ('{"": null}', (True, True, True, True)),
        (nested(32), (True, True, True, True)),
        (nested(33), (False, True, True, True)),
        (nested(32, "{}"), (False, True, True, True)),
        (nested(100_000), (False, True, True, True)),
        (f"[{NINES}]", (True, True, True, True)),
        (f"[{NINES}9]", (True, False, True, True)),
        (f'["{NINES}9", "1e999"]', (True, True, True, True)),
        ('{"a": 1e126}', (True, True, False, True)),
        ('{"a": 1e126, "a": 1}', (True, True, True, True)),
        ('{"a": 1, "a": 1e126}', (True, True, False, True)),
        ("1" + "0" * 5_000, (True, True, False, True)),
        (r'"\ud83d\ude00"', (True, True, True, True)),
        (r'"\ud83d"', (True, True, True, False)),
        (r'{"\ude00": 1}', (True, True, True, False)),
        ("not JSON", (True, True, True, True)),
    ],
)
def test_a_document_is_judged_by_what_is_in_it(
    text: str, facts: tuple[bool, bool, bool, bool]
) -> None:
    """Of equal names the last counts, numbers are exact, and strings are no numbers."""
    assert judge_json(text) == facts


NUMBERS = st.decimals(allow_nan=False, allow_infinity=False).map(str)
LEAVES = NUMBERS | st.text(st.characters(codec="utf-8")).map(json.dumps)
DOCUMENTS = st.recursive(
    LEAVES, lambda one: st.lists(one, max_size=3).map(lambda x: f"[{','.join(x)}]")
)


@PROFILE
@given(DOCUMENTS)
def test_the_pattern_of_odd_documents_misses_none(text: str) -> None:
    """A document without the pattern has nothing that DynamoDB cannot hold."""
    import pyarrow as pa
    import pyarrow.compute as pc

    odd = pc.match_substring_regex(pa.array([text]), ODD_JSON)[0].as_py()

    assert odd or judge_json(text)[1:] == (True, True, True)
