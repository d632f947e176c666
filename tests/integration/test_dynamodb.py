"""The target table: what it must be, and what its requests do, on real stores."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from fault_proxy import FaultProxy
from faults import (
    change,
    corrupt,
    error,
    passing,
    read_part,
    reset_after,
    reset_before,
    truncate,
)
from target_table import (
    FOREIGN,
    LATER,
    as_items,
    make_items,
    numbered,
    open_at,
    put,
    through_proxy,
    wire_by_key,
)

from flows.errors import (
    ConditionFailed,
    Incomplete,
    OriginError,
    SettingsError,
    TargetError,
)
from flows.load import load_items
from flows.models import Item, SourceTable
from flows.settings import Settings
from flows.stores.dynamodb import EnterpriseTable, open_table, to_wire
from flows.stores.tables import (
    create_table,
    origin_item,
    record_origin,
    require_origin,
    require_table,
)

ReadItems = Callable[[], dict[str, dict[str, Any]]]

on_dynamodb_local = pytest.mark.parametrize(
    "endpoint", ["dynamodb-local"], indirect=True
)
SOURCE = SourceTable(
    schema="public",
    table="enterprises",
    id_column="id",
    name_column="name",
    created_column="created_date",
    updated_column="updated_date",
    id_kind="integer",
    created_zoneless=False,
    updated_zoneless=False,
    timezone=None,
)


@pytest.fixture
def absent(endpoint: str, table_name: str) -> Iterator[EnterpriseTable]:
    """Open a table that is not there."""
    table = open_at(endpoint, table_name)
    yield table
    table.client.close()


@pytest.fixture
def origin() -> Item:
    """Return the origin of the default settings."""
    return origin_item(Settings.isolated(), SOURCE)


# The table as a whole.


def test_a_table_is_made_once(absent: EnterpriseTable) -> None:
    """The first call must make it as required, the second leave it as it is."""
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
    """The error must say which table, where, and how it is made."""
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
    """A table that would take our items under other keys must not be written to."""
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
    """What the store says of the name must not look like a fault of the program."""
    table = open_at(endpoint, "no spaces allowed")
    with pytest.raises(TargetError, match="no spaces allowed"):
        check(table)

    table.client.close()


def with_status(status: str) -> Callable[[Any], Any]:
    """Return what makes a description say another status."""
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
    """Where a new table is unknown at first, then creating, it must be waited for."""
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
    monkeypatch.setattr("flows.stores.tables.PATIENCE", 0.3)
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
    """The run must be refused within seconds, and say which endpoint it tried."""
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
    """A lost answer must be an error with a remedy, and the next call find it there."""
    with through_proxy(absent) as (behind, proxy):
        proxy.add(reset_after(), operation="CreateTable", times=1)
        with pytest.raises(TargetError, match=absent.name):
            create_table(behind)
        again = create_table(behind)

    assert again is False


# The origin of the items.


def test_the_origin_is_recorded_once(
    table: EnterpriseTable, items: ReadItems, origin: Item
) -> None:
    """The first run must write it, the next ones find it, and no one change it."""
    require_origin(table, origin)
    record_origin(table, origin)
    first = items()
    record_origin(table, origin)
    require_origin(table, origin)

    assert list(first.values()) == [to_wire(origin)]
    assert items() == first
    assert not table.holds_enterprises()


@pytest.mark.parametrize("name", ["namespace", "source_table", "id_column"])
@on_dynamodb_local
def test_another_origin_is_refused(
    table: EnterpriseTable, items: ReadItems, origin: Item, name: str
) -> None:
    """Ids made by another rule would double the table: both rules must be named."""
    record_origin(table, origin)
    other = origin | {name: "another"}
    for check in (require_origin, record_origin):
        with pytest.raises(OriginError, match="another") as caught:
            check(table, other)

    assert str(origin[name]) in caught.value.message
    assert list(items().values()) == [to_wire(origin)]


@pytest.mark.parametrize("same", [True, False])
@on_dynamodb_local
def test_two_runs_may_record_at_once(
    table: EnterpriseTable, origin: Item, *, same: bool
) -> None:
    """Of two runs that begin together, one with another rule must be refused."""
    other: dict[str, Any] = origin | ({} if same else {"namespace": "another"})
    with through_proxy(table) as (behind, proxy):
        proxy.add(passing(lambda: put(table, other)), operation="PutItem", times=1)
        if same:
            record_origin(behind, origin)
        else:
            with pytest.raises(OriginError):
                record_origin(behind, origin)

    assert table.get_own("ORIGIN") == other


@on_dynamodb_local
def test_an_origin_whose_answer_is_lost_is_found(
    table: EnterpriseTable, origin: Item
) -> None:
    """A write of ours that was applied unseen must not look like another run's."""
    with through_proxy(table) as (behind, proxy):
        proxy.add(error("ThrottlingException"), operation="PutItem", times=1)
        proxy.add(reset_after(), operation="PutItem", times=1)
        record_origin(behind, origin)
        puts = len(proxy.calls_of("PutItem"))

    assert puts == 2
    assert table.get_own("ORIGIN") == origin


