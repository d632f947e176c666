"""The benchmarks' endpoint answers as DynamoDB does, as far as this program uses it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from flows.errors import ConditionFailed, CutoverDeclared, LeaseHeld
from flows.load import load_items
from flows.mapping.template import Template
from flows.models import ENTERPRISE_TABLE, Outcome, key_of
from flows.stores.dynamodb.lease import CUTOVER, OWN_PARTITION, Lease
from flows.stores.dynamodb.schema import create_table, require_table
from flows.stores.dynamodb.table import EnterpriseTable
from tests.benchmarks.endpoint import read_consumption, running_endpoint
from tests.support.target_table import numbered, open_at, wire_by_key

KEY = {"PK": "ENT#1", "SK": "METADATA"}


@pytest.fixture(scope="module")
def memory() -> Iterator[str]:
    """Run the benchmarks' endpoint; yield its URL."""
    with running_endpoint() as url:
        yield url


@pytest.fixture(params=["memory", "dynamodb_local"])
def table(request: pytest.FixtureRequest, table_name: str) -> EnterpriseTable:
    """Create a table in the benchmarks' endpoint, then in AWS's own emulator."""
    made = open_at(request.getfixturevalue(request.param), table_name)
    assert create_table(made)
    return made


@pytest.fixture
def in_memory(memory: str, table_name: str) -> EnterpriseTable:
    """Create a table in the benchmarks' endpoint alone."""
    made = open_at(memory, table_name)
    assert create_table(made)
    return made


def item(number: int, **more: Any) -> dict[str, Any]:
    """Return an item in DynamoDB's form."""
    key = {"PK": {"S": f"ENT#{number}"}, "SK": {"S": "METADATA"}}
    return key | {"entity_type": {"S": "enterprise"}} | more


def write(table: EnterpriseTable, items: list[dict[str, Any]]) -> Any:
    """Send one BatchWriteItem."""
    puts: Any = [{"PutRequest": {"Item": one}} for one in items]
    return table.client.batch_write_item(
        RequestItems={table.name: puts}, ReturnConsumedCapacity="TOTAL"
    )


def scan(table: EnterpriseTable, **request: Any) -> tuple[list[Any], list[Any]]:
    """Scan to the end; return the pages and their items."""
    paginator: Any = table.client.get_paginator("scan")
    pages = list(paginator.paginate(TableName=table.name, **request))
    return pages, [one for page in pages for one in page["Items"]]


def code_of(call: Callable[[], object]) -> str:
    """Return the code of the error that a call raises."""
    with pytest.raises(ClientError) as caught:
        call()
    return str(caught.value.response["Error"]["Code"])


def test_the_loader_brings_items_there_and_back(table: EnterpriseTable) -> None:
    """Loaded items must match byte for byte, and a second load must change nothing."""
    frame = numbered(51)

    first = load_items(frame, table, table_was_empty=True)
    again = load_items(frame, table)

    assert first.count(Outcome.WRITTEN) == 51
    assert again.count(Outcome.UNCHANGED) == 51
    assert {f"{i['PK']['S']} {i['SK']['S']}": i for i in scan(table)[1]} == wire_by_key(
        frame
    )


def test_a_batch_of_26_or_with_a_key_twice_is_refused(table: EnterpriseTable) -> None:
    """Such a batch must be refused as a whole."""
    items = [item(number) for number in range(26)]

    assert code_of(lambda: write(table, items)) == "ValidationException"
    assert code_of(lambda: write(table, [item(1), item(1)])) == "ValidationException"
    assert scan(table)[1] == []


