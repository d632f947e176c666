"""Loading through a failing proxy: nothing is lost, nothing newer is overwritten."""

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import pytest

from flows.errors import Incomplete, TargetError
from flows.load import CONFLICT_LIMIT, load_items
from flows.models import Outcome, key_of
from flows.stores.dynamodb.table import OWN_PARTITION, EnterpriseTable
from flows.stores.dynamodb.wire import to_wire
from tests.support.fault_proxy import Answer, Exchange, Fault, FaultProxy, Request
from tests.support.faults import (
    corrupt,
    delay_after,
    error,
    error_after,
    passing,
    reset_after,
    reset_before,
    truncate,
    write_part,
)
from tests.support.target_table import (
    EARLIER,
    LATER,
    as_items,
    keys_of,
    numbered,
    only,
    open_at,
    put,
    sent_keys,
    through_proxy,
    wire_by_key,
)

ReadItems = Callable[[], dict[str, dict[str, Any]]]

on_dynamodb_local = pytest.mark.parametrize(
    "endpoint", ["dynamodb-local"], indirect=True
)


LOST: dict[str, Fault] = {
    "reset before": reset_before(),
    "reset after": reset_after(),
    "error 500 before": error("InternalServerError", 500),
    "error 503 after": error_after("ServiceUnavailable", 503),
    "truncated": truncate(0.5),
    "truncated to nothing": truncate(0.0),
    "corrupted": corrupt(0),
}


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
@on_dynamodb_local
def test_a_batch_whose_answer_is_lost_is_read_and_compared(
    table: EnterpriseTable, items: ReadItems, fault: Fault
) -> None:
    """Applied or not, each item must be written, and no key may be in two batches."""
    frame = numbered(30)
    with through_proxy(table) as (behind, proxy):
        proxy.add(fault, operation="BatchWriteItem", times=1)
        report = load_items(frame, behind, table_was_empty=True)
        batches = [sent_keys(call) for call in proxy.calls_of("BatchWriteItem")]
        puts = [call.request.json for call in proxy.calls_of("PutItem")]

    keys = list(frame["PK"])
    assert batches == [keys[:25], keys[25:]]
    assert all(put["ConditionExpression"] for put in puts)
    assert only(report) == {Outcome.WRITTEN}
    assert items() == wire_by_key(frame)


DAMAGED: dict[str, Fault] = {
    "truncated": truncate(0.7, of=write_part(5)),
    "corrupted": corrupt(0, of=write_part(5)),
    "a key changed": corrupt(b"UnprocessedItems", of=write_part(5)),
}


@pytest.mark.parametrize("fault", DAMAGED.values(), ids=DAMAGED)
@on_dynamodb_local
def test_a_damaged_list_of_unprocessed_items_is_not_taken_for_none(
    table: EnterpriseTable, items: ReadItems, fault: Fault
) -> None:
    """Unprocessed items in a damaged answer must never count as written."""
    frame = numbered(25)
    with through_proxy(table) as (behind, proxy):
        proxy.add(fault, operation="BatchWriteItem", times=1)
        report = load_items(frame, behind, table_was_empty=True)

    assert only(report) == {Outcome.WRITTEN}
    assert items() == wire_by_key(frame)


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
@on_dynamodb_local
def test_a_conditional_write_whose_answer_is_lost_is_ours(
    table: EnterpriseTable, items: ReadItems, fault: Fault
) -> None:
    """A condition that fails because of the lost write means written, not conflict."""
    frame = numbered(4)
    put(table, *(item | {"updatedAt": EARLIER} for item in as_items(frame)[:2]))
    with through_proxy(table) as (behind, proxy):
        proxy.add(fault, operation="UpdateItem", times=1)
        proxy.add(fault, operation="PutItem", times=1)
        report = load_items(frame, behind)

    assert only(report) == {Outcome.WRITTEN}
    assert items() == wire_by_key(frame)
    assert behind.capacity.retries == 2


