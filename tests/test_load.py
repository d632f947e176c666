"""The writing rules, on a table in memory that records its requests."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from threading import Event
from typing import Any

import pytest

from flows.errors import (
    Ambiguous,
    Incomplete,
    TargetError,
    Throttled,
)
from flows.load import CONFLICT_LIMIT, LoadReport, load_items
from flows.models import Item, Key, LastWrite, Outcome, digest, key_of
from tests.support.fake_table import FakeTable
from tests.support.target_table import (
    EARLIER,
    FOREIGN,
    LATER,
    as_items,
    keys_of,
    make_items,
    numbered,
    only,
)

REQUEST_BYTES = 16 * 1024 * 1024


@pytest.fixture
def table() -> FakeTable:
    """Return an empty table."""
    return FakeTable()


def expected(items: Any) -> dict[Key, Item]:
    """Return what the table must hold when all items are in it."""
    return {key_of(item): item for item in as_items(items)}


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(0, []), (1, [1]), (25, [25]), (26, [25, 1]), (51, [25, 25, 1])],
)
def test_a_fresh_table_is_filled_in_batches_alone(
    table: FakeTable, count: int, sizes: list[int]
) -> None:
    """Each key must be sent once, at most 25 at a time, and nothing must be read."""
    items = numbered(count)
    report = load_items(items, table, table_was_empty=True)

    assert [len(keys) for keys in table.sent("batch")] == sizes
    assert table.operations() == ["batch"] * len(sizes)
    assert table.items == expected(items)
    assert report.outcomes == dict.fromkeys(items["source_id"], Outcome.WRITTEN)


def test_a_table_that_is_not_fresh_meets_no_batch(table: FakeTable) -> None:
    """If enterprises may exist, each item must be read before it is written."""
    items = numbered(3)
    table.items = expected(items.iloc[:1])
    report = load_items(items, table)

    assert table.operations() == ["read", "create", "create"]
    assert report.asdict() == {
        "written": 2,
        "unchanged": 1,
        "kept_newer": 0,
        "refused": 0,
        "failed": 0,
    }
    assert table.items == expected(items)


@pytest.mark.parametrize("fresh", [True, False])
def test_two_items_of_one_key_are_refused(table: FakeTable, *, fresh: bool) -> None:
    """Neither of two items with one key may be sent: one would be lost silently."""
    items = make_items(["first", "second"])
    items["PK"] = "ENT#same"

    with pytest.raises(ValueError, match="two items have the same key"):
        load_items(items, table, table_was_empty=fresh)

    assert table.asked == []


def test_only_what_came_back_unprocessed_is_sent_again(
    table: FakeTable,
) -> None:
    """After a partial success and a pause, only the unprocessed items must be sent."""
    items = numbered(30)
    table.unprocessed.extend([10, 4])
    report = load_items(items, table, table_was_empty=True)

    keys = keys_of(items)
    assert table.sent("batch") == [keys[:25], keys[15:25], keys[21:25], keys[25:]]
    assert len(table.pauses) == 2
    assert only(report) == {Outcome.WRITTEN}
    assert table.items == expected(items)
    assert (table.capacity.throttles, table.capacity.retries) == (2, 2)


def test_what_is_never_processed_ends_at_the_deadline(
    table: FakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waits must grow while nothing is processed, and end at the deadline."""
    monkeypatch.setattr(
        "flows.stores.dynamodb.backoff.random.uniform", lambda _, longest: longest
    )
    table.deadline = table.paused.now + 60
    table.unprocessed.extend([1] * 1000)

    with pytest.raises(Incomplete, match="deadline"):
        load_items(numbered(1), table, table_was_empty=True)

    assert table.pauses[:6] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    assert sum(table.pauses) <= 60
    assert table.items == {}


def test_a_batch_surely_not_applied_is_sent_again_as_it_was(table: FakeTable) -> None:
    """A throttled batch changed nothing, so it needs neither read nor condition."""
    table.plan(Throttled("slower"))
    table.plan(Throttled("slower"))
    items = numbered(2)
    report = load_items(items, table, table_was_empty=True)

    assert table.operations() == ["batch"] * 3
    assert only(report) == {Outcome.WRITTEN}
    assert table.items == expected(items)


@pytest.mark.parametrize("applied", [True, False])
def test_a_batch_without_answer_is_never_sent_again(
    table: FakeTable, *, applied: bool
) -> None:
    """Its keys must be read and compared; an item found as sent counts as written."""
    table.plan(Ambiguous("no answer"), applied=applied)
    items = numbered(27)
    report = load_items(items, table, table_was_empty=True)

    keys = keys_of(items)
    creates = 0 if applied else 25
    assert table.operations() == ["batch", "batch", "read", *["create"] * creates]
    assert table.sent("batch") == [keys[:25], keys[25:]]
    assert table.sent("read") == [keys[:25]]
    assert only(report) == {Outcome.WRITTEN}
    assert table.items == expected(items)


