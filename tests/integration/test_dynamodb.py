"""Single requests to the target table: their results and their writes."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import boto3
import pytest

from flows.errors import (
    ConditionFailed,
    Incomplete,
    SettingsError,
    TargetError,
)
from flows.load import load_items
from flows.mapping.template import Template
from flows.models import ENTERPRISE_TABLE, key_of
from flows.settings import Settings
from flows.stores.dynamodb.client import REQUEST_SECONDS
from flows.stores.dynamodb.filters import filter_of
from flows.stores.dynamodb.lease import MARGIN_SECONDS
from flows.stores.dynamodb.schema import (
    require_table,
)
from flows.stores.dynamodb.table import EnterpriseTable, open_table
from flows.stores.dynamodb.wire import to_wire
from tests.support.fault_proxy import FaultProxy
from tests.support.faults import (
    corrupt,
    error,
    read_part,
    reset_before,
    truncate,
)
from tests.support.target_table import (
    FOREIGN,
    LATER,
    as_items,
    as_puts,
    keys_of,
    make_items,
    numbered,
    open_at,
    put,
    through_proxy,
    wire_by_key,
)

ReadItems = Callable[[], dict[str, dict[str, Any]]]

on_dynamodb_local = pytest.mark.parametrize(
    "endpoint", ["dynamodb-local"], indirect=True
)
# Reading.


def test_only_enterprises_are_found(table: EnterpriseTable) -> None:
    """No scan may return other kinds, even one in the place of an enterprise."""
    put(table, *(item for item in FOREIGN if item["PK"] != "ENT#other"))
    before = table.is_taken()
    put(table, *FOREIGN)
    assert table.is_taken()
    found_before = [item for page in table.scan() for item in page]
    frame = numbered(3)
    load_items(frame, table, table_was_empty=True)
    found = [item for page in table.scan() for item in page]

    assert (before, found_before) == (False, [])
    assert table.is_taken()
    assert sorted(found, key=lambda i: str(i["id"])) == sorted(
        as_items(frame), key=lambda i: str(i["id"])
    )


def fill(table: EnterpriseTable, *items: dict[str, Any]) -> None:
    """Put many items, in batches."""
    for start in range(0, len(items), 25):
        table.put_batch(as_puts(items[start : start + 25]))


def test_a_scan_goes_on_to_the_last_page(table: EnterpriseTable) -> None:
    """A table of more than 1 MB arrives in pages: none may be left out."""
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
    """A page whose items were all filtered out must not end the scan."""
    others = [
        {"PK": f"EPS#{number}", "SK": "METADATA", "x": "x" * 300_000}
        for number in range(12)
    ]
    fill(table, *others)
    nothing = [len(page) for page in table.scan(["PK"])]
    before = table.is_taken()
    frame = numbered(2)
    load_items(frame, table)
    pages = [len(page) for page in table.scan(["PK"])]

    assert (nothing, before) == ([0] * len(nothing), False)
    assert len(nothing) >= 3
    assert sum(pages) == 2
    assert 0 in pages
    assert table.is_taken()


@on_dynamodb_local
def test_a_scan_survives_passing_faults(table: EnterpriseTable) -> None:
    """Faults between and within pages must cost time, not items."""
    names = [f"{number:02} " + "x" * 90_000 for number in range(20)]
    fill(table, *as_items(make_items(names)))
    with through_proxy(table) as (behind, proxy):
        proxy.add(error("ProvisionedThroughputExceededException"), times=1)
        proxy.add(corrupt(b"x"), first=2, times=1)
        proxy.add(truncate(0.9), first=2, times=1)
        found = [item["name"] for page in behind.scan(["name"]) for item in page]

    assert sorted(map(str, found)) == names
    assert behind.capacity.retries == 3
    assert behind.capacity.throttles == 1


@on_dynamodb_local
def test_a_corrupted_answer_is_read_again(table: EnterpriseTable) -> None:
    """A flipped bit in a value or in the structure must never reach a comparison."""
    (item,) = as_items(make_items(["first"]))
    put(table, item)
    places: list[bytes | int] = [b"first", b"S", 0, -1]
    with through_proxy(table) as (behind, proxy):
        found = []
        for at in places:
            proxy.add(corrupt(at), times=1)
            found.append(behind.read([key_of(item)]))
        requests = len(proxy.calls)

    assert found == [{key_of(item): item}] * len(places)
    assert requests == 2 * len(places)


def test_keys_that_come_back_unprocessed_are_asked_again(
    table: EnterpriseTable,
) -> None:
    """A read of 100 keys must return all existing items, however often it is cut."""
    frame = numbered(80)
    fill(table, *as_items(frame))
    keys = keys_of(frame)
    absent = [(f"ENT#absent-{number}", "METADATA") for number in range(20)]
    with through_proxy(table) as (behind, proxy):
        proxy.add(read_part(33), times=1)
        proxy.add(read_part(0), times=1)
        found = behind.read([*absent, *keys])
        (tables,) = {str(list(c.request.json["RequestItems"])) for c in proxy.calls}
        wanted = [c.request.json["RequestItems"][table.name] for c in proxy.calls]

    assert found == {key_of(item): item for item in as_items(frame)}
    assert tables == str([table.name])
    assert [len(each["Keys"]) for each in wanted] == [100, 67, 67]
    assert all(each["ConsistentRead"] for each in wanted)


@on_dynamodb_local
def test_reads_end_at_the_deadline(table: EnterpriseTable) -> None:
    """A table that does not answer must not hold a run beyond its deadline."""
    with through_proxy(table, deadline=time.time() + 0.5) as (behind, proxy):
        proxy.add(error("ThrottlingException"), operation="BatchGetItem")
        proxy.add(read_part(0), operation="BatchGetItem")
        proxy.add(reset_before(), operation="Scan")
        proxy.add(error("InternalServerError", 500), operation="GetItem")
        with pytest.raises(Incomplete):
            behind.read([("ENT#1", "METADATA")])
        with pytest.raises(Incomplete):
            behind.is_taken()
        with pytest.raises(Incomplete):
            behind.get_own("ORIGIN")


# Writing.


def test_values_of_every_type_are_told_apart(
    table: EnterpriseTable, items: ReadItems
) -> None:
    """Values of other writers must keep their type in reads and in conditions."""
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
    (seen,) = table.read([key_of(item)]).values()
    assert (seen["count"], seen["active"]) == (-12345678901234567890, True)
    assert to_wire(seen) == theirs

    table.update(item, seen)

    expected = to_wire(item) | {"count": theirs["count"], "active": theirs["active"]}
    assert list(items().values()) == [expected]


def test_an_absent_attribute_is_removed(
    table: EnterpriseTable, items: ReadItems
) -> None:
    """None removes our attribute, and other programs' attributes stay."""
    (item,) = as_items(make_items(["ours"]))
    seen = item | {"GSI1PK": "OWNER#1", "seats": 3, "theirs": {"L": [{"N": "1"}]}}
    put(table, seen)
    gone = {"GSI1PK": None, "seats": None, "never": None}

    table.update(item | {"name": "new"} | gone, seen)

    expected = item | {"name": "new", "theirs": seen["theirs"]}
    assert list(items().values()) == [to_wire(expected)]