@on_dynamodb_local
def test_an_answer_that_comes_too_late_is_lost(
    table: EnterpriseTable, items: ReadItems, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that times out may have been applied, and must be compared."""
    monkeypatch.setattr("flows.stores.dynamodb.client.READ_SECONDS", 0.3)
    frame = numbered(3)
    with through_proxy(table) as (behind, proxy):
        proxy.add(delay_after(1.0), operation="BatchWriteItem", times=1)
        report = load_items(frame, behind, table_was_empty=True)

    # The loader read the items; it would have accepted a timely answer without reading.
    assert [c.operation for c in proxy.calls] == ["BatchWriteItem", "BatchGetItem"]
    assert only(report) == {Outcome.WRITTEN}
    assert items() == wire_by_key(frame)


def edit(table: EnterpriseTable, key: str, stamp: str | None) -> None:
    """Edit an item as the application does, with a new stamp if one is given."""
    changes = "SET #n = :n, note = :note" + (", updatedAt = :u" if stamp else "")
    values = {":n": {"S": "edited"}, ":note": {"S": "mine"}, ":u": {"S": stamp or ""}}
    table.client.update_item(
        TableName=table.name,
        Key=to_wire({"PK": key, "SK": "METADATA"}),
        UpdateExpression=changes,
        ExpressionAttributeNames={"#n": "name"},
        ExpressionAttributeValues={k: v for k, v in values.items() if k in changes},
    )


@pytest.mark.parametrize("fresh", [True, False])
def test_an_edit_after_a_lost_answer_survives(
    table: EnterpriseTable, items: ReadItems, *, fresh: bool
) -> None:
    """An application's write after the lost write is newer, and is kept."""
    frame = numbered(3)
    key = str(frame["PK"].iloc[1])
    seen: list[dict[str, Any]] = []

    def change() -> None:
        edit(table, key, LATER)
        seen.append(items()[f"{key} METADATA"])

    with through_proxy(table) as (behind, proxy):
        proxy.add(reset_after(change), when=puts_key(key), times=1)
        report = load_items(frame, behind, table_was_empty=fresh)

    assert [outcome.value for outcome in report.outcomes.values()] == [
        "written",
        "kept_newer",
        "written",
    ]
    assert [items()[f"{key} METADATA"]] == seen


def puts_key(key: str) -> Callable[[Request], bool]:
    """Return a condition for the requests that write a key."""
    return lambda r: r.operation != "BatchGetItem" and key.encode() in r.body


@pytest.mark.parametrize("fresh", [True, False])
@on_dynamodb_local
def test_an_edit_without_stamp_is_overwritten_on_condition_only(
    table: EnterpriseTable, items: ReadItems, *, fresh: bool
) -> None:
    """If nothing shows that the edit is newer, the row wins, but conditionally."""
    frame = numbered(1)
    key = str(frame["PK"].iloc[0])
    with through_proxy(table) as (behind, proxy):
        change = reset_after(lambda: edit(table, key, None))
        proxy.add(change, when=puts_key(key), times=1)
        report = load_items(frame, behind, table_was_empty=fresh)
        last = proxy.calls[-1]

    assert only(report) == {Outcome.WRITTEN}
    expected = wire_by_key(frame)[f"{key} METADATA"] | {"note": {"S": "mine"}}
    assert list(items().values()) == [expected]
    assert last.operation == "UpdateItem"
    assert last.request.json["ConditionExpression"].count("=") == 8


@pytest.mark.parametrize("there", [True, False])
@on_dynamodb_local
def test_an_edit_between_our_read_and_our_write_survives(
    table: EnterpriseTable, items: ReadItems, *, there: bool
) -> None:
    """A condition must prevent a write that is based on an outdated read."""
    frame = numbered(1)
    (item,) = as_items(frame)
    newer: dict[str, Any] = item | {"name": "theirs", "updatedAt": LATER}
    if there:
        put(table, item | {"name": "old", "updatedAt": EARLIER})
    with through_proxy(table) as (behind, proxy):
        operation = "UpdateItem" if there else "PutItem"
        change = passing(lambda: put(table, newer))
        proxy.add(change, operation=operation, times=1)
        report = load_items(frame, behind)
        statuses = proxy.statuses(operation)

    assert statuses == [400]
    assert only(report) == {Outcome.KEPT_NEWER}
    assert list(items().values()) == [to_wire(newer)]


@on_dynamodb_local
def test_an_item_deleted_between_read_and_update_is_no_ghost(
    table: EnterpriseTable, items: ReadItems
) -> None:
    """An update may not create a partial item: it is created whole, or not at all."""
    frame = numbered(1)
    (item,) = as_items(frame)
    put(table, item | {"name": "old", "updatedAt": EARLIER})
    key: Any = to_wire({"PK": item["PK"], "SK": item["SK"]})
    with through_proxy(table) as (behind, proxy):
        delete = passing(
            lambda: table.client.delete_item(TableName=table.name, Key=key)
        )
        proxy.add(delete, operation="UpdateItem", times=1)
        report = load_items(frame, behind)
        statuses = proxy.statuses("UpdateItem") + proxy.statuses("PutItem")

    assert statuses == [400, 200]
    assert only(report) == {Outcome.WRITTEN}
    assert items() == wire_by_key(frame)


@on_dynamodb_local
def test_an_item_that_changes_for_ever_fails(table: EnterpriseTable) -> None:
    """Conflicts must end, with the one item failed and the others written."""
    frame = numbered(2)
    first, second = as_items(frame)
    put(table, first | {"name": "old"})
    names = iter(range(10**6))
    with through_proxy(table) as (behind, proxy):
        change = passing(lambda: put(table, first | {"name": str(next(names))}))
        proxy.add(change, operation="UpdateItem")
        report = load_items(frame, behind)
        updates = len(proxy.calls_of("UpdateItem"))

    assert report.outcomes == {"1": Outcome.FAILED, "2": Outcome.WRITTEN}
    assert updates == CONFLICT_LIMIT + 1
    assert table.read([key_of(second)]) == {key_of(second): second}


@pytest.mark.parametrize(
    "code",
    [
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "TransactionConflictException",
    ],
)
@on_dynamodb_local
def test_a_throttle_passes(table: EnterpriseTable, items: ReadItems, code: str) -> None:
    """While the table is too slow the load must wait, and then continue."""
    frame = numbered(7)
    with through_proxy(table) as (behind, proxy):
        proxy.add(error(code), operation="BatchWriteItem", times=2)
        proxy.add(error(code), operation="UpdateItem", times=1)
        proxy.add(error(code), operation="BatchGetItem", times=1)
        reports = [
            load_items(frame[:5], behind, table_was_empty=True),
            load_items(renamed(frame[4:]), behind),
        ]

    assert [only(report) for report in reports] == [{Outcome.WRITTEN}] * 2
    assert items() == wire_by_key(frame[:4]) | wire_by_key(renamed(frame[4:]))
    assert behind.capacity.retries == 4
    assert behind.capacity.throttles == (0 if "Conflict" in code else 4)


@pytest.mark.parametrize("fault", [error("ThrottlingException"), write_part(5)])
@on_dynamodb_local
def test_what_is_refused_slows_the_run(table: EnterpriseTable, fault: Fault) -> None:
    """A refusal must slow all writers that share one rate."""
    with through_proxy(table) as (behind, proxy):
        before = behind.write_limiter._rate.value
        proxy.add(fault, operation="BatchWriteItem", times=1)
        report = load_items(numbered(25), behind, table_was_empty=True)

    assert only(report) == {Outcome.WRITTEN}
    assert behind.write_limiter._rate.value < before


def renamed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the items with another name, so that they differ."""
    return frame.assign(name="renamed", enterprise_name="renamed")


@on_dynamodb_local
def test_every_third_request_may_fail(table: EnterpriseTable, items: ReadItems) -> None:
    """Endless faults must slow the load, but lose no item."""
    frame = numbered(51)
    with through_proxy(table) as (behind, proxy):
        proxy.add(error("InternalServerError", 500), every=7)
        proxy.add(reset_after(), every=5)
        report = load_items(frame, behind, table_was_empty=True)

    assert only(report) == {Outcome.WRITTEN}
    assert items() == wire_by_key(frame)


@pytest.mark.parametrize(
    "code",
    [
        "AccessDeniedException",
        "ExpiredTokenException",
        "ResourceNotFoundException",
        "UnrecognizedClientException",
    ],
)
@on_dynamodb_local
def test_what_no_retry_can_help_stops_at_once(
    table: EnterpriseTable, items: ReadItems, code: str
) -> None:
    """The error must name the code, the table and a remedy, after one request."""
    with through_proxy(table) as (behind, proxy):
        proxy.add(error(code))
        for fresh in (True, False):
            with pytest.raises(TargetError) as caught:
                load_items(numbered(60), behind, table_was_empty=fresh)
        requests = [call.operation for call in proxy.calls]

    # Expired credentials are renewed, and tried once more.
    tries = 2 if code == "ExpiredTokenException" else 1
    expected = ["BatchWriteItem"] * tries + ["BatchGetItem"] * tries
    assert requests == expected
    assert code in caught.value.message
    assert table.name in caught.value.message
    assert caught.value.remedy
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301
    assert items() == {}


@on_dynamodb_local
def test_access_lost_in_the_middle_keeps_what_was_done(
    table: EnterpriseTable, items: ReadItems
) -> None:
    """A second load must find the items of the first, and write only the others."""
    frame = numbered(60)
    with through_proxy(table) as (behind, proxy):
        proxy.add(error("ExpiredTokenException"), first=3)
        with pytest.raises(TargetError):
            load_items(frame, behind, table_was_empty=True)
    report = load_items(frame, table)

    assert report.asdict()["unchanged"] == 50
    assert report.asdict()["written"] == 10
    assert items() == wire_by_key(frame)


@pytest.mark.parametrize("fresh", [True, False])
def test_a_store_out_of_reach_ends_the_load(
    table_name: str, monkeypatch: pytest.MonkeyPatch, *, fresh: bool
) -> None:
    """If nothing listens, the load must end resumable, with the endpoint named."""
    monkeypatch.setattr("flows.stores.dynamodb.backoff.UNREACHABLE_SECONDS", 0.3)
    with FaultProxy("http://127.0.0.1:1") as proxy:
        closed = proxy.url
    table = open_at(closed, table_name)
    with pytest.raises(Incomplete, match=closed):
        load_items(numbered(3), table, table_was_empty=fresh)


@on_dynamodb_local
def test_a_store_that_goes_away_for_a_while_is_waited_for(
    table: EnterpriseTable, items: ReadItems
) -> None:
    """Half a second of resets must cost half a second and no items."""
    frame = numbered(60)
    with through_proxy(table) as (behind, proxy):
        proxy.add(reset_before(), first=2, seconds=0.5)
        report = load_items(frame, behind, table_was_empty=True)

    assert only(report) == {Outcome.WRITTEN}
    assert items() == wire_by_key(frame)


FAULTS: Sequence[Callable[[], Fault]] = (
    reset_before,
    reset_after,
    lambda: error_after("InternalServerError", 500),
)


@pytest.mark.parametrize("make_fault", FAULTS)
@on_dynamodb_local
def test_the_nth_request_may_fail(
    endpoint: str, table: EnterpriseTable, make_fault: Callable[[], Fault]
) -> None:
    """All items must exist after the failure of each request in turn."""
    played, first = 1, 0
    while played:
        first += 1
        frame = numbered(27)
        frame["PK"] = [f"ENT#{first}-{number}" for number in range(27)]
        with FaultProxy(endpoint) as proxy:
            behind = open_at(proxy.url, table.name)
            rule = proxy.add(make_fault(), first=first, times=1)
            reports = [
                load_items(frame, behind, table_was_empty=True),
                load_items(renamed(frame[:3]), behind),
            ]
            behind.client.close()
        played = rule.played
        expected = as_items(renamed(frame[:3])) + as_items(frame[3:])
        assert [only(report) for report in reports] == [{Outcome.WRITTEN}] * 2
        assert table.read(keys_of(frame)) == {key_of(i): i for i in expected}
    assert first == 7


def answering(status: int, body: bytes, *, applied: bool) -> Fault:
    """Answer as an intermediary would, with the request *applied* or not."""

    def play(exchange: Exchange) -> Answer:
        if applied:
            exchange.forward()
        return Answer(status, (("content-type", "text/html"),), body)

    return play


@on_dynamodb_local
@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize(
    ("status", "body"),
    [(204, b""), (202, b"{}"), (200, b"<html>"), (200, b""), (200, b"[]")],
)
def test_an_answer_that_is_not_dynamodbs_is_none(
    table: EnterpriseTable, items: ReadItems, status: int, body: bytes, *, applied: bool
) -> None:
    """A proxy's invented answer counts neither as success nor as a wrong request."""
    frame = numbered(3)
    made_up = answering(status, body, applied=applied)
    with through_proxy(table) as (behind, proxy):
        proxy.add(made_up, operation="BatchWriteItem", times=1)
        report = load_items(frame, behind, table_was_empty=True)
        proxy.add(answering(status, body, applied=False), operation="GetItem", times=1)
        behind.create({"PK": OWN_PARTITION, "SK": "CUTOVER"})
        marker = behind.get_own("CUTOVER")

    assert only(report) == {Outcome.WRITTEN}
    assert {k: v for k, v in items().items() if k.startswith("ENT#")} == wire_by_key(
        frame
    )
    assert marker is not None