@pytest.mark.parametrize(
    ("stamp", "outcome"), [(LATER, Outcome.KEPT_NEWER), (EARLIER, Outcome.WRITTEN)]
)
def test_an_edit_after_a_lost_answer_is_compared(
    table: FakeTable, stamp: str, outcome: Outcome
) -> None:
    """A later edit must stay; any other may be overwritten only conditionally."""
    items = numbered(1)
    key = keys_of(items)[0]
    edit: Item = {"name": "edited", "updatedAt": stamp, "note": "the application's"}

    def edit_item() -> None:
        table.items[key] = table.items[key] | edit

    table.plan(Ambiguous("no answer"), applied=True, then=edit_item)
    report = load_items(items, table, table_was_empty=True)

    assert only(report) == {outcome}
    assert table.items[key]["note"] == "the application's"
    ours = outcome is Outcome.WRITTEN
    assert table.items[key]["name"] == ("Enterprise 1" if ours else "edited")
    assert table.sent("batch") == [[key]]


def test_an_unprocessed_item_may_go_into_a_batch_again_but_not_a_lost_one(
    table: FakeTable,
) -> None:
    """If the second answer is lost, the rest must be read, not sent a third time."""
    table.unprocessed.extend([1])
    table.plan(None)
    table.plan(Ambiguous("no answer"), applied=True)
    items = numbered(2)
    report = load_items(items, table, table_was_empty=True)

    keys = keys_of(items)
    assert table.asked == [("batch", keys), ("batch", keys[1:]), ("read", keys[1:])]
    assert only(report) == {Outcome.WRITTEN}


@pytest.mark.parametrize("position", [0, 11, 24])
def test_one_refused_item_is_found_by_halves(table: FakeTable, position: int) -> None:
    """The refused item must be named, and the other 24 written, in few requests."""
    items = numbered(25)
    table.refuses = {keys_of(items)[position]}
    report = load_items(items, table, table_was_empty=True)

    assert list(report.refused) == [str(items["source_id"].iloc[position])]
    assert table.items == expected(items.drop(position))
    assert report.asdict()["written"] == 24
    assert len(table.asked) <= 11


def test_a_refused_item_is_found_without_batches_too(table: FakeTable) -> None:
    """A conditional write that the store refuses must end as refused."""
    items = numbered(3)
    table.refuses = {keys_of(items)[1]}
    report = load_items(items, table)

    assert list(report.refused) == ["2"]
    assert table.items == expected(items.drop(1))


def test_batches_are_bounded_by_their_encoded_bytes(table: FakeTable) -> None:
    """No batch may exceed a request, since JSON escapes control characters."""
    items = make_items(["\x01" * 66_000] * 25)
    load_items(items, table, table_was_empty=True)

    records = expected(items)
    sizes = [
        sum(len(json.dumps(records[key])) for key in keys)
        for keys in table.sent("batch")
    ]
    assert len(sizes) == 2
    assert max(sizes) < REQUEST_BYTES
    assert table.items == records


def test_an_item_above_the_bound_goes_alone(table: FakeTable) -> None:
    """An item too large for any batch must still be sent, and get an answer."""
    items = make_items(["a", "\x01" * 1_500_000, "b"])
    load_items(items, table, table_was_empty=True)

    assert [len(keys) for keys in table.sent("batch")] == [1, 1, 1]


@pytest.mark.parametrize("operation", ["create", "update"])
@pytest.mark.parametrize("applied", [True, False])
def test_a_conditional_write_without_answer_is_ours_if_it_is_there(
    table: FakeTable, operation: str, *, applied: bool
) -> None:
    """A condition that fails because of an earlier try must not count as a conflict."""
    items = numbered(1)
    if operation == "update":
        key, item = next(iter(expected(items).items()))
        table.items[key] = item | {"name": "old", "updatedAt": EARLIER}
    table.plan(Ambiguous("no answer"), applied=applied)
    report = load_items(items, table)

    again = [] if applied else [operation]
    assert table.operations() == ["read", operation, "read", *again]
    assert only(report) == {Outcome.WRITTEN}
    assert table.items == expected(items)