@pytest.mark.parametrize(
    ("removed", "now"),
    [("seats", {"seats": 4}), ("never", {"never": "x"}), ("seats", {"seats": "3"})],
)
@on_dynamodb_local
def test_a_removal_needs_what_was_seen(
    table: EnterpriseTable, items: ReadItems, removed: str, now: dict[str, Any]
) -> None:
    """An attribute that changed, or was added, since it was seen must not be lost."""
    (item,) = as_items(make_items(["ours"]))
    seen = item | {"seats": 3}
    put(table, seen | now)
    with pytest.raises(ConditionFailed):
        table.update(item | {removed: None}, seen)

    assert list(items().values()) == [to_wire(seen | now)]


def test_items_of_an_entity_are_scanned_and_read_by_both_keys(
    table: EnterpriseTable,
) -> None:
    """A partition holds items of several entities: each one only by its own keys."""
    (item,) = as_items(make_items(["ours"]))
    keys = {"PK": item["PK"], "entity_type": "product"}
    products = [keys | {"SK": f"PROD#{number}", "id": str(number)} for number in (1, 2)]
    source = replace(ENTERPRISE_TABLE, entity="product", sort_key=Template("PROD#{id}"))
    before = table.is_taken([source])
    put(table, item, *products, *FOREIGN)
    found = [one for page in table.scan(only=filter_of(source)) for one in page]
    read = table.read([key_of(item), key_of(products[0]), (item["PK"], "PROD#3")])

    assert (before, table.is_taken([source])) == (False, True)
    assert sorted(found, key=key_of) == products
    assert read == {key_of(one): one for one in (item, products[0])}


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
    """A later change of a migrated attribute, in value or type, must prevent it."""
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
    """A migrated attribute that was added later must prevent the update too."""
    (item,) = as_items(make_items(["ours"]))
    seen = {k: v for k, v in item.items() if k != "updatedAt"}
    put(table, item | {"updatedAt": LATER})
    with pytest.raises(ConditionFailed):
        table.update(item, seen)

    assert list(items().values()) == [to_wire(item | {"updatedAt": LATER})]


