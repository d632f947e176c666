"""The target table as a whole: its keys and its creation."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from flows.errors import TargetError
from flows.stores.dynamodb.schema import (
    create_table,
    require_table,
)
from flows.stores.dynamodb.table import EnterpriseTable
from flows.stores.dynamodb.wire import to_wire
from tests.support.fault_proxy import FaultProxy, error_answer
from tests.support.faults import (
    change,
    error,
    reset_after,
    reset_before,
    truncate,
)
from tests.support.target_table import (
    FOREIGN,
    open_at,
    put,
    through_proxy,
)

on_dynamodb_local = pytest.mark.parametrize(
    "endpoint", ["dynamodb-local"], indirect=True
)


@pytest.fixture
def absent(endpoint: str, table_name: str) -> Iterator[EnterpriseTable]:
    """Open a table that does not exist."""
    table = open_at(endpoint, table_name)
    yield table
    table.client.close()


def test_a_table_is_made_once(absent: EnterpriseTable) -> None:
    """The first call must create it as required; the second must not change it."""
    made = create_table(absent)
    put(absent, *FOREIGN)
    again = create_table(absent)
    require_table(absent)

    described = absent.client.describe_table(TableName=absent.name)["Table"]
    assert (made, again) == (True, False)
    assert described["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    scanned = absent.client.scan(TableName=absent.name)
    assert scanned["Count"] == len(FOREIGN)


def test_a_missing_table_is_named(absent: EnterpriseTable) -> None:
    """The error must name the table, its place, and the way to create it."""
    with pytest.raises(TargetError, match=absent.name) as caught:
        require_table(absent)

    assert absent.endpoint in caught.value.message
    assert "ResourceNotFoundException" in caught.value.message
    assert "create-table" in caught.value.remedy


@pytest.mark.parametrize(
    ("keys", "types"),
    [
        (["id HASH"], {"id": "S"}),
        (["PK HASH"], {"PK": "S"}),
        (["SK HASH", "PK RANGE"], {"PK": "S", "SK": "S"}),
        (["PK HASH", "SK RANGE"], {"PK": "S", "SK": "N"}),
        (["PK HASH", "SK RANGE"], {"PK": "B", "SK": "S"}),
        (["pk HASH", "sk RANGE"], {"pk": "S", "sk": "S"}),
    ],
)
@on_dynamodb_local
def test_a_table_with_other_keys_is_refused(
    absent: EnterpriseTable, keys: list[str], types: dict[str, str]
) -> None:
    """A table that would accept the items under other keys must not be written to."""
    definition: Any = {
        "KeySchema": [
            dict(zip(("AttributeName", "KeyType"), key.split(), strict=True))
            for key in keys
        ],
        "AttributeDefinitions": [
            {"AttributeName": name, "AttributeType": kind}
            for name, kind in types.items()
        ],
    }
    absent.client.create_table(
        TableName=absent.name, BillingMode="PAY_PER_REQUEST", **definition
    )
    for check in (require_table, create_table):
        with pytest.raises(TargetError, match=keys[0]) as caught:
            check(absent)

    assert "DYNAMODB_ENTERPRISE_TABLE" in caught.value.remedy


@pytest.mark.parametrize("check", [require_table, create_table])
@on_dynamodb_local
def test_a_name_that_no_table_can_have_is_refused(
    endpoint: str, check: Callable[[EnterpriseTable], object]
) -> None:
    """The store's refusal of the name must not look like a fault of the program."""
    table = open_at(endpoint, "Refused")
    # The settings accept no such name.
    table.name = "no spaces allowed"
    with pytest.raises(TargetError, match="no spaces allowed"):
        check(table)

    table.client.close()


def with_status(status: str) -> Callable[[Any], Any]:
    """Return a change of a description to another status."""
    return lambda content: {"Table": content["Table"] | {"TableStatus": status}}


@on_dynamodb_local
def test_a_table_that_is_being_created_is_waited_for(table: EnterpriseTable) -> None:
    """No write may go to a table before it is active."""
    with through_proxy(table) as (behind, proxy):
        proxy.add(change(with_status("CREATING")), times=2)
        require_table(behind)
        requests = len(proxy.calls)

    assert requests == 3


@on_dynamodb_local
def test_a_table_just_made_may_not_be_seen_at_once(absent: EnterpriseTable) -> None:
    """If a new table is unknown at first and then creating, the call must wait."""
    with through_proxy(absent) as (behind, proxy):
        proxy.add(
            error("ResourceNotFoundException"), operation="DescribeTable", times=1
        )
        creating = change(with_status("CREATING"))
        proxy.add(creating, operation="DescribeTable", times=1)
        made = create_table(behind)
        requests = len(proxy.calls_of("DescribeTable"))

    assert (made, requests) == (True, 3)