# Reading.


def test_only_enterprises_are_found(table: EnterpriseTable) -> None:
    """Neither scan nor the question whether there are any may meet other kinds."""
    put(table, *FOREIGN)
    before = table.holds_enterprises()
    found_before = [item for page in table.scan() for item in page]
    frame = numbered(3)
    load_items(frame, table, fresh=True)
    found = [item for page in table.scan() for item in page]

    assert (before, found_before) == (False, [])
    assert table.holds_enterprises()
    assert sorted(found, key=lambda i: str(i["id"])) == sorted(
        as_items(frame), key=lambda i: str(i["id"])
    )


def fill(table: EnterpriseTable, *items: dict[str, Any]) -> None:
    """Put many items, in batches."""
    for start in range(0, len(items), 25):
        table.put_batch(items[start : start + 25])


def test_a_scan_goes_on_to_the_last_page(table: EnterpriseTable) -> None:
    """A table of more than 1 MB comes in pages: none may be left out."""
    names = [f"{number:02} " + "x" * 45_000 for number in range(40)]
    frame = make_items(names)
    fill(table, *as_items(frame))
    with through_proxy(table) as (behind, proxy):
        found = [item["name"] for page in behind.scan(["name"]) for item in page]
        requests = [call.request.json for call in proxy.calls]

    assert sorted(map(str, found)) == names
    assert len(requests) >= 4
    assert all(request["ConsistentRead"] for request in requests)
    assert behind.capacity.read_units > 0


def test_an_empty_page_is_not_the_last(table: EnterpriseTable) -> None:
    """Pages on which everything was filtered out must not end the scan."""
    others = [
        {"PK": f"EPS#{number}", "SK": "METADATA", "x": "x" * 300_000}
        for number in range(12)
    ]
    fill(table, *others)
    nothing = [len(page) for page in table.scan(["PK"])]
    before = table.holds_enterprises()
    frame = numbered(2)
    load_items(frame, table)
    pages = [len(page) for page in table.scan(["PK"])]

    assert (nothing, before) == ([0] * len(nothing), False)
    assert len(nothing) >= 3
    assert sum(pages) == 2
    assert 0 in pages
    assert table.holds_enterprises()


@on_dynamodb_local
def test_a_scan_survives_passing_faults(table: EnterpriseTable) -> None:
    """Faults between and within pages must cost time, not items."""
    names = [f"{number:02} " + "x" * 90_000 for number in range(20)]
    fill(table, *as_items(make_items(names)))
    with through_proxy(table) as (behind, proxy):
        for fault in (
            error("ProvisionedThroughputExceededException"),
            reset_after(),
            corrupt(b"x"),
            truncate(0.9),
            error("InternalServerError", 500),
        ):
            proxy.add(fault, first=1, every=2, times=1)
        found = [item["name"] for page in behind.scan(["name"]) for item in page]

    assert sorted(map(str, found)) == names
    assert behind.capacity.retries == 5
    assert behind.capacity.throttles == 1


