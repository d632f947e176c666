"""The circumstances of a report: times in UTC, and who made it."""

import os

import pytest

from flows.reports.circumstances import (
    Circumstances,
    describe_circumstances,
    format_moment,
)

PLACE = {"host": "db.example.com", "port": "5432", "dbname": "shop"}


def test_the_operator_is_named() -> None:
    """A given name must win over the user of the process."""
    made = describe_circumstances(0.0, "Ana Ng", PLACE, account="1")

    assert (made.operator, made.account, made.begun) == (
        "Ana Ng",
        "1",
        "1970-01-01T00:00:00.000Z",
    )
    assert made.database == "database shop on db.example.com, port 5432"
    assert made.host == os.uname().nodename
    assert made.version


@pytest.mark.parametrize("name", ["LOGNAME", "USER"])
def test_the_user_of_the_process_is_the_operator(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Without a name, the environment names the operator."""
    monkeypatch.delenv("LOGNAME", raising=False)
    monkeypatch.setenv(name, "ana")

    assert describe_circumstances(0.0, None, PLACE).operator == "ana"


def test_a_user_without_a_name_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may run as any number: the report must be written all the same."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    made = describe_circumstances(0.0, None, {})

    assert (made.operator, made.database) == ("", "")
    assert made.asdict()["operator"] is None


def test_a_moment_is_cut_to_milliseconds() -> None:
    """Rounding could show an end in the next second."""
    assert format_moment(1_709_164_799.9999) == "2024-02-28T23:59:59.999Z"


def test_the_duration_is_from_begin_to_end() -> None:
    """Without both times there is no duration."""
    times = {"begun": "2024-02-29T00:00:00.000Z", "ended": "2024-02-29T00:03:12.400Z"}

    assert Circumstances(**times).duration == "3 min 12 s"
    assert Circumstances(begun=times["begun"]).duration == ""