@pytest.mark.parametrize("status", ["DELETING", "ARCHIVED", "CREATING"])
@on_dynamodb_local
def test_a_table_that_does_not_become_active_is_refused(
    table: EnterpriseTable, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """The error must name the status; only CREATING is worth a wait."""
    monkeypatch.setattr("flows.stores.dynamodb.schema.ACTIVE_SECONDS", 0.3)
    with through_proxy(table) as (behind, proxy):
        proxy.add(change(with_status(status)))
        with pytest.raises(TargetError, match=status):
            require_table(behind)
        requests = len(proxy.calls)

    assert (requests == 1) == (status != "CREATING")


@on_dynamodb_local
def test_a_table_in_change_may_be_used(table: EnterpriseTable) -> None:
    """UPDATING is a status in which reads and writes are served."""
    with through_proxy(table) as (behind, proxy):
        proxy.add(change(with_status("UPDATING")))
        require_table(behind)


@on_dynamodb_local
def test_the_check_survives_passing_faults(table: EnterpriseTable) -> None:
    """A throttle, a reset or a damaged answer must not end a run at its start."""
    with through_proxy(table) as (behind, proxy):
        proxy.add(error("ThrottlingException"), times=1)
        proxy.add(reset_before(), times=1)
        proxy.add(truncate(), times=1)
        require_table(behind)
        requests = len(proxy.calls)

    assert requests == 4


@pytest.mark.parametrize(
    "code",
    ["AccessDeniedException", "UnrecognizedClientException", "ExpiredTokenException"],
)
@on_dynamodb_local
def test_the_check_names_what_is_wrong_with_the_access(
    table: EnterpriseTable, code: str
) -> None:
    """The error must name the action, the code, the table and a remedy."""
    with through_proxy(table) as (behind, proxy):
        proxy.add(error(code))
        with pytest.raises(TargetError, match=code) as caught:
            require_table(behind)
        requests = len(proxy.calls)

    assert requests == 1
    assert "DescribeTable" in caught.value.message
    assert table.name in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize("check", [require_table, create_table])
def test_an_endpoint_where_nothing_listens_is_named(
    table_name: str, check: Callable[[EnterpriseTable], object]
) -> None:
    """The run must be refused within seconds, with the endpoint that it tried."""
    with FaultProxy("http://127.0.0.1:1") as proxy:
        closed = proxy.url
    begun = time.monotonic()
    with pytest.raises(TargetError, match=closed):
        check(open_at(closed, table_name))

    assert time.monotonic() - begun < 10


@on_dynamodb_local
def test_a_table_whose_making_was_not_answered_can_be_made_again(
    absent: EnterpriseTable,
) -> None:
    """A lost answer must be an error with a remedy; the next call finds the table."""
    with through_proxy(absent) as (behind, proxy):
        proxy.add(reset_after(), operation="CreateTable", times=1)
        with pytest.raises(TargetError, match=absent.name):
            create_table(behind)
        again = create_table(behind)

    assert again is False


@on_dynamodb_local
def test_expired_credentials_are_renewed_once(table: EnterpriseTable) -> None:
    """A session that expires during a run is renewed, as for a profile or a role."""
    with through_proxy(table) as (behind, proxy):
        old = behind.client
        proxy.add(error("ExpiredTokenException"), operation="PutItem", times=1)
        behind.create({"PK": "ENT#1", "SK": "METADATA"})
        requests = len(proxy.calls)
        proxy.add(error("ExpiredTokenException"), operation="GetItem")
        with pytest.raises(TargetError, match="ExpiredTokenException"):
            behind.get_own("LEASE")

    assert requests == 2
    assert behind.client is not old
    assert "Item" in table.client.get_item(
        TableName=table.name, Key=to_wire({"PK": "ENT#1", "SK": "METADATA"})
    )


@on_dynamodb_local
def test_a_refused_signature_tells_of_the_clock(table: EnterpriseTable) -> None:
    """If a signature is refused, the message has the clock's difference."""
    answer = error_answer("RequestTimeTooSkewed", 400)
    dated = (*answer.headers, ("date", "Thu, 01 Jan 2026 00:00:00 GMT"))
    with through_proxy(table) as (behind, proxy):
        proxy.add(lambda _: replace(answer, headers=dated))
        # Requests by boto3, and direct requests by the program.
        for ask in (require_table, EnterpriseTable.is_taken):
            with pytest.raises(TargetError, match=r"clock differs .* by \d{7,} s"):
                ask(behind)
