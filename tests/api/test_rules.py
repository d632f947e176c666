"""The small rules: names, ids, cursors and times."""

import re
import sys
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.api.cursors import BadCursor, Cursors
from flows.api.ids import is_opaque, row_id
from flows.api.names import require_visible
from flows.api.store import Conflict, Enterprise, next_stamp
from validation.contract import VISIBLE_CHARACTER_PATTERN

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def sees(character: str) -> bool:
    """Return whether the service treats a character as visible."""
    try:
        require_visible(character)
    except ValueError:
        return False
    return True


def test_the_service_and_the_validation_see_the_same() -> None:
    """A name that the service accepts must not be quarantined in a migration."""
    contract = re.compile(VISIBLE_CHARACTER_PATTERN)

    differing = [
        hex(point)
        for point in range(sys.maxunicode + 1)
        if sees(chr(point)) != bool(contract.search(chr(point)))
    ]

    assert differing == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0", 0),
        ("-7", -7),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("9223372036854775808", None),
        ("9" * 20, None),
        ("-0", None),
        ("01", None),
        ("+1", None),
        ("1_0", None),
        ("\u0661", None),
        ("", None),
    ],
)
def test_an_integer_id_is_written_in_one_way(text: str, found: int | None) -> None:
    """One row has one path: no leading zeros, no other digits, at most 64 bits."""
    assert row_id(text, "integer") == found


def test_ids_of_other_columns_are_as_the_columns_have_them() -> None:
    """A UUID must be canonical, and a text opaque."""
    canonical = "3500a20a-fa32-5543-842f-da54bef06c63"

    assert row_id(canonical, "uuid") == canonical
    assert row_id(canonical.upper(), "uuid") is None
    assert row_id(f"{{{canonical}}}", "uuid") is None
    assert row_id(canonical, "text") == canonical
    assert row_id("a b", "text") is None
    assert is_opaque("a" * 128)
    assert not is_opaque("a" * 129)


@given(st.integers(-(2**63), 2**63 - 1) | st.text(max_size=300))
def test_a_cursor_opens_to_what_was_sealed(position: int | str) -> None:
    """Any position must be restored, with the same key and store only."""
    cursors = Cursors(b"key", "dynamodb A")
    sealed = cursors.seal(position)

    assert cursors.open(sealed) == position
    assert re.fullmatch(r"[A-Za-z0-9_-]+", sealed)
    for other in (Cursors(b"other", "dynamodb A"), Cursors(b"key", "dynamodb B")):
        with pytest.raises(BadCursor):
            other.open(sealed)


def test_a_cursor_continues_only_its_own_order() -> None:
    """A position among names must not be read as one among ids, nor the reverse."""
    cursors = Cursors(b"key", "postgres A")
    by_name, by_id = cursors.seal(["Acme", 7], "name"), cursors.seal(7)

    assert cursors.open(by_name, "name") == ["Acme", 7]
    for cursor, sort in ((by_name, None), (by_id, "name"), (by_name, "names")):
        with pytest.raises(BadCursor):
            cursors.open(cursor, sort)


@given(st.text())
def test_no_text_opens_by_chance(text: str) -> None:
    """Any text that the service did not create must be refused."""
    with pytest.raises(BadCursor):
        Cursors(b"key", "store").open(text)


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)))  # noqa: DTZ001
def test_the_next_time_is_later_than_any_last_one(last: datetime) -> None:
    """It must have the contract's form, so that texts compare as instants."""
    before = last.replace(tzinfo=UTC)

    stamp = next_stamp(before.isoformat())

    assert STAMP.fullmatch(stamp)
    assert datetime.fromisoformat(stamp) > before


def test_times_of_other_forms_count_as_instants() -> None:
    """Offsets, missing zones and microseconds must not hide a later time."""
    ahead = datetime.now(UTC) + timedelta(days=400)
    day = ahead.strftime("%Y-%m-%d")

    assert next_stamp(f"{day}T01:00:00+02:00") > (ahead - timedelta(1)).isoformat()[:10]
    assert next_stamp(f"{day} 10:00:00.000999") == f"{day}T10:00:00.001Z"
    assert next_stamp(f"{day}T10:00:00Z") == f"{day}T10:00:00.001Z"
    with pytest.raises(Conflict):
        next_stamp("9999-12-31T23:59:59.999Z")


@pytest.mark.parametrize("text", [None, "", "infinity", "now", "44-03-15 BC", "x"])
def test_what_is_no_time_does_not_count(text: str | None) -> None:
    """The time of the change must then be now."""
    began = datetime.now(UTC) - timedelta(seconds=1)

    stamp = datetime.fromisoformat(next_stamp(text))

    assert began <= stamp <= datetime.now(UTC)


def test_each_field_is_in_the_etag() -> None:
    """A change of any field must change the ETag."""
    one = Enterprise("1", "a", "b", "c")
    others = [
        Enterprise(1, "a", "b", "c"),
        Enterprise("1", "ab", "", "c"),
        Enterprise("1", None, "b", "c"),
        Enterprise("1", "a", "b", "d"),
    ]

    assert len({each.etag for each in (one, *others)}) == 5
    assert re.fullmatch(r'"[0-9a-f]{32}"', one.etag)
