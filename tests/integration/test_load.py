"""Loading into real tables: the requests, and the rules for existing items."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from flows.errors import Incomplete
from flows.load import load_items
from flows.models import Outcome
from flows.stores.dynamodb.table import EnterpriseTable
from flows.stores.dynamodb.wire import to_wire
from tests.support.faults import (
    write_part,
)
from tests.support.target_table import (
    EARLIER,
    FOREIGN,
    LATER,
    as_items,
    make_items,
    numbered,
    only,
    put,
    sent_keys,
    through_proxy,
    wire_by_key,
)

ReadItems = Callable[[], dict[str, dict[str, Any]]]

on_dynamodb_local = pytest.mark.parametrize(
    "endpoint", ["dynamodb-local"], indirect=True
)
# An emoji, a NUL, right-to-left and its override, NFC and NFD, separators, and texts
# that other programs misinterpret.
NAMES = [
    "株式会社 🚀",
    "nul\0nul",
    "\u202eeman",
    "שלום عالم",
    "caf\u00e9",
    "cafe\u0301",
    "line\u2028par\u2029\r\n\t",
    " blanks ",
    "NULL",
    "nan",
    "None",
    "007",
    '"quoted" \\ back\\slash',
    "\U0010ffff\ufeff\u200b",
]


@pytest.mark.parametrize("count", [0, 26, 51])
def test_any_number_of_items_arrives(
    table: EnterpriseTable, items: ReadItems, count: int
) -> None:
    """Batches must hold 25 at most, as AWS accepts no more, and all items arrive."""
    frame = numbered(count)
    with through_proxy(table) as (behind, proxy):
        report = load_items(frame, behind, table_was_empty=True)
        sizes = [len(sent_keys(call)) for call in proxy.calls]

    assert report.outcomes == dict.fromkeys(frame["source_id"], Outcome.WRITTEN)
    assert sizes == [25] * (count // 25) + [count % 25] * (count % 25 > 0)
    assert items() == wire_by_key(frame)


@pytest.mark.parametrize("fresh", [True, False])
def test_names_arrive_byte_for_byte(
    table: EnterpriseTable, items: ReadItems, *, fresh: bool
) -> None:
    """No character may be lost, added or normalised by either way of sending."""
    frame = make_items(NAMES)
    report = load_items(frame, table, table_was_empty=fresh)

    assert only(report) == {Outcome.WRITTEN}
    assert items() == wire_by_key(frame)
    assert only(load_items(frame, table)) == {Outcome.UNCHANGED}


def test_two_items_of_one_key_are_refused(
    table: EnterpriseTable, items: ReadItems
) -> None:
    """Moto would silently keep the last one, so nothing may be sent."""
    frame = make_items(["first", "second"])
    frame["PK"] = "ENT#same"
    with pytest.raises(ValueError, match="two items have the same key"):
        load_items(frame, table, table_was_empty=True)

    assert items() == {}


def test_what_comes_back_unprocessed_is_sent_again(
    table: EnterpriseTable, items: ReadItems
) -> None:
    """After a partial success, even twice, only the rest is sent again."""
    frame = numbered(30)
    with through_proxy(table) as (behind, proxy):
        proxy.add(write_part(10), operation="BatchWriteItem", times=1)
        proxy.add(write_part(0), operation="BatchWriteItem", times=1)
        report = load_items(frame, behind, table_was_empty=True)
        sent = [sent_keys(call) for call in proxy.calls]

    keys = list(frame["PK"])
    assert sent == [keys[:25], keys[10:25], keys[10:25], keys[25:]]
    assert only(report) == {Outcome.WRITTEN}
    assert items() == wire_by_key(frame)
    assert behind.capacity.throttles == 2


@on_dynamodb_local
def test_always_unprocessed_ends_at_the_deadline(
    table: EnterpriseTable, items: ReadItems
) -> None:
    """A table that accepts nothing gets few requests, and the run ends resumable."""
    with through_proxy(table, deadline=time.time() + 2) as (behind, proxy):
        proxy.add(write_part(0))
        with pytest.raises(Incomplete, match="deadline"):
            load_items(numbered(50), behind, table_was_empty=True)
        requests = len(proxy.calls)

    assert 2 <= requests < 20
    assert items() == {}


def test_one_refused_item_of_a_batch_is_found(
    table: EnterpriseTable, items: ReadItems
) -> None:
    """The store refuses all 25 because of one: that one is named, 24 are written."""
    frame = make_items([*["a"] * 11, "b" * 205_000, *["c"] * 13])
    report = load_items(frame, table, table_was_empty=True)

    assert list(report.refused) == ["12"]
    assert report.asdict()["written"] == 24
    assert items() == wire_by_key(frame.drop(11))


def test_a_refused_item_is_found_without_batches_too(
    table: EnterpriseTable, items: ReadItems
) -> None:
    """A conditional write that the store refuses must not stop the others."""
    frame = make_items(["a", "b" * 205_000, "c"])
    report = load_items(frame, table)

    assert list(report.refused) == ["2"]
    assert items() == wire_by_key(frame.drop(1))


@on_dynamodb_local
def test_an_item_grown_too_large_by_others_is_refused_not_lost(
    table: EnterpriseTable, items: ReadItems
) -> None:
    """An update that other attributes make too large must leave the item unchanged."""
    frame = make_items(["b" * 150_000])
    there = as_items(frame)[0] | {
        "name": "old",
        "enterprise_name": "old",
        "updatedAt": EARLIER,
        "note": "n" * 200_000,
    }
    put(table, there)
    report = load_items(frame, table)

    assert list(report.refused) == ["1"]
    assert list(items().values()) == [to_wire(there)]


@on_dynamodb_local
def test_a_batch_fits_into_a_request(table: EnterpriseTable, items: ReadItems) -> None:
    """25 valid items with 20 MB of escaped text must not cause a bare 413."""
    frame = make_items(["\x01" * 66_400] * 25)
    with through_proxy(table) as (behind, proxy):
        report = load_items(frame, behind, table_was_empty=True)
        sizes = [len(call.request.body) for call in proxy.calls]
        statuses = proxy.statuses("BatchWriteItem")

    assert only(report) == {Outcome.WRITTEN}
    assert statuses == [200, 200]
    assert max(sizes) < 16 * 1024 * 1024 < sum(sizes)
    assert items() == wire_by_key(frame)


@on_dynamodb_local
def test_a_request_that_is_too_large_all_the_same_is_halved(
    table: EnterpriseTable, items: ReadItems, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the estimate is wrong, the bare 413 must count as a refusal."""
    monkeypatch.setattr("flows.load.BATCH_BYTES", 10**9)
    frame = make_items(["\x01" * 66_400] * 25)
    report = load_items(frame, table, table_was_empty=True)

    assert only(report) == {Outcome.WRITTEN}
    assert items() == wire_by_key(frame)