@pytest.mark.parametrize("at", [b"first", b"S", 0, -1])
@on_dynamodb_local
def test_a_corrupted_answer_is_read_again(
    table: EnterpriseTable, at: bytes | int
) -> None:
    """One flipped bit, in a value or in the form, must never reach a comparison."""
    (item,) = as_items(make_items(["first"]))
    put(table, item)
    with through_proxy(table) as (behind, proxy):
        proxy.add(corrupt(at), times=1)
        found = behind.read([str(item["PK"])])
        requests = len(proxy.calls)

    assert found == {item["PK"]: item}
    assert requests == 2


def test_keys_that_come_back_unprocessed_are_asked_again(
    table: EnterpriseTable,
) -> None:
    """A read of 100 keys must return all that are there, however often it is cut."""
    frame = numbered(80)
    fill(table, *as_items(frame))
    keys = list(frame["PK"])
    absent = [f"ENT#absent-{number}" for number in range(20)]
    with through_proxy(table) as (behind, proxy):
        proxy.add(read_part(33), times=1)
        proxy.add(read_part(0), times=1)
        found = behind.read([*absent, *keys])
        (tables,) = {str(list(c.request.json["RequestItems"])) for c in proxy.calls}
        wanted = [c.request.json["RequestItems"][table.name] for c in proxy.calls]

    assert found == {str(item["PK"]): item for item in as_items(frame)}
    assert tables == str([table.name])
    assert [len(each["Keys"]) for each in wanted] == [100, 67, 67]
    assert all(each["ConsistentRead"] for each in wanted)


@on_dynamodb_local
def test_reads_end_at_the_deadline(table: EnterpriseTable) -> None:
    """A table that answers nothing must not hold a run beyond its deadline."""
    with through_proxy(table, deadline=time.time() + 0.5) as (behind, proxy):
        proxy.add(error("ThrottlingException"), operation="BatchGetItem")
        proxy.add(read_part(0), operation="BatchGetItem")
        proxy.add(reset_before(), operation="Scan")
        proxy.add(error("InternalServerError", 500), operation="GetItem")
        begun = time.monotonic()
        with pytest.raises(Incomplete):
            behind.read(["ENT#1"])
        with pytest.raises(Incomplete):
            behind.holds_enterprises()
        with pytest.raises(Incomplete):
            behind.get_own("ORIGIN")

    assert time.monotonic() - begun < 1


# Writing.


def test_values_of_every_type_are_told_apart(
    table: EnterpriseTable, items: ReadItems
) -> None:
    """What others wrote must come back, and be conditions, in its own type."""
    (item,) = as_items(make_items(["ours"]))
    theirs = to_wire(item) | {
        "name": {"NULL": True},
        "enterprise_name": {"L": [{"S": "a"}, {"N": "1"}]},
        "createdAt": {"N": "1.5"},
        "created_date": {"M": {"at": {"BOOL": False}}},
        "updatedAt": {"SS": ["a", "b"]},
        "updated_date": {"B": b"\0\xff"},
        "count": {"N": "-12345678901234567890"},
        "active": {"BOOL": True},
    }
    table.client.put_item(TableName=table.name, Item=theirs)
    (seen,) = table.read([str(item["PK"])]).values()
    assert (seen["count"], seen["active"]) == (-12345678901234567890, True)
    assert to_wire(seen) == theirs

    table.update(item, seen)

    expected = to_wire(item) | {"count": theirs["count"], "active": theirs["active"]}
    assert list(items().values()) == [expected]


@pytest.mark.parametrize(
    "now",
    [
        {"name": "changed"},
        {"updatedAt": LATER},
        {"entity_type": "product"},
        {"original_pg_id": True},
        {"original_pg_id": "1"},
    ],
)
@on_dynamodb_local
def test_an_update_needs_what_was_seen(
    table: EnterpriseTable, items: ReadItems, now: dict[str, Any]
) -> None:
    """Any of our attributes that changed since, in value or type, must hold it off."""
    (item,) = as_items(make_items(["ours"], provenance=True))
    seen = item | {"name": "old"}
    put(table, seen | now)
    with pytest.raises(ConditionFailed):
        table.update(item, seen)

    assert list(items().values()) == [to_wire(seen | now)]