def test_an_update_makes_no_item(table: EnterpriseTable, items: ReadItems) -> None:
    """If the item is gone, an update must fail and leave no ghost."""
    (item,) = as_items(make_items(["ours"]))
    with pytest.raises(ConditionFailed):
        table.update(item, {})

    assert items() == {}


def test_a_creation_needs_an_empty_place(
    table: EnterpriseTable, items: ReadItems
) -> None:
    """An existing item may not be replaced."""
    frame = numbered(1)
    (item,) = as_items(frame)
    table.create(item)
    with pytest.raises(ConditionFailed):
        table.create(item | {"name": "second"})

    assert items() == wire_by_key(frame)


@on_dynamodb_local
def test_a_write_is_sent_once(table: EnterpriseTable) -> None:
    """The client may not retry by itself: the loader must read first."""
    (item,) = as_items(make_items(["ours"]))
    writes: list[Callable[[EnterpriseTable], object]] = [
        lambda behind: behind.put_batch(as_puts([item])),
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
    """The capacity that the store reports for each request must add up."""
    (item,) = as_items(make_items(["x" * 5_000]))
    table.put_batch(as_puts([item]))
    table.update(item, item)
    table.read([key_of(item)])
    counted = table.capacity.asdict()

    assert counted == {
        "write_units": 22.0,
        "read_units": 3.0,
        "throttles": 0,
        "retries": 0,
    }


# Opening.


def test_a_region_is_needed() -> None:
    """Without a region the table is ambiguous."""
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
    """A boto3 error must name the wrong profile or region, without a traceback."""
    with pytest.raises(SettingsError, match=named):
        open_table(Settings.isolated(**({"aws_region": "eu-west-1"} | settings)))


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB"])
def test_an_endpoint_of_boto3s_own_is_as_safe(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No variable or file may send real credentials off this machine in clear text."""
    for allowed in (False, True):
        settings = Settings.isolated(
            aws_region="eu-west-1", allow_insecure_endpoint=allowed
        )
        monkeypatch.setenv(name, "http://dynamodb.example:8000")
        with pytest.raises(SettingsError, match=r"http://dynamodb\.example:8000"):
            open_table(settings)
        monkeypatch.setenv(name, "https://dynamodb.example")
        assert open_table(settings).endpoint == "https://dynamodb.example"
        monkeypatch.setenv(name, "http://127.0.0.1:8000")
        assert open_table(settings).endpoint == "http://127.0.0.1:8000"


def test_a_local_endpoint_needs_no_credentials(
    moto_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On loopback dummy keys must suffice, and no real key may be looked up."""
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


def test_no_request_outlasts_the_margin_of_a_lease() -> None:
    """A request to a hanging store must time out while the lease is still held."""
    config: Any = open_at("http://127.0.0.1:1", "Test").client.meta.config
    longest = config.connect_timeout + config.read_timeout

    assert longest == REQUEST_SECONDS < MARGIN_SECONDS
    assert Settings.isolated(lease_seconds=15).lease_seconds > MARGIN_SECONDS