def test_what_is_there_decides(table: EnterpriseTable, items: ReadItems) -> None:
    """Each existing item must be handled by the rule for its kind."""
    frame = numbered(9)
    ours = as_items(frame)
    cases: dict[str, tuple[dict[str, Any], str]] = {
        "equal": ({}, "unchanged"),
        "equal with more": ({"note": "n", "price": 3}, "unchanged"),
        "older": ({"name": "old", "updatedAt": EARLIER, "note": "n"}, "written"),
        "newer": ({"name": "new", "updatedAt": LATER, "note": "n"}, "kept_newer"),
        "same stamp": ({"name": "other", "note": "n"}, "written"),
        "undated": ({"updatedAt": None, "name": "old"}, "written"),
        "another kind": ({"entity_type": "product", "name": "p"}, "failed"),
        "name NULL": ({"name": {"NULL": True}}, "written"),
        "no kind": ({"entity_type": None, "name": "p"}, "failed"),
    }
    before: list[dict[str, Any]] = [
        {k: v for k, v in (item | change).items() if v is not None}
        for item, (change, _) in zip(ours, cases.values(), strict=True)
    ]
    put(table, *before)
    report = load_items(frame, table)

    expected = [
        there | item if outcome == "written" else there
        for there, item, (_, outcome) in zip(before, ours, cases.values(), strict=True)
    ]
    outcomes = [outcome.value for outcome in report.outcomes.values()]
    assert dict(zip(cases, outcomes, strict=True)) == {
        case: outcome for case, (_, outcome) in cases.items()
    }
    assert items() == {f"{i['PK']} METADATA": to_wire(i) for i in expected}


def test_other_kinds_of_item_stay_as_they_are(
    table: EnterpriseTable, items: ReadItems
) -> None:
    """All other items in the table must still exist afterwards, unchanged."""
    put(table, *FOREIGN)
    before = items()
    frame = numbered(30)
    load_items(frame, table, table_was_empty=True)
    again = load_items(frame, table)

    assert only(again) == {Outcome.UNCHANGED}
    assert items() == before | wire_by_key(frame)
