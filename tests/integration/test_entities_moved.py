"""Enterprises and their products, moved and proven by one run on DynamoDB Local."""

import json
import signal
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import psycopg2
import pytest
from typer.testing import CliRunner

from flows import pipeline
from flows.cli.app import app
from flows.demo.stores import SAMPLE_QUARANTINED, fill_source
from flows.errors import OriginError, SettingsError
from flows.models import MigrateOptions
from flows.run.repair import RepairOptions
from flows.settings import ID_NAMESPACE
from flows.stores.dynamodb.table import EnterpriseTable
from tests.support.started_runs import environment_of, starting
from tests.support.target_table import remake
from tests.support.warm_command import Commands

pytestmark = pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)

ReadItems = Callable[[], dict[str, dict[str, Any]]]
Execute = Callable[[str], None]

SCHEMA = """
CREATE TABLE public.enterprises (
    id bigint PRIMARY KEY, name text NOT NULL, plan text, seats integer,
    settings jsonb, created_date timestamptz, updated_date timestamptz
);
CREATE TABLE public.products (
    id bigint PRIMARY KEY, enterprise_id bigint, name text, price numeric,
    tags text[], photo bytea, gone boolean NOT NULL DEFAULT false
);
INSERT INTO public.enterprises
SELECT n, 'Enterprise ' || n, 'pro', n, '{"a": [1.50, null, {"b": "c"}]}',
       '2024-01-01', '2024-02-29' FROM generate_series(1, %(enterprises)s) AS n;
INSERT INTO public.products
SELECT n, 1 + (n - 1) %% %(enterprises)s, 'Product ' || n, n + 0.50, ARRAY['x', 'y'],
       '\\x00ff' FROM generate_series(1, %(products)s) AS n;
"""
MAPPING = """
[enterprise]
table = "public.enterprises"
id = "id"
partition_key = "ENT#{id}"
sort_key = "METADATA"
created = "created_date"
updated = "updated_date"

[enterprise.attributes]
enterprise_name = { column = "name", required = true, is_name = true }
name = "name"
plan = { column = "plan", one_of = ["free", "pro"] }
seats = { column = "seats", minimum = 0 }
settings = "settings"

[product]
table = "public.products"
id = "id"
partition_key = "ENT#{enterprise_id}"
sort_key = "PROD#{id}"
where = "NOT gone"

[product.attributes]
enterprise_id = { column = "enterprise_id", refers_to = "enterprise" }
name = "name"
price = "price"
tags = { column = "tags", type = "string_set" }
photo = "photo"
GSI1PK = { template = "NAME#{name}" }
"""


THINGS = """
CREATE TABLE public.things (
    id bigint PRIMARY KEY, name text, price numeric, active boolean, opened date,
    settings jsonb, sizes numeric[], tags text[], photo bytea,
    created_at timestamptz, updated_at timestamptz
);
INSERT INTO public.things
SELECT n, 'Thing ' || n, n + 0.50, n % 2 = 0, DATE '2024-02-29' + n,
       '{"a": {"b": [1.50, null]}}', '{1.5,2}', '{x,y}', '\\x00ff',
       '2024-01-01', '2024-02-29' FROM generate_series(1, 200) AS n;
"""
THINGS_MAPPING = """
[enterprise]
table = "public.things"
id = "id"
partition_key = "ENT#{id}"
sort_key = "METADATA"
created = "created_at"
updated = "updated_at"
[enterprise.attributes]
name = "name"
price = "price"
active = "active"
opened = "opened"
settings = "settings"
sizes = "sizes"
tags = { column = "tags", type = "string_set" }
photo = "photo"
GSI1PK = { template = "NAME#{name}" }
"""


