"""Cases of DynamoDB alone: other kinds of item, items of older tools, lost answers."""

import random
from typing import Any

import pytest

from flows.api import dynamodb_store
from flows.api.dynamodb_store import _insist
from flows.errors import ConditionFailed, Throttled
from flows.settings import Settings
from flows.stores.dynamodb.table import open_table
from tests.support.fault_proxy import FaultProxy
from tests.support.faults import black_hole, error, reset_after, reset_before
from tests.support.serving import (
    Service,
    item_of,
    new_table,
    put_items,
    read_items,
    service_of,
)
from tests.support.target_table import FOREIGN

PATH = "/api/enterprises"
STAMP = "2024-01-05T12:34:56.789Z"


@pytest.fixture
def behind_proxy(dynamodb_settings: Settings) -> Any:
    """Serve the table through a proxy that can fail; yield both."""
    endpoint = str(dynamodb_settings.dynamodb_endpoint)
    with FaultProxy(endpoint) as proxy:
        values = dynamodb_settings.model_dump() | {"dynamodb_endpoint": proxy.url}
        with service_of(Settings.isolated(**values)) as service:
            yield service, proxy


def test_other_kinds_of_item_are_never_touched(dynamodb_settings: Settings) -> None:
    """They must not be listed, shown, changed or deleted, even if they share a key."""
    beside = {"PK": "ENT#1", "SK": "PROD#1", "entity_type": "product", "name": "p"}
    put_items(dynamodb_settings, *FOREIGN, beside, item_of("1", "Acme"))
    before = read_items(dynamodb_settings)
    with service_of(dynamodb_settings) as service:
        assert [e["id"] for e in service.listed()] == ["1"]
        for foreign in ("other", "x"):
            path = f"{PATH}/{foreign}"
            assert service.client.get(path).status_code == 404
            assert service.client.put(path, json={"name": "n"}).status_code == 404
            assert service.client.delete(path).status_code == 404
        assert read_items(dynamodb_settings) == before
        assert service.client.delete(f"{PATH}/1").status_code == 200

    del before["ENT#1", "METADATA"]
    assert read_items(dynamodb_settings) == before


def test_items_of_older_tools_are_served(dynamodb_settings: Settings) -> None:
    """Ids such as 1001, a single name, no times and numbers as texts must be served."""
    bare = {"SK": "METADATA", "entity_type": "enterprise"}
    put_items(
        dynamodb_settings,
        bare
        | {"PK": "ENT#1001", "id": 1001, "enterprise_name": "Long", "extra": "kept"},
        bare | {"PK": "ENT#b", "name": "Short", "updatedAt": STAMP},
        bare | {"PK": "ENT#c", "name": 7, "createdAt": True},
    )
    with service_of(dynamodb_settings) as service:
        shown = {e.pop("id"): e for e in service.listed()}
        assert shown["1001"] == {"name": "Long", "createdAt": None, "updatedAt": None}
        assert shown["b"] == {"name": "Short", "createdAt": STAMP, "updatedAt": STAMP}
        assert shown["c"] == {"name": None, "createdAt": None, "updatedAt": None}
        found = service.client.get(PATH, params={"name": "Long"}).json()
        assert [e["id"] for e in found] == ["1001"]
        for key in shown:
            changed = service.client.put(f"{PATH}/{key}", json={"name": "New"})
            assert changed.status_code == 200, changed.text
        by_number = service.client.put(PATH, json={"id": 1001, "name": "Newer"})
        assert by_number.json()["id"] == "1001"

    item = read_items(dynamodb_settings)["ENT#1001", "METADATA"]
    assert item["extra"] == {"S": "kept"}
    assert item["name"] == item["enterprise_name"] == {"S": "Newer"}
    assert item["updatedAt"] == item["updated_date"]


def test_attributes_of_a_mapping_survive_each_change(
    dynamodb_settings: Settings,
) -> None:
    """A rename keeps all that a mapping file carries, whatever its type."""
    carried: dict[str, Any] = {
        "plan": "pro",
        "seats": {"N": "1.5"},
        "active": True,
        "settings": {"M": {"a": {"L": [{"N": "2"}, {"NULL": True}]}}},
        "raw": {"B": b"\0\xff"},
        "tags": {"SS": ["a", "b"]},
        "note": {"NULL": True},
    }
    put_items(dynamodb_settings, item_of("1", "Acme") | carried)
    before = read_items(dynamodb_settings)["ENT#1", "METADATA"]
    with service_of(dynamodb_settings) as service:
        answer = service.client.put(f"{PATH}/1", json={"name": "New"})
        described = service.client.get(f"{PATH}/debug/dynamodb")
    after = read_items(dynamodb_settings)["ENT#1", "METADATA"]

    assert (answer.status_code, described.status_code) == (200, 200)
    assert after["name"] == {"S": "New"}
    assert {name: after[name] for name in carried} == {
        name: before[name] for name in carried
    }


