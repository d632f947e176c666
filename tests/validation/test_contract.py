"""The contract: stable codes, and patterns with one meaning everywhere."""

import calendar
import re
import subprocess
import sys
import unicodedata

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from validation import contract
from validation.contract import Reason, Severity

# Visible Cf: signs that enclose or precede a number, and the Syriac overline.
_DRAWN_FORMATS = {
    *range(0x600, 0x606),
    0x6DD,
    0x70F,
    0x890,
    0x891,
    0x8E2,
    0x110BD,
    0x110CD,
}

_TEXTS = [
    "",
    "\n",
    "a",
    "a\n",
    "\u2028",
    "3500a20a-fa32-5543-842f-da54bef06c63",
    "3500a20a-fa32-5543-842f-da54bef06c63\n",
    " 3500a20a-fa32-5543-842f-da54bef06c63",
    "3500A20A-FA32-5543-842F-DA54BEF06C63",
    "{3500a20a-fa32-5543-842f-da54bef06c63}",
    "3500a20afa325543842fda54bef06c63",
    "\uff12024-01-05T12:34:56.789Z",
    "2024-01-05T12:34:56.789Z",
    "2024-01-05T12:34:56.789Z\n",
    "2024-01-05T12:34:56.78\u0669Z",
    "2024-01-05T24:00:00.000Z",
    "2024-01-05T12:60:00.000Z",
    "2024-01-05T12:34:60.000Z",
    "2024-01-05T12:34:56Z",
    "2024-01-05T12:34:56.789000Z",
    "2024-01-05T12:34:56.789+00:00",
    "2024-01-05t12:34:56.789z",
    "2024-01-05 12:34:56.789Z",
    "2024-01-05T12:34:56,789Z",
    "0000-01-01T00:00:00.000Z",
    "0001-01-01T00:00:00.000Z",
    "2024-01-05 12:34:56.789+00",
    "2024-01-05 12:34:56.789+00\n",
    "2024-01-05 12:34:56+02",
    "12000-01-01 00:00:00+00",
    "0044-03-15 00:00:00+00 BC",
    "294276-12-31 23:59:59.999999",
    "5874897-12-31",
    "4713-01-01 BC",
    "2024-01-05",
    "infinity",
]
_PATTERNS = [
    contract.UUID_PATTERN,
    contract.DERIVED_UUID_PATTERN,
    contract.PLAIN_TIMESTAMP_PATTERN,
    contract.ITEM_TIMESTAMP_PATTERN,
    contract.SOURCE_TIMESTAMP_PATTERN,
    contract.SOURCE_YEAR_PATTERN,
]


def test_reason_codes_are_stable() -> None:
    """Quarantine files and JSON contain the codes: they must never be renamed."""
    assert [reason.value for reason in Reason] == [
        "id_missing",
        "id_duplicate",
        "attribute_missing",
        "key_mismatch",
        "sort_key_wrong",
        "entity_type_wrong",
        "id_malformed",
        "item_duplicate",
        "name_missing",
        "name_blank",
        "name_not_unicode",
        "name_twins_differ",
        "created_date_not_finite",
        "created_date_out_of_range",
        "created_date_malformed",
        "created_twins_differ",
        "updated_date_not_finite",
        "updated_date_out_of_range",
        "updated_date_malformed",
        "updated_twins_differ",
        "timestamps_missing",
        "item_too_large",
        "index_key_too_long",
        "id_not_derived",
        "name_padded",
        "name_control_characters",
        "name_long",
        "name_duplicate",
        "created_date_in_future",
        "updated_date_in_future",
        "updated_before_created",
        "row_count_unusual",
    ]


@pytest.mark.parametrize("reason", Reason)
def test_reason_is_explained(reason: Reason) -> None:
    """Each reason states its rule in a sentence, about a column of the contract."""
    assert reason.description.endswith(".")
    assert reason.column in {*contract.SOURCE_COLUMNS, *contract.ITEM_ATTRIBUTES}
    assert reason.severity in Severity


def test_only_what_can_be_moved_is_a_warning() -> None:
    """A row that DynamoDB can store unchanged and proven is never quarantined."""
    warnings = [each for each in Reason if each.severity is Severity.WARNING]

    assert warnings == [
        Reason.NAME_PADDED,
        Reason.NAME_CONTROL_CHARACTERS,
        Reason.NAME_LONG,
        Reason.NAME_DUPLICATE,
        Reason.CREATED_DATE_IN_FUTURE,
        Reason.UPDATED_DATE_IN_FUTURE,
        Reason.UPDATED_BEFORE_CREATED,
        Reason.ROW_COUNT_UNUSUAL,
    ]


@pytest.mark.parametrize("pattern", _PATTERNS)
def test_pattern_means_the_same_in_arrow_and_in_python(pattern: str) -> None:
    """RE2 and Python's re agree on every text, even with a trailing newline."""
    arrow = pc.match_substring_regex(pa.array(_TEXTS), rf"\A(?:{pattern})\z")

    assert arrow.to_pylist() == [
        re.fullmatch(pattern, text) is not None for text in _TEXTS
    ]


@pytest.mark.parametrize("year", [1, 4, 100, 400, 1900, 2000, 2023, 2024, 9999])
def test_item_timestamp_keeps_the_calendar(year: int) -> None:
    """A day is accepted if and only if the calendar has it, leap years included."""
    for month in range(14):
        days = calendar.monthrange(year, month)[1] if 1 <= month <= 12 else 0
        for day in range(33):
            text = f"{year:04}-{month:02}-{day:02}T23:59:59.999Z"
            accepted = re.fullmatch(contract.ITEM_TIMESTAMP_PATTERN, text) is not None

            assert accepted == (1 <= day <= days), text


def test_blanks_are_unicodes_white_space() -> None:
    """Blanks at the ends of a name are the characters that Python's strip removes."""
    # Python also removes four separators that are controls and no white space.
    separators = {"\x1c", "\x1d", "\x1e", "\x1f"}
    every = map(chr, range(sys.maxunicode + 1))

    assert {c for c in every if c.isspace()} - separators == set(contract.BLANKS)


def test_invisible_characters_cover_unicode() -> None:
    """Spaces, controls and undrawn formats are invisible; letters and digits show."""
    # Letters by category that are not drawn.
    fillers = {0x115F, 0x1160, 0x3164, 0xFFA0}
    visible = re.compile(contract.VISIBLE_CHARACTER_PATTERN)
    wrong = []
    for point in range(sys.maxunicode + 1):
        category = unicodedata.category(chr(point))
        shown = visible.match(chr(point)) is not None
        undrawn = category in {"Zs", "Zl", "Zp", "Cc"} or (
            category == "Cf" and point not in _DRAWN_FORMATS
        )
        drawn = category[0] in "LNPS" and point not in fillers | {0x2800, 0x1D159}
        if (undrawn and shown) or (drawn and not shown):
            wrong.append(f"U+{point:04X}")

    assert wrong == []


@pytest.mark.parametrize(
    "module",
    ["validation", "validation.contract", "validation.report", "validation.validate"],
)
def test_import_leaves_great_expectations_out(module: str) -> None:
    """Importing the package imports neither Great Expectations nor the flows."""
    code = (
        f"import sys, {module}\n"
        "heavy = {'great_expectations', 'prefect', 'flows'} & set(sys.modules)\n"
        "print(sorted(heavy))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert (result.stdout, result.stderr) == ("[]\n", "")
