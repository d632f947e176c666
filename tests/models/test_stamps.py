"""The rule of which item changed after its row, with stamps of any program."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from flows.models.stamps import has_readable_stamps, is_newer

STAMP = "2024-01-05T12:34:56.789Z"
LATER = "2024-01-05T12:34:56.790Z"


@pytest.mark.parametrize(
    ("theirs", "newer"),
    [
        ("2024-01-05T12:34:56.789Z", False),
        ("2024-01-05T12:34:56.790Z", True),
        ("2024-01-05T12:34:56.788Z", False),
        ("2024-01-05T12:34:56Z", False),
        ("2024-01-05T12:34:57Z", True),
        ("2024-01-05T12:34:56.789000Z", False),
        ("2024-01-05T12:34:56.789001Z", True),
        ("2024-01-05T12:34:57.123456789Z", True),
        ("2024-01-05T12:34:57+00:00", True),
        ("2024-01-05T14:34:56.789+02:00", False),
        ("2024-01-05T14:34:57+02:00", True),
        ("2024-01-05T13:00:00+02:00", False),
        ("2024-01-05 12:34:57", True),
        ("20240105T123457Z", True),
        ("Fri, 05 Jan 2024 12:34:57 GMT", True),
        ("2024-01-06", True),
        ("2024-01-05", False),
        ("9999-12-31T23:59:59.999Z", True),
        ("10000-01-01T00:00:00.000Z", True),
        ("+010000-01-01T00:00:00.000Z", True),
        ("294276-12-31 23:59:59+00", True),
        ("10000-01-01 00:00:00+00 BC", False),
        ("-010000-01-01T00:00:00.000Z", False),
        (1704458096, False),
        (1704458097, True),
        ("1704458097", True),
        (1704458096789, False),
        (1704458096790, True),
        (1704458096789000, False),
        (1704458096789001, True),
        (1704458096789001000, True),
        ({"N": "1704458096.789"}, False),
        ({"N": "1704458096.79"}, True),
        (7, False),
        (-7, False),
        ("20240106", True),
        ("20240104", False),
        ("20230105123457", False),
        ("05/01/2024", True),
        ("01.02.2024", True),
        ("04/01/2024", True),
        ("01/04/2024", True),
        ("13/12/2023 10:00", False),
        ("1/6/2024, 10:00:00 AM", True),
        ("Fri Jan 05 2024 13:34:56 GMT+0100 (Central European Standard Time)", False),
        ("Fri Jan 05 2024 13:34:57 GMT+0100 (Central European Standard Time)", True),
        ("2024-01-05T13:34:56.789+01:00[Europe/Paris]", False),
        ("2024-01-05T13:34:56.790+01:00[Europe/Paris]", True),
        ("0001-01-01T00:00:00Z", False),
    ],
)
def test_an_item_is_newer_by_its_instant(theirs: Any, *, newer: bool) -> None:
    """The later instant must win, in any form that another program wrote."""
    assert is_newer({"updatedAt": theirs}, "2024-01-05T12:34:56.789Z") is newer


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"updatedAt": ""},
        {"updatedAt": "now"},
        {"updatedAt": "today"},
        {"updatedAt": "12:00"},
        {"updatedAt": "tomorrow, or so"},
        {"updatedAt": "NaT"},
        {"updatedAt": "nan"},
        {"updatedAt": "infinity"},
        {"updatedAt": True},
        {"updatedAt": {"L": []}},
        {"updatedAt": {"NULL": True}},
        {"updatedAt": {"N": "1E+400"}},
        {"updatedAt": "12:00+1200"},
        {"updatedAt": 10**40, "updated_date": -(10**40)},
    ],
)
def test_what_is_no_timestamp_is_not_newer(item: Mapping[str, Any]) -> None:
    """An item without an instant must never block the row, at any time."""
    assert is_newer(item, "0001-01-01T00:00:00.000Z") is False
    assert has_readable_stamps(item) is False


@given(st.datetimes(), st.datetimes())
@hypothesis(deadline=None)
def test_newer_does_not_depend_on_the_form(ours: datetime, other: datetime) -> None:
    """A stamp in our form and the same instant in another form must compare equal."""
    stamp, theirs = (each.isoformat(timespec="milliseconds") for each in (ours, other))

    found = {
        is_newer({"updatedAt": f"{theirs}{zone}"}, f"{stamp}Z")
        for zone in ("Z", "+00:00", "000Z", "")
    }

    assert found == {theirs > stamp}


@pytest.mark.parametrize("theirs", [LATER, 1704458096790, "2024-01-06"])
def test_either_stamp_makes_an_item_newer(theirs: Any) -> None:
    """One later stamp of the two must suffice: an application may write only one."""
    assert is_newer({"updatedAt": STAMP, "updated_date": theirs}, STAMP)
    assert is_newer({"updatedAt": theirs, "updated_date": STAMP}, STAMP)
    assert is_newer({"updated_date": theirs}, STAMP)
    assert not is_newer({"updatedAt": STAMP, "updated_date": STAMP}, STAMP)


@pytest.mark.parametrize(
    ("item", "readable"),
    [
        ({"updatedAt": STAMP}, True),
        ({"updated_date": 1704458096}, True),
        ({"updatedAt": STAMP, "updated_date": STAMP}, True),
        ({"updatedAt": "yesterday", "updated_date": STAMP}, False),
        ({"updatedAt": STAMP, "updated_date": {"NULL": True}}, False),
        ({}, False),
        ({"updatedAt": 999_999_999}, False),
        ({"updatedAt": 1_000_000_000}, True),
        ({"updatedAt": {"N": "45351.5"}}, False),
        ({"updatedAt": "638447616010000000"}, False),
        ({"updatedAt": "2025"}, False),
        ({"updatedAt": "20240105"}, True),
        ({"updatedAt": "2024-01-05T12:34:56[America/New_York]"}, False),
        ({"updatedAt": "2024-01-05T12:34:56.789Z[-08:00]"}, True),
        ({"updatedAt": "2024-01-05 12:34:56 (PST)"}, False),
        ({"updatedAt": "2024-01-05 12:34:56 BST-1"}, False),
        ({"updatedAt": "2024-01-05T12:34:56Z-08:00"}, False),
        ({"updatedAt": "2024-01-05 12:34:56 UTC-08:00"}, True),
    ],
)
def test_stamps_are_readable_if_each_that_is_there_is(
    item: Mapping[str, Any], *, readable: bool
) -> None:
    """An unreadable stamp may be later than the readable one beside it.

    A number before 2001 may be days, or ticks of another epoch. A zone without its
    offset, and an offset after a zone's name, may mean a later time than they show.
    """
    assert has_readable_stamps(item) is readable


@given(st.text() | st.from_regex(r"\A[0-9+.:/ TZGMTUC()\[\]eE-]{1,40}\Z"))
@hypothesis(deadline=None)
def test_no_text_is_too_odd_to_be_asked(theirs: str) -> None:
    """The rule must give an answer for any text, without a warning."""
    assert is_newer({"updatedAt": theirs}, STAMP) in {True, False}