def test_a_new_item_is_that_of_the_contract(table_settings: Settings) -> None:
    """A reconciliation must find nothing malformed in items of the service."""
    with service_of(table_settings) as service:
        made = service.client.post(PATH, json={"name": "Acme"}).json()

    wanted = item_of(made["id"], "Acme", made["createdAt"], made["createdAt"])
    ((_, item),) = read_items(table_settings).items()
    assert item == {name: {"S": value} for name, value in wanted.items()}


def test_half_a_surrogate_pair_in_an_item_is_no_fault(
    dynamodb_local: str, table_name: str
) -> None:
    """DynamoDB Local stores it, but no UTF-8 answer can: it must be replaced."""
    settings = new_table(dynamodb_local, table_name)
    put_items(settings, item_of("1", "a\ud800b"))
    with service_of(settings) as service:
        assert [e["name"] for e in service.listed()] == ["a\ufffdb"]
        assert service.client.get(f"{PATH}/1").json()["name"] == "a\ufffdb"
        assert service.client.get(f"{PATH}/debug/dynamodb").status_code == 200
        assert service.client.put(f"{PATH}/1", json={"name": "n"}).status_code == 200


def test_reads_are_as_consistent_as_asked(
    behind_proxy: tuple[Service, FaultProxy],
) -> None:
    """Reads must be eventual, unless the request asks for consistent ones."""
    service, proxy = behind_proxy
    for query in ("", "?consistent=true", "?consistent=false"):
        service.client.get(f"{PATH}/1{query}")
        service.client.get(PATH + query)

    asked = [
        (c.operation, c.request.json["ConsistentRead"])
        for c in proxy.calls
        if c.operation in {"GetItem", "Scan"}
    ]
    assert asked == [
        ("GetItem", False),
        ("Scan", False),
        ("GetItem", True),
        ("Scan", True),
        ("GetItem", False),
        ("Scan", False),
    ]


def test_pages_by_name_are_refused_with_the_reason(table_settings: Settings) -> None:
    """A single table has no such order: the answer must say what can be had instead."""
    put_items(table_settings, *(item_of(str(n), f"name {9 - n}") for n in range(3)))
    with service_of(table_settings) as service:
        cursor = service.client.get(f"{PATH}?limit=1").links["next"]["url"]
        for query in ("?sort=name&limit=1", "?limit=1000&sort=name"):
            answer = service.client.get(PATH + query)
            assert answer.status_code == 422
            assert answer.headers["content-type"] == "application/problem+json"
            assert "DynamoDB cannot sort pages" in answer.json()["detail"]
            assert "Omit limit" in answer.json()["detail"]
        assert service.client.get(f"{cursor}&sort=name").status_code in {400, 422}
        whole = service.client.get(f"{PATH}?sort=name").json()

    assert [each["id"] for each in whole] == ["2", "1", "0"]


def test_the_setting_makes_all_reads_consistent(table_settings: Settings) -> None:
    """DYNAMODB_CONSISTENT_READS must be the default of the parameter."""
    endpoint = str(table_settings.dynamodb_endpoint)
    with FaultProxy(endpoint) as proxy:
        values = table_settings.model_dump() | {"dynamodb_consistent_reads": True}
        values["dynamodb_endpoint"] = proxy.url
        with service_of(Settings.isolated(**values)) as service:
            service.client.get(f"{PATH}/1")
            described = service.client.get(f"{PATH}/debug/dynamodb").json()

        (asked,) = proxy.calls_of("GetItem")
    assert asked.request.json["ConsistentRead"] is True
    assert described["consistency"] == "strong"


def test_the_table_is_described(dynamodb_settings: Settings) -> None:
    """It must have counts by prefix, ten enterprises, their structure, no settings."""
    items = [item_of(str(n), f"name {n}") for n in range(12)]
    put_items(dynamodb_settings, *FOREIGN, *items)
    with service_of(dynamodb_settings) as service:
        answer = service.client.get(f"{PATH}/debug/dynamodb")

    found = answer.json()
    assert found["tableName"] == dynamodb_settings.dynamodb_enterprise_table
    assert found["tableStatus"] == "ACTIVE"
    assert found["consistency"] == "eventual"
    assert (found["totalItems"], found["enterprises"]) == (17, 12)
    prefixes = {"ENT#": 14, "EPS#": 1, "MIGRATION#": 1, "USER#": 1}
    assert found["keyPrefixes"] == prefixes
    assert len(found["items"]) == 10
    assert all(item in items for item in found["items"])
    assert found["itemStructure"] == dict.fromkeys(items[0], "S")
    assert "dummy" not in answer.text