def test_an_item_over_400_kb_is_refused_with_its_batch(table: EnterpriseTable) -> None:
    """An item of 409,600 bytes is the largest; names and UTF-8 values count."""
    fixed = len("PKENT#1SKMETADATAentity_typeenterprisename")
    largest = item(1, name={"S": "é" * ((409_600 - fixed) // 2)})
    larger = item(2, name={"S": largest["name"]["S"] + "é"})

    write(table, [largest])

    assert code_of(lambda: write(table, [item(3), larger])) == "ValidationException"
    assert len(scan(table)[1]) == 1


@pytest.mark.parametrize(
    ("size", "units"), [(0, 1), (940, 1), (1024, 2), (1900, 2), (4000, 4)]
)
def test_a_write_costs_a_unit_for_each_kb_begun(
    table: EnterpriseTable, size: int, units: int
) -> None:
    """Writes must cost as in DynamoDB, by the larger of the old and new item."""
    large = item(1, name={"S": "x" * size})

    answers = [write(table, [one]) for one in (large, item(1), item(1))]

    costs = [answer["ConsumedCapacity"][0]["CapacityUnits"] for answer in answers]
    assert costs == [units, units, 1]


def test_reads_cost_a_unit_for_each_4_kb_begun(table: EnterpriseTable) -> None:
    """Reads must cost by the size of each item, consistent ones twice as much."""
    write(table, [item(1, name={"S": "é\n" * 2000}), item(2)])

    table.read([("ENT#1", "METADATA"), ("ENT#2", "METADATA")])
    batch, table.capacity.read_units = table.capacity.read_units, 0.0
    assert len(list(table.scan())) == 1

    assert (batch, table.capacity.read_units) == (3.0, 2.0)


@pytest.mark.parametrize("segments", [1, 3])
def test_segments_and_pages_hold_each_item_once(
    table: EnterpriseTable, segments: int
) -> None:
    """Pages of 1 MB, in any segments, must together contain the table."""
    items = [item(number, name={"S": "x" * 50_000}) for number in range(60)]
    for start in range(0, 60, 20):
        write(table, items[start : start + 20])

    both = [
        scan(table, ConsistentRead=True, Segment=number, TotalSegments=segments)
        for number in range(segments)
    ]

    found = [one["PK"]["S"] for _, part in both for one in part]
    assert sorted(found) == sorted(one["PK"]["S"] for one in items)
    assert max(len(page["Items"]) for pages, _ in both for page in pages) == 21


def test_a_scan_is_filtered_and_projected(table: EnterpriseTable) -> None:
    """Only enterprises must come back, with the requested attributes, page by page."""
    others = [item(2), item(3), item(4)]
    others[0]["PK"], others[1]["SK"] = {"S": "USER#2"}, {"S": "PROD#1"}
    others[2]["entity_type"] = {"S": "product"}
    write(table, [item(1, name={"S": "one"}), *others])

    assert list(table.scan(["PK", "name"])) == [[{"PK": "ENT#1", "name": "one"}]]
    assert [len(page["Items"]) for page in scan(table, Limit=3)[0]] == [3, 1]


def test_the_keys_of_several_entities_are_looked_for(table: EnterpriseTable) -> None:
    """An item at a key of one of the entities must be found, and no other."""
    seats = replace(
        ENTERPRISE_TABLE,
        entity="seat",
        partition_key=Template("{id}"),
        sort_key=Template("SEAT#{id}"),
    )
    table.create({"PK": OWN_PARTITION, "SK": "SEAT#1"})
    both = [ENTERPRISE_TABLE, seats]
    before = table.is_taken(both)
    write(table, [item(1) | {"PK": {"S": "x"}, "SK": {"S": "SEAT#1"}}])

    assert (before, table.is_taken(both), table.is_taken()) == (False, True, False)


def test_writes_on_condition_are_refused_where_it_is_not_met(
    table: EnterpriseTable,
) -> None:
    """Creating, changing and deleting must respect their conditions."""
    seen: Any = KEY | {"name": "a", "note": "x"}
    key = key_of(seen)

    table.create(seen)
    with pytest.raises(ConditionFailed):
        table.create(seen)
    table.update(seen | {"name": "b", "note": None}, seen)
    with pytest.raises(ConditionFailed):
        table.update(seen | {"name": "c"}, seen)
    with pytest.raises(ConditionFailed):
        table.delete(seen, ["name"])
    now = KEY | {"name": "b"}
    assert table.read([key]) == {key: now}
    table.update(now | {"name": None, "price": 1}, now)
    assert table.read([key]) == {key: KEY | {"price": 1}}
    table.delete(KEY | {"price": 1}, ["price", "name"])

    assert table.read([key]) == {}


def test_a_lease_excludes_a_second_one_and_heeds_the_cutover(
    table: EnterpriseTable,
) -> None:
    """The transaction of the lease must be all or nothing."""
    lease, other = Lease(table, "a@b", 30), Lease(table, "c@d", 30)

    assert lease.acquire() is False
    lease.renew()
    with pytest.raises(LeaseHeld):
        other.acquire()
    lease.release()
    table.create({"PK": OWN_PARTITION, "SK": CUTOVER, "declared_at": "now"})
    with pytest.raises(CutoverDeclared):
        other.acquire()

    assert other.acquire(after_cutover=True) is False


def test_a_table_is_described_as_it_was_asked_for(table: EnterpriseTable) -> None:
    """Keys, status and billing mode must be returned; an unknown table is missing."""
    require_table(table)
    client = table.client
    mode = client.describe_table(TableName=table.name)["Table"]["BillingModeSummary"]

    assert mode["BillingMode"] == "PAY_PER_REQUEST"
    assert code_of(lambda: client.describe_table(TableName="none")) == (
        "ResourceNotFoundException"
    )


def test_a_condition_that_is_not_known_is_refused(in_memory: EnterpriseTable) -> None:
    """A condition that the endpoint cannot evaluate must not count as true."""
    key: Any = {name: item(1)[name] for name in ("PK", "SK")}

    code = code_of(
        lambda: in_memory.client.delete_item(
            TableName=in_memory.name,
            Key=key,
            ConditionExpression="attribute_exists(PK) OR size(PK) > :n",
            ExpressionAttributeValues={":n": {"N": "1"}},
        )
    )

    assert code == "ValidationException"


def test_a_body_over_16_mb_is_refused(in_memory: EnterpriseTable) -> None:
    """A request that is too large must get a 413, without a code."""
    items = [item(number, name={"S": "字" * 130_000}) for number in range(25)]

    assert code_of(lambda: write(in_memory, items)) == "413"


def test_consumption_is_told_second_by_second(in_memory: EnterpriseTable) -> None:
    """The record must contain the costs in the answers, and each request."""
    url = in_memory.endpoint
    read_consumption(url)

    write(in_memory, [item(1), item(2, name={"S": "x" * 1500})])
    in_memory.get_own("ORIGIN")

    answered = read_consumption(url)
    expected = {"write_units": 3, "read_units": 1, "BatchWriteItem": 1, "GetItem": 1}
    assert expected.items() <= answered["total"].items()
    assert sum(second.get("write_units", 0) for second in answered["seconds"]) == 3
    assert read_consumption(url)["total"] == {}


def test_what_is_throttled_comes_back(table_name: str) -> None:
    """Above the write units a part must come back, or an error if nothing fits."""
    with running_endpoint(write_units=10) as url:
        table = open_at(url, table_name)
        create_table(table)
        begun = time.monotonic()
        answer = write(table, [item(number) for number in range(25)])
        code = code_of(lambda: write(table, [item(99, name={"S": "x" * 9_000})]))
        waited = time.monotonic() - begun
        answered = read_consumption(url)["total"]

    left = answer["UnprocessedItems"][table_name]
    assert 15 - 10 * waited - 1 <= len(left) <= 15
    assert left[-1]["PutRequest"]["Item"] == item(24)
    assert code == "ProvisionedThroughputExceededException"
    assert (answered["throttled"], answered["unprocessed"]) == (1, len(left))
    assert answered["write_units"] == 25 - len(left)


def test_a_provisioned_table_has_the_units_that_it_asked_for(memory: str) -> None:
    """A table created with its own write units must throttle at them."""
    table = open_at(memory, "Provisioned")
    keys: Any = [("PK", "HASH"), ("SK", "RANGE")]
    units: Any = {"ReadCapacityUnits": 1, "WriteCapacityUnits": 3}
    table.client.create_table(
        TableName=table.name,
        KeySchema=[{"AttributeName": n, "KeyType": k} for n, k in keys],
        AttributeDefinitions=[
            {"AttributeName": n, "AttributeType": "S"} for n, _ in keys
        ],
        ProvisionedThroughput=units,
    )

    answered = table.client.describe_table(TableName=table.name)["Table"]
    answer = write(table, [item(number) for number in range(25)])

    assert answered["BillingModeSummary"]["BillingMode"] == "PROVISIONED"
    assert units.items() <= answered["ProvisionedThroughput"].items()
    assert len(answer["UnprocessedItems"][table.name]) >= 21