def test_a_throttled_conditional_write_is_tried_again(table: FakeTable) -> None:
    """A write that was surely not applied must be read and written again."""
    table.plan(Throttled("slower"))
    report = load_items(numbered(2), table)

    assert only(report) == {Outcome.WRITTEN}
    assert table.operations() == ["read", "create", "create", "read", "create"]


def test_an_item_that_never_stays_as_it_was_read_fails(table: FakeTable) -> None:
    """Endless conflicts must end as failed, and the other items must be written."""
    items = numbered(2)
    key = keys_of(items)[0]
    table.items[key] = as_items(items)[0] | {"name": "0"}
    numbers = iter(range(1, 10**6))

    def read(keys: Sequence[Key]) -> dict[Key, Item]:
        found = FakeTable.read(table, keys)
        table.items[key] = table.items[key] | {"name": str(next(numbers))}
        return found

    table.read = read  # type: ignore[method-assign]
    report = load_items(items, table)

    assert report.outcomes == {"1": Outcome.FAILED, "2": Outcome.WRITTEN}
    assert len(table.sent("update")) == CONFLICT_LIMIT + 1


def test_what_is_there_decides(table: FakeTable) -> None:
    """Equal items stay, older and undated are updated, newer and foreign are kept."""
    items = numbered(7)
    records = as_items(items)
    cases: list[dict[str, Any]] = [
        {},
        {"note": "extra"},
        {"name": "old", "updatedAt": EARLIER, "note": "extra"},
        {"name": "new", "updatedAt": LATER},
        {"name": "same stamp"},
        {"entity_type": "product", "updatedAt": EARLIER},
    ]
    before = [record | case for record, case in zip(records[:6], cases, strict=True)]
    undated = {k: v for k, v in records[6].items() if k != "updatedAt"}
    table.items = {key_of(item): item for item in [*before, undated]}
    report = load_items(items, table)

    assert [outcome.value for outcome in report.outcomes.values()] == [
        "unchanged",
        "unchanged",
        "written",
        "kept_newer",
        "written",
        "failed",
        "written",
    ]
    after = list(table.items.values())
    assert after[2] == records[2] | {"note": "extra"}
    assert (after[3], after[5]) == (before[3], before[5])
    assert (after[4], after[6]) == (records[4], records[6])


@pytest.mark.parametrize(
    "stamp",
    [
        "2024-02-29T01:00:00+00:00",
        "2024-02-29T00:00:00.0001Z",
        "2024-02-29 00:00:01",
        "2024-02-28T22:00:00-05:00",
        1_709_164_801,
        1_709_164_800_001,
        "01/03/2024",
    ],
)
@pytest.mark.parametrize("name", ["updatedAt", "updated_date"])
def test_a_newer_stamp_of_another_form_is_newer(
    table: FakeTable, name: str, stamp: str | int
) -> None:
    """An application's edit must be kept, in any form and attribute of its time."""
    items = numbered(1)
    key, item = next(iter(expected(items).items()))
    table.items[key] = item | {name: stamp}

    assert only(load_items(items, table)) == {Outcome.KEPT_NEWER}


def test_an_edit_whose_time_cannot_be_read_is_kept_where_manifests_tell(
    table: FakeTable,
) -> None:
    """An item that differs from what a run left, with unreadable times, must stay."""
    items = numbered(5)
    records = as_items(items)
    edits: list[dict[str, Any]] = [
        {"name": "edited", "updatedAt": "yesterday"},
        {"name": "edited", "updatedAt": "yesterday", "updated_date": {"NULL": True}},
        {"name": "edited", "updatedAt": "yesterday"},
        {"name": "edited", "updatedAt": "yesterday"},
        {"name": "edited"},
    ]
    table.items = {
        key_of(item): item | edit for item, edit in zip(records, edits, strict=True)
    }
    before = dict(table.items)
    left = frozenset({digest(records[0].values())})
    known = {
        str(records[0]["id"]): LastWrite(left, there=True),
        str(records[1]["id"]): LastWrite(frozenset(), there=True),
        # Sent by a partition that did not finish: perhaps never applied.
        str(records[2]["id"]): LastWrite(left, there=False),
        str(records[4]["id"]): LastWrite(left, there=True),
    }
    asked: list[set[str]] = []

    def traces(ids: set[str]) -> dict[str, LastWrite]:
        asked.append(ids)
        return known

    report = load_items(items, table, known=traces)

    assert [outcome.value for outcome in report.outcomes.values()] == [
        "kept_newer",
        "kept_newer",
        "written",
        "written",
        "written",
    ]
    after = list(table.items.values())
    assert after == [*list(before.values())[:2], *records[2:]]
    # The manifests are read once for all of them.
    assert asked == [set(items["id"])]