@on_dynamodb_local
def test_an_update_needs_what_was_not_seen(
    table: EnterpriseTable, items: ReadItems
) -> None:
    """An attribute of ours that was added since must hold off the update too."""
    (item,) = as_items(make_items(["ours"]))
    seen = {k: v for k, v in item.items() if k != "updatedAt"}
    put(table, item | {"updatedAt": LATER})
    with pytest.raises(ConditionFailed):
        table.update(item, seen)

    assert list(items().values()) == [to_wire(item | {"updatedAt": LATER})]


def test_an_update_makes_no_item(table: EnterpriseTable, items: ReadItems) -> None:
    """Where the item is gone, an update must fail and leave no ghost."""
    (item,) = as_items(make_items(["ours"]))
    with pytest.raises(ConditionFailed):
        table.update(item, {})

    assert items() == {}


def test_a_creation_needs_an_empty_place(
    table: EnterpriseTable, items: ReadItems
) -> None:
    """An item that is there may not be replaced."""
    frame = numbered(1)
    (item,) = as_items(frame)
    table.create(item)
    with pytest.raises(ConditionFailed):
        table.create(item | {"name": "second"})

    assert items() == wire_by_key(frame)


@on_dynamodb_local
def test_a_write_is_sent_once(table: EnterpriseTable) -> None:
    """The client may not send again by itself: the loader must read before."""
    (item,) = as_items(make_items(["ours"]))
    writes: list[Callable[[EnterpriseTable], object]] = [
        lambda behind: behind.put_batch([item]),
        lambda behind: behind.create(item),
        lambda behind: behind.update(item, item),
    ]
    for write in writes:
        with through_proxy(table) as (behind, proxy):
            proxy.add(reset_before())
            with pytest.raises(Exception, match="no clear answer"):
                write(behind)
            assert len(proxy.calls) == 1


@on_dynamodb_local
def test_capacity_is_counted(table: EnterpriseTable) -> None:
    """What the store says that requests cost must add up."""
    (item,) = as_items(make_items(["x" * 5_000]))
    table.put_batch([item])
    table.update(item, item)
    table.read([str(item["PK"])])
    counted = table.capacity.asdict()

    assert counted == {
        "write_units": 22.0,
        "read_units": 3.0,
        "throttles": 0,
        "retries": 0,
    }


# Opening.


def test_a_region_is_needed() -> None:
    """Without a region there is no telling which table is meant."""
    with pytest.raises(SettingsError, match="AWS_REGION"):
        open_table(Settings.isolated())


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"aws_profile": "no-such-profile"}, "no-such-profile"),
        ({"aws_region": "not a region"}, "not a region"),
        ({"aws_access_key_id": "half"}, "AWS_SECRET_ACCESS_KEY"),
        ({"aws_secret_access_key": "half"}, "AWS_ACCESS_KEY_ID"),
        ({"dynamodb_endpoint": "https://a..b"}, "https://a..b"),
    ],
)
def test_a_setting_that_boto3_refuses_is_a_wrong_setting(
    settings: dict[str, str], named: str
) -> None:
    """What boto3 says of profile and region must name them, not be a traceback."""
    with pytest.raises(SettingsError, match=named):
        open_table(Settings.isolated(**({"aws_region": "eu-west-1"} | settings)))


def test_a_local_endpoint_needs_no_credentials(
    moto_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On loopback dummies must do, and no real key be looked for."""
    sent: list[Any] = []
    monkeypatch.setattr(
        boto3.Session, "get_credentials", lambda _: sent.append(1), raising=True
    )
    table = open_at(moto_endpoint, "Test")
    with FaultProxy(moto_endpoint) as proxy:
        behind = replace(table, client=open_at(proxy.url, "Test").client)
        with pytest.raises(TargetError):
            require_table(behind)
        headers = dict(proxy.calls[0].request.headers)

    assert "Credential=dummy/" in headers["authorization"]
    assert sent == []