def test_a_table_with_keys_of_another_type_is_not_ready(
    dynamodb_local: str, table_name: str
) -> None:
    """Correct names and order of the keys do not suffice: each must be a string."""
    settings = Settings.isolated(
        storage_mode="dynamodb",
        dynamodb_endpoint=dynamodb_local,
        dynamodb_enterprise_table=table_name,
    )
    table = open_table(settings)
    table.client.create_table(
        TableName=table_name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[
            {"AttributeName": "PK", "KeyType": "HASH"},
            {"AttributeName": "SK", "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[
            {"AttributeName": "PK", "AttributeType": "S"},
            {"AttributeName": "SK", "AttributeType": "N"},
        ],
    )
    with service_of(settings) as service:
        assert service.client.get("/ready").status_code == 503


def test_a_repeated_key_makes_one_enterprise(dynamodb_settings: Settings) -> None:
    """A POST sent again after a lost answer must find its own item."""
    with service_of(dynamodb_settings) as service:
        headers = {"Idempotency-Key": "order 7"}
        first = service.client.post(PATH, json={"name": "A"}, headers=headers)
        again = service.client.post(PATH, json={"name": "A"}, headers=headers)
        misused = service.client.post(PATH, json={"name": "B"}, headers=headers)

        assert (first.status_code, again.status_code) == (201, 201)
        assert first.json() == again.json()
        assert misused.status_code == 409
        assert len(service.listed()) == 1


def test_a_key_answers_as_at_first_whatever_happened_since(
    dynamodb_settings: Settings,
) -> None:
    """A rename or deletion must neither change the answer nor create another item."""
    with service_of(dynamodb_settings) as service:
        headers = {"Idempotency-Key": "order 7"}
        post = lambda name: service.client.post(  # noqa: E731
            PATH, json={"name": name}, headers=headers
        )
        first = post("A")
        path = first.headers["location"]
        service.client.put(path, json={"name": "B"})
        renamed = post("A")
        assert service.client.delete(path).status_code == 200
        deleted = post("A")
        misused = post("B")

        for again in (renamed, deleted):
            assert (again.status_code, again.json()) == (201, first.json())
            assert again.headers["etag"] == first.headers["etag"]
        assert misused.status_code == 409
        assert service.listed() == []


def test_an_answer_lost_after_a_key_makes_no_second_one(
    behind_proxy: tuple[Service, FaultProxy],
) -> None:
    """The transaction was applied: the next try must find its record."""
    service, proxy = behind_proxy
    proxy.add(reset_after(), operation="TransactWriteItems", times=1)

    made = service.client.post(
        PATH, json={"name": "A"}, headers={"Idempotency-Key": "k"}
    )

    assert made.status_code == 201
    assert service.listed() == [made.json()]


def test_a_lost_answer_changes_nothing_for_the_client(
    behind_proxy: tuple[Service, FaultProxy],
) -> None:
    """Each change must be made once and reported as made, despite a lost answer."""
    service, proxy = behind_proxy
    proxy.add(reset_after(), operation="PutItem", times=1)
    made = service.client.post(PATH, json={"name": "A"})
    assert made.status_code == 201
    assert service.listed() == [made.json()]

    path, tag = made.headers["location"], {"If-Match": made.headers["etag"]}
    proxy.add(reset_after(), operation="UpdateItem", times=1)
    changed = service.client.put(path, json={"name": "B"}, headers=tag)
    assert changed.status_code == 200
    assert service.listed() == [changed.json()]

    proxy.add(reset_after(), operation="DeleteItem", times=1)
    gone = service.client.delete(path)
    assert (gone.status_code, gone.json()) == (200, {})
    assert service.listed() == []
    for operation in ("PutItem", "UpdateItem", "DeleteItem"):
        assert proxy.statuses(operation)[0] is None


def test_a_request_lost_on_its_way_is_sent_again(
    behind_proxy: tuple[Service, FaultProxy],
) -> None:
    """The next try must make the change that never arrived."""
    service, proxy = behind_proxy
    proxy.add(reset_before(), operation="PutItem", times=2)
    made = service.client.post(PATH, json={"name": "A"})
    proxy.add(reset_before(), operation="UpdateItem", times=1)
    changed = service.client.put(made.headers["location"], json={"name": "B"})
    proxy.add(reset_before(), operation="GetItem", times=1)
    shown = service.client.get(made.headers["location"])

    assert [made.status_code, changed.status_code, shown.status_code] == [201, 200, 200]
    assert service.listed() == [changed.json()] == [shown.json()]


@pytest.mark.parametrize(
    ("code", "status", "after"),
    [
        ("ProvisionedThroughputExceededException", 400, "1"),
        ("ThrottlingException", 400, "1"),
        ("InternalServerError", 500, "5"),
        ("AccessDeniedException", 400, "5"),
        ("ResourceNotFoundException", 400, "5"),
    ],
)
def test_an_outage_is_503_with_a_time_to_come_back(  # noqa: PLR0917
    moto_endpoint: str,
    table_name: str,
    code: str,
    status: int,
    after: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No failure of the store may give a 500, or an answer with its own words."""
    monkeypatch.setattr(dynamodb_store, "RETRY_SECONDS", 0.3)
    settings = new_table(moto_endpoint, table_name)
    with FaultProxy(moto_endpoint) as proxy:
        values = settings.model_dump() | {"dynamodb_endpoint": proxy.url}
        with service_of(Settings.isolated(**values)) as service:
            proxy.add(error(code, status))
            answers = [
                service.client.get("/ready"),
                service.client.get(PATH),
                service.client.get(f"{PATH}/1"),
                service.client.post(PATH, json={"name": "x"}),
                service.client.put(f"{PATH}/1", json={"name": "x"}),
                service.client.delete(f"{PATH}/1"),
            ]
            proxy.clear()
            assert service.client.get("/ready").status_code == 200

    for answer in answers:
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == after
        assert answer.headers["content-type"] == "application/problem+json"
        assert table_name not in answer.text


def test_a_stream_of_lost_races_ends() -> None:
    """A lasting fault must be reported after a moment, not retried forever."""
    tries = 0

    def attempt() -> None:
        nonlocal tries
        tries += 1
        raise Throttled("always")

    with pytest.raises(Throttled):
        _insist(attempt)

    assert 2 <= tries < 50


def test_who_loses_races_gets_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many writers of one item, some lose nine times: they must still succeed."""
    lost = iter(range(9))

    def attempt() -> str:
        if next(lost, None) is not None:
            raise ConditionFailed("another was first")
        return "done"

    monkeypatch.setattr(random, "uniform", lambda _, most: most)

    assert _insist(attempt) == "done"


def test_probes_answer_while_the_store_hangs(
    moto_endpoint: str, table_name: str
) -> None:
    """A silent store must not block requests that do not need it."""
    settings = new_table(moto_endpoint, table_name)
    with FaultProxy(moto_endpoint) as proxy:
        values = settings.model_dump() | {"dynamodb_endpoint": proxy.url}
        with service_of(Settings.isolated(**values)) as service:
            proxy.add(black_hole(), operation="GetItem")
            hanging = service.client.get(f"{PATH}/1")
            assert service.client.get("/health").status_code == 200

    assert hanging.status_code == 503


@pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)
@pytest.mark.parametrize(("kind", "status"), [("S", 422), ("N", 503)])
def test_what_an_index_refuses_is_said_to_be_whose_fault(
    dynamodb_settings: Settings,
    caplog: pytest.LogCaptureFixture,
    kind: Any,
    status: int,
) -> None:
    """A name too long for an index is a client error, a key of another type is not."""
    table = open_table(dynamodb_settings)
    change: Any = {
        "IndexName": "by-name",
        "KeySchema": [{"AttributeName": "name", "KeyType": "HASH"}],
        "Projection": {"ProjectionType": "ALL"},
    }
    table.client.update_table(
        TableName=table.name,
        AttributeDefinitions=[{"AttributeName": "name", "AttributeType": kind}],
        GlobalSecondaryIndexUpdates=[{"Create": change}],
    )
    with service_of(dynamodb_settings) as service:
        long = service.client.post(PATH, json={"name": "x" * 2_049})
        short = service.client.post(PATH, json={"name": "x"})

    assert long.status_code == status
    assert short.status_code == (201 if kind == "S" else 503)
    assert ("2,048 bytes" in long.json()["detail"]) is (kind == "S")
    assert ("index by-name has the key" in caplog.text) is (kind == "N")