def test_manifests_are_not_read_without_need(table: FakeTable) -> None:
    """Reading them takes seconds: they must be read only if nothing else decides."""
    items = numbered(3)
    records = as_items(items)
    older = records[0] | {"name": "old", "updatedAt": EARLIER, "updated_date": EARLIER}
    table.items = {key_of(item): item for item in [older, *records[1:]]}

    def traces(_: set[str]) -> dict[str, LastWrite]:
        pytest.fail("the manifests were read")

    assert only(load_items(items, table, known=traces)) == {
        Outcome.WRITTEN,
        Outcome.UNCHANGED,
    }


def test_equality_tells_a_number_from_a_boolean(table: FakeTable) -> None:
    """Python's True equals 1, but the store's types must decide."""
    items = make_items(["first"], provenance=True)
    key, item = next(iter(expected(items).items()))
    table.items[key] = item | {"migrated_from_pg": 1, "original_pg_id": True}
    report = load_items(items, table)

    assert only(report) == {Outcome.WRITTEN}
    there = table.items[key]
    assert (there["migrated_from_pg"], there["original_pg_id"]) == (True, 1)
    assert type(there["original_pg_id"]) is int


@pytest.mark.parametrize("fresh", [True, False])
def test_a_refusal_of_the_table_ends_the_load(table: FakeTable, *, fresh: bool) -> None:
    """An error that no retry can resolve must stop the load after one request."""
    table.plan(TargetError("denied"))

    with pytest.raises(TargetError, match="denied"):
        load_items(numbered(60), table, table_was_empty=fresh)

    writes = [name for name in table.operations() if name != "read"]
    assert len(writes) == 1


class SlowTable(FakeTable):
    """A slow table, so that senders have active requests."""

    def _play(self, operation: str, keys: list[Key], apply: Callable[[], None]) -> None:
        Event().wait(0.02)
        super()._play(operation, keys, apply)


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("reason", ["refusal", "interrupt"])
def test_whatever_ends_a_load_stops_all_its_senders(
    monkeypatch: pytest.MonkeyPatch, reason: str, *, fresh: bool
) -> None:
    """Active requests may end; no queued request may still be sent."""
    table = SlowTable()

    def interrupted(_: object) -> Iterator[Any]:
        while len(table.asked) < 8:
            Event().wait(0.001)
        raise KeyboardInterrupt
        yield

    if reason == "interrupt":
        # Ctrl-C reaches the thread that waits for the senders.
        monkeypatch.setattr("flows.load.as_completed", interrupted)
    else:
        table.script.extend([(None, False, None)] * 8)
        table.plan(TargetError("denied"))
    with pytest.raises((TargetError, KeyboardInterrupt)):
        load_items(numbered(2_500), table, table_was_empty=fresh, concurrency=4)

    writes = [name for name in table.operations() if name != "read"]
    assert len(table.asked) >= 8
    assert len(writes) < 50


def test_a_deadline_that_has_passed_sends_nothing(table: FakeTable) -> None:
    """No request may start after the deadline."""
    table.deadline = time.time() - 1

    with pytest.raises(Incomplete):
        load_items(numbered(1), table, table_was_empty=True)

    assert table.asked == []


def test_one_fault_after_the_other_ends_right(table: FakeTable) -> None:
    """If any write fails, before or after it was applied, nothing may be lost."""
    faults = (Ambiguous("lost"), Throttled("slower"))
    cases = [(n, f, a) for n in range(12) for f in faults for a in (False, True)]
    for number, fault, applied in cases:
        fake = FakeTable()
        for _ in range(number):
            fake.plan(None)
        fake.plan(fault, applied=applied and isinstance(fault, Ambiguous))
        items = numbered(60)
        fresh = load_items(items, fake, table_was_empty=True)
        assert (only(fresh), fake.items) == ({Outcome.WRITTEN}, expected(items))
        again = load_items(items, fake)
        assert (only(again), fake.items) == ({Outcome.UNCHANGED}, expected(items))
    assert table.asked == []


def test_the_report_prints_and_becomes_json() -> None:
    """Counts must be the same in every form."""
    report = LoadReport({"1": Outcome.WRITTEN, "2": Outcome.REFUSED})

    assert json.loads(json.dumps(report.asdict()))["refused"] == 1
    assert "written 1" in str(report)
    assert "<td>1</td>" in report._repr_html_()


def test_no_foreign_item_is_an_enterprise() -> None:
    """The foreign items that the tests use must not be enterprises."""
    from flows.models import is_enterprise

    assert [item for item in FOREIGN if is_enterprise(item)] == []