@pytest.fixture
def execute(
    database_url: str,
    table: EnterpriseTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Execute:
    """Fill the source with both tables, name it and the mapping in the environment."""

    def run(statement: str) -> None:
        with closing(psycopg2.connect(database_url)) as connection, connection:
            connection.cursor().execute(statement)

    run(SCHEMA % {"enterprises": 3, "products": 7})
    path = tmp_path / "mapping.toml"
    path.write_text(MAPPING, "utf-8")
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("MAPPING_FILE", str(path))
    assert table.name
    return run


def enterprise_id(source_id: int) -> str:
    """Return the id of an enterprise, by the standard library."""
    return str(uuid5(ID_NAMESPACE, str(source_id)))


def product_id(source_id: int) -> str:
    """Return the id of a product, by the standard library."""
    return str(uuid5(uuid5(ID_NAMESPACE, "product"), str(source_id)))


def product_key(source_id: int, of: int) -> str:
    """Return the key of a product, as ``items`` has it."""
    return f"ENT#{enterprise_id(of)} PROD#{product_id(source_id)}"


def test_a_product_is_stored_with_its_enterprise(
    execute: Execute, items: ReadItems
) -> None:
    """A Query on the partition key must return the enterprise and its products."""
    assert execute
    report = pipeline.migrate()

    found = items()
    assert report.status == "proven"
    assert report.ledger.written == 10
    own = {key for key in found if key.startswith(f"ENT#{enterprise_id(1)} ")}
    metadata = f"ENT#{enterprise_id(1)} METADATA"
    assert own == {metadata, *(product_key(number, 1) for number in (1, 4, 7))}
    assert found[product_key(4, 1)] == {
        "PK": {"S": f"ENT#{enterprise_id(1)}"},
        "SK": {"S": f"PROD#{product_id(4)}"},
        "id": {"S": product_id(4)},
        "enterprise_id": {"S": enterprise_id(1)},
        "name": {"S": "Product 4"},
        "price": {"N": "4.5"},
        "tags": {"SS": ["x", "y"]},
        "photo": {"B": b"\x00\xff"},
        "GSI1PK": {"S": "NAME#Product 4"},
        "entity_type": {"S": "product"},
    }
    assert found[metadata]["settings"] == {
        "M": {
            "a": {"L": [{"N": "1.5"}, {"NULL": True}, {"M": {"b": {"S": "c"}}}]},
        }
    }


def test_the_json_has_each_entity_and_their_sums(execute: Execute) -> None:
    """The counts at the top must be the sums of those of the entities."""
    assert execute
    values = pipeline.migrate().asdict()

    parts = values["entities"]
    assert list(parts) == ["enterprise", "product"]
    assert [part["source"]["rows"] for part in parts.values()] == [3, 7]
    for name in values["ledger"]:
        both = (part["ledger"][name] for part in parts.values())
        assert values["ledger"][name] == sum(both)
    assert values["reconciliation"]["matched"] == 10
    assert values["validation"]["source"]["rows"] == 10


def test_a_second_run_changes_nothing(execute: Execute, items: ReadItems) -> None:
    """Values of every type must be found equal when they are read again."""
    assert execute
    pipeline.migrate()
    before = items()

    again = pipeline.migrate()

    assert again.ledger.unchanged == 10
    assert items() == before
    assert pipeline.reconcile().status == "clean"


def test_one_entity_can_be_moved_alone(execute: Execute, items: ReadItems) -> None:
    """Items of the other entities must be neither written nor counted."""
    assert execute
    report = pipeline.migrate(MigrateOptions(entity=("product",)))

    assert report.status == "proven"
    assert {item.get("entity_type", {}).get("S") for item in items().values()} == {
        "product",
        None,
    }
    with pytest.raises(SettingsError, match="--entity seat"):
        pipeline.migrate(MigrateOptions(entity=("seat",)))


def test_a_moved_key_is_extra_until_its_item_is_deleted(
    execute: Execute, items: ReadItems
) -> None:
    """The item at the old key must be found, named, and deleted on request only."""
    pipeline.migrate()
    execute("UPDATE public.products SET enterprise_id = 2 WHERE id = 1")

    moved = pipeline.migrate()

    assert moved.status == "unproven"
    assert {product_key(1, 1), product_key(1, 2)} <= items().keys()
    (difference,) = moved.reconciliation.found if moved.reconciliation else ()
    assert (difference.kind, difference.origin) == ("extra", "moved")
    assert difference.source_id == "1"

    deleted = pipeline.migrate(MigrateOptions(propagate_deletes=1))

    assert deleted.status == "proven"
    assert product_key(1, 1) not in items()
    assert product_key(1, 2) in items()


def test_an_edited_item_at_an_old_key_is_kept(
    execute: Execute, items: ReadItems, table: EnterpriseTable
) -> None:
    """What an application changed must not be deleted, though its row has moved."""
    pipeline.migrate()
    execute("UPDATE public.products SET enterprise_id = 2 WHERE id = 1")
    key = items()[product_key(1, 1)]
    table.client.update_item(
        TableName=table.name,
        Key={"PK": key["PK"], "SK": key["SK"]},
        UpdateExpression="SET price = :price",
        ExpressionAttributeValues={":price": {"N": "99"}},
    )

    report = pipeline.migrate(MigrateOptions(propagate_deletes=1))

    assert report.status == "unproven"
    assert items()[product_key(1, 1)]["price"] == {"N": "99"}


def test_rows_with_one_key_are_both_quarantined(
    execute: Execute, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One item cannot stand for two rows, whichever of them came first."""
    text = MAPPING.replace("PROD#{id}", "PROD#{name}")
    (tmp_path / "names.toml").write_text(text, "utf-8")
    monkeypatch.setenv("MAPPING_FILE", str(tmp_path / "names.toml"))
    execute("UPDATE public.products SET name = 'Product 1' WHERE id IN (1, 4)")

    report = pipeline.migrate(MigrateOptions(allow_quarantined=2))

    assert report.status == "proven"
    assert report.quarantine == {"key_duplicate": 2}


def test_a_reference_without_row_is_a_warning_or_quarantined(
    execute: Execute, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing or quarantined enterprise must be reported at its products."""
    execute("UPDATE public.products SET enterprise_id = 99 WHERE id = 1")
    execute("UPDATE public.enterprises SET plan = 'gold' WHERE id = 2")

    report = pipeline.migrate(MigrateOptions(allow_quarantined=1))

    warnings = report.asdict()["entities"]["product"]["validation"]["source"]
    assert report.status == "proven"
    assert report.quarantine == {"plan_not_one_of": 1}
    # One refers to no row, two to a row in quarantine.
    assert warnings["warnings"] == {"enterprise_id_reference_missing": 3}

    text = MAPPING.replace(
        'refers_to = "enterprise"', 'refers_to = "enterprise", severity = "critical"'
    )
    (tmp_path / "critical.toml").write_text(text, "utf-8")
    monkeypatch.setenv("MAPPING_FILE", str(tmp_path / "critical.toml"))
    options = MigrateOptions(allow_quarantined=4, accept_mapping=True)
    report = pipeline.migrate(options)

    assert report.quarantine == {
        "enterprise_id_reference_missing": 3,
        "plan_not_one_of": 1,
    }


def test_another_mapping_is_refused_and_can_be_accepted(
    execute: Execute,
    items: ReadItems,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What changed must be named; accepted, an attribute is removed and one added."""
    assert execute
    pipeline.migrate()
    text = MAPPING.replace('photo = "photo"', 'cost = "price"')
    (tmp_path / "other.toml").write_text(text, "utf-8")
    monkeypatch.setenv("MAPPING_FILE", str(tmp_path / "other.toml"))

    with pytest.raises(OriginError, match=r"product\.attributes\.photo") as refused:
        pipeline.migrate()
    assert "--accept-mapping" in refused.value.remedy

    report = pipeline.migrate(MigrateOptions(accept_mapping=True))
    assert report.status == "proven"
    assert items()[product_key(4, 1)]["cost"] == {"N": "4.5"}
    assert pipeline.migrate().ledger.unchanged == 10


def test_null_removes_an_attribute_that_was_written(
    execute: Execute, items: ReadItems
) -> None:
    """A value that became NULL must not stay in the item."""
    pipeline.migrate()
    execute(
        "UPDATE public.enterprises SET seats = NULL, updated_date = '2024-03-01'"
        " WHERE id = 1"
    )

    report = pipeline.migrate()

    assert report.status == "proven"
    assert "seats" not in items()[f"ENT#{enterprise_id(1)} METADATA"]


def test_a_trial_of_two_entities_can_be_undone(
    execute: Execute, items: ReadItems
) -> None:
    """The items of both entities that a trial created must be removed, no others."""
    assert execute
    trial = pipeline.migrate(MigrateOptions(limit=2))
    assert len([k for k in items() if k.startswith("ENT#")]) == 4

    undone = pipeline.undo_trial()

    assert trial.trial is not None
    assert undone.items.removed == 4
    assert not [key for key in items() if key.startswith("ENT#")]


def test_a_corrected_row_of_an_entity_is_replayed(execute: Execute) -> None:
    """A replay must move the rows of each entity that are in quarantine."""
    execute("UPDATE public.products SET price = 'NaN' WHERE id = 1")
    execute("UPDATE public.enterprises SET seats = -1 WHERE id = 3")
    first = pipeline.migrate()
    assert first.quarantine == {"price_not_a_number": 1, "seats_too_small": 1}
    execute("UPDATE public.products SET price = 1 WHERE id = 1")
    execute("UPDATE public.enterprises SET seats = 1 WHERE id = 3")

    replayed = pipeline.migrate(MigrateOptions(replay="last"))

    assert replayed.status == "proven"
    assert replayed.ledger.written == 2
    assert pipeline.reconcile().status == "clean"


def test_every_corruption_of_an_attribute_is_found_and_repaired(
    execute: Execute,
    items: ReadItems,
    table: EnterpriseTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another value, another type, none, or a nested change: each is a difference."""
    execute(THINGS)
    (tmp_path / "things.toml").write_text(THINGS_MAPPING, "utf-8")
    monkeypatch.setenv("MAPPING_FILE", str(tmp_path / "things.toml"))
    assert pipeline.migrate().status == "proven"
    right = items()
    ours = {key: item for key, item in right.items() if key.startswith("ENT#")}
    names = sorted(next(iter(ours.values())).keys() - {"PK", "SK", "entity_type"})
    stamps = {"updated_date", "updatedAt"}
    damages = [(name, kind) for name in names for kind in ("value", "type", "missing")]
    mendable = [damage for damage in damages if damage[0] not in stamps]

    for number, item in enumerate(ours.values()):
        corrupt(table, item, *mendable[number % len(mendable)])
    report = pipeline.reconcile()
    assert report.counts["mismatched"] == len(ours) == 200
    repaired = pipeline.reconcile(repair=RepairOptions(yes=True))
    assert repaired.status == "clean"
    assert {key: item for key, item in items().items() if key in ours} == ours

    # A time of last change decides which side is newer, so people decide about it.
    others = [damage for damage in damages if damage[0] in stamps]
    for item, damage in zip(list(ours.values())[: len(others)], others, strict=True):
        corrupt(table, item, *damage)
    assert pipeline.reconcile().counts["matched"] == 200 - len(others)


def corrupt(table: EnterpriseTable, item: dict[str, Any], name: str, kind: str) -> None:
    """Change one attribute of an item."""
    changed = dict(item)
    if kind == "missing":
        del changed[name]
    elif kind == "type":
        changed[name] = {"N": "1"} if "S" in item[name] else {"S": "1"}
    else:
        changed[name] = another(item[name])
    table.client.put_item(TableName=table.name, Item=changed)


def another(typed: dict[str, Any]) -> dict[str, Any]:
    """Return another value of the same type; of a map, one that differs deep inside."""
    ((letter, content),) = typed.items()
    if letter == "M":
        first = next(iter(content))
        return {"M": content | {first: another(content[first])}}
    changes: dict[str, Callable[[Any], Any]] = {
        "N": lambda number: f"{number}1",
        "B": lambda some: some + b"\x00",
        "SS": lambda some: [*some, "z"],
        "BOOL": lambda flag: not flag,
        "L": lambda some: [*some[:-1], {"S": "changed"}],
        "S": lambda text: f"{text} ",
    }
    return {letter: changes[letter](content)}


@pytest.mark.slow
def test_a_killed_run_of_two_entities_is_resumed_and_proven(
    database_url: str,
    table: EnterpriseTable,
    commands: Commands,
    tmp_path: Path,
) -> None:
    """10,000 enterprises and 50,000 products must all be there after SIGKILL."""
    with closing(psycopg2.connect(database_url)) as connection, connection:
        connection.cursor().execute(
            SCHEMA % {"enterprises": 10_000, "products": 50_000}
        )
    path = tmp_path / "mapping.toml"
    path.write_text(MAPPING, "utf-8")
    environment = environment_of(table, database_url) | {"MAPPING_FILE": str(path)}
    options = ["--no-prefect", "--json", "--partition-rows", "5000"]
    with starting(commands, environment, tmp_path) as start:
        first = start("migrate", *options)
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            answer = table.client.scan(TableName=table.name, Select="COUNT")
            more = answer["Count"] + 5_000 * ("LastEvaluatedKey" in answer)
            if more > 4_000 and has_product(table):
                break
            time.sleep(0.5)
        first.send_signal(signal.SIGKILL)
        first.wait()
        resumed = start("migrate", *options, "--resume", "last")
        output, errors = resumed.communicate(timeout=360)
    assert resumed.returncode == 0, errors
    report = json.loads(output)
    assert report["resumed"]
    assert report["status"] == "proven"
    assert report["reconciliation"]["matched"] == 60_000

    answer = table.client.query(
        TableName=table.name,
        KeyConditionExpression="PK = :pk",
        ExpressionAttributeValues={":pk": {"S": f"ENT#{enterprise_id(42)}"}},
        ConsistentRead=True,
    )
    kinds = sorted(item["entity_type"]["S"] for item in answer["Items"])
    assert kinds == ["enterprise", *["product"] * 5]
    assert UUID(answer["Items"][0]["id"]["S"])


def has_product(table: EnterpriseTable) -> bool:
    """Return whether a product is in the table."""
    for page in table.client.get_paginator("scan").paginate(
        TableName=table.name,
        FilterExpression="entity_type = :kind",
        ExpressionAttributeValues={":kind": {"S": "product"}},
    ):
        if page["Count"]:
            return True
    return False


def test_a_faulty_file_ends_with_2_before_anything_connects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    """Each fault is one line, and neither store is needed to report it."""
    assert endpoint
    path = tmp_path / "faulty.toml"
    path.write_text(MAPPING.replace('"price"', '{ column = "price", type = "nubmer" }'))
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setenv("DYNAMODB_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    for command in ("migrate", "reconcile", "validate", "plan"):
        arguments = [command, "--mapping", str(path), "--json"]
        done = CliRunner().invoke(app, arguments)

        answer = json.loads(done.stdout)
        assert done.exit_code == 2, command
        assert answer["status"] == "refused"
        assert (
            'product.attributes.price: type "nubmer" is unknown'
            in (answer["error"]["message"])
        )


def test_the_built_in_mapping_as_a_file_gives_the_same_table(
    database_url: str,
    table: EnterpriseTable,
    items: ReadItems,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What `mapping init` writes for the sample must change no byte of any item."""
    fill_source(database_url)
    monkeypatch.setenv("DATABASE_URL", database_url)
    options = MigrateOptions(allow_quarantined=SAMPLE_QUARANTINED)
    pipeline.migrate(options)
    without = items()
    path = tmp_path / "written.toml"
    written = CliRunner().invoke(app, ["mapping", "init", "--output", str(path)])
    assert written.exit_code == 0, written.output
    monkeypatch.setenv("MAPPING_FILE", str(path))

    again = pipeline.migrate(options)

    assert again.ledger.unchanged == 4_993
    assert "entities" not in again.asdict()
    remake(table)
    assert pipeline.migrate(options).ledger.written == 4_993
    moved = {key: item for key, item in items().items() if key.startswith("ENT#")}
    assert moved == {k: item for k, item in without.items() if k.startswith("ENT#")}
    assert items().keys() == without.keys()
    assert (
        items()["MIGRATION#enterprises ORIGIN"]
        == (without["MIGRATION#enterprises ORIGIN"])
    )


def test_a_reference_that_is_no_uuid_is_quarantined(
    database_url: str,
    table: EnterpriseTable,
    items: ReadItems,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its row is quarantined, since a derived id would not show the text."""
    assert table.name
    with closing(psycopg2.connect(database_url)) as connection, connection:
        connection.cursor().execute(
            "CREATE TABLE owners (id uuid PRIMARY KEY);"
            "CREATE TABLE pets (id int PRIMARY KEY, owner text, keeper text);"
            "INSERT INTO owners VALUES ('3500a20a-fa32-5543-842f-da54bef06c63');"
            "INSERT INTO pets VALUES"
            " (1, '3500A20A-FA32-5543-842F-DA54BEF06C63', NULL),"
            " (2, 'nobody', NULL),"
            " (3, '{3500a20afa325543842fda54bef06c63}', 'nobody')"
        )
    path = tmp_path / "pets.toml"
    path.write_text(
        '[owner]\ntable = "owners"\nid = "id"\npartition_key = "OWNER#{id}"\n'
        'sort_key = "METADATA"\n'
        '[pet]\ntable = "pets"\nid = "id"\npartition_key = "OWNER#{owner}"\n'
        'sort_key = "PET#{id}"\n[pet.attributes]\n'
        'owner = { column = "owner", refers_to = "owner" }\n'
        'keeper = { column = "keeper", refers_to = "owner" }\n'
    )
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("MAPPING_FILE", str(path))

    report = pipeline.migrate(MigrateOptions(allow_quarantined=2))

    found = report.reconciliation.found if report.reconciliation else ()
    assert report.status == "proven", [d.fields for d in found]
    assert report.quarantine == {"keeper_not_a_uuid": 1, "owner_not_a_uuid": 1}
    (pet,) = (i for i in items().values() if i.get("entity_type") == {"S": "pet"})
    (owner,) = (i for i in items().values() if i.get("entity_type") == {"S": "owner"})
    assert pet["owner"] == owner["id"]
    assert pet["PK"] == owner["PK"]
    assert "keeper" not in pet
