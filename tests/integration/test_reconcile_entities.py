"""Reconciliation of two entities in one table, after manual damage."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import psycopg2
import pytest

from flows.extract import extract_enterprises, find_existing
from flows.mapping.model import Attribute, Entity, enterprise_entity
from flows.mapping.model import Mapping as EntityMapping
from flows.models import LastWrite, PartitionSpec, SourceTable, digest
from flows.reconciliation import spill
from flows.reconciliation.compare import Compares
from flows.reconciliation.expected_items import ExpectedItems
from flows.reconciliation.judge import Judge
from flows.reconciliation.reconcile import reconcile_entities
from flows.reconciliation.report import ReconciliationReport
from flows.reconciliation.source_rows import Selection
from flows.settings import Settings
from flows.stores.dynamodb.table import EnterpriseTable
from flows.stores.dynamodb.wire import to_wire
from flows.stores.postgres.entities import describe_entities
from flows.stores.postgres.session import open_source
from flows.transform import transform_enterprises
from tests.support.target_table import FOREIGN, put

pytestmark = pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)

# Entities are compared with judges and selections by entity.
Judges = Mapping[str, Judge]
SCHEMA = """
CREATE TABLE public.enterprises (
    id bigint PRIMARY KEY, name text, created_date timestamptz, updated_date timestamptz
);
CREATE TABLE public.products (
    id int PRIMARY KEY, enterprise_id bigint, code text, price numeric, sold boolean,
    settings jsonb, tags text[], photo bytea, gone boolean NOT NULL DEFAULT false
);
INSERT INTO public.enterprises
SELECT n, 'Enterprise ' || n, '2024-02-29', '2024-02-29' FROM generate_series(1, 3) n;
INSERT INTO public.products
SELECT n, 1 + n % 3, 'c' || n, n + 0.50, n % 2 = 0, '{"a": {"b": [1.0, null]}}',
       '{x,y}', '\\x00ff' FROM generate_series(1, 6) n;
INSERT INTO public.products (id, gone) VALUES (7, true);
"""
PRODUCT = Entity(
    table="public.products",
    id="id",
    partition_key="ENT#{enterprise_id}",
    sort_key="PROD#{id}",
    where="NOT gone",
    attributes={
        "enterprise_id": Attribute(column="enterprise_id", refers_to="enterprise"),
        # The built-in attribute of the other entity is a text.
        "name": Attribute(column="price"),
        "code": Attribute(column="code"),
        "sold": Attribute(column="sold"),
        "settings": Attribute(column="settings"),
        "tags": Attribute(column="tags", type="string_set"),
        "photo": Attribute(column="photo"),
        "GSI1PK": Attribute(template="CODE#{code}"),
    },
)
ENTERPRISE = enterprise_entity(
    table="public.enterprises",
    id_column="id",
    name="name",
    created="created_date",
    updated="updated_date",
)


@dataclass(frozen=True)
class World:
    """Two tables, a target, and the program's operations on them."""

    settings: Settings
    table: EnterpriseTable
    entities: dict[str, Entity]

    def execute(self, statement: str) -> None:
        """Run a statement on the source."""
        url = self.settings.database_url
        assert url is not None
        connected = psycopg2.connect(url.get_secret_value())
        with closing(connected) as connection, connection:
            connection.cursor().execute(statement)

    def describe(self, connection: Any) -> tuple[SourceTable, ...]:
        """Describe the tables of the mapping."""
        mapping = EntityMapping(entities=self.entities)
        return describe_entities(connection, self.settings, mapping)

    def items(self, entity: str) -> list[dict[str, Any]]:
        """Return the items that a run makes of an entity now, in the ids' order."""
        with open_source(self.settings) as connection:
            source = next(s for s in self.describe(connection) if s.entity == entity)
            frame = extract_enterprises(connection, PartitionSpec("run", 1, source))
        made = transform_enterprises(frame, source).drop(columns="source_id")
        records: list[Any] = made.to_dict("records")
        return records

    def reconcile(
        self, judges: Judges | None = None, **selections: Selection
    ) -> ReconciliationReport:
        """Compare both sides; the judges and selections are by entity."""
        with open_source(self.settings) as connection:
            wanted = []
            for source in self.describe(connection):
                judge = (judges or {}).get(source.entity, Judge())
                judge = replace(
                    judge,
                    find_rows=lambda ids, source=source: find_existing(
                        connection, source, ids
                    ),
                )
                selection = selections.get(source.entity, Selection())
                expected = ExpectedItems(source, self.settings.id_namespace)
                wanted.append(Compares(expected, judge, selection))
            return reconcile_entities(connection, self.table, wanted)

    def drop(self, item: dict[str, Any]) -> None:
        """Delete an item outside the program."""
        key: Any = to_wire({"PK": item["PK"], "SK": item["SK"]})
        self.table.client.delete_item(TableName=self.table.name, Key=key)


@pytest.fixture
def world(database_url: str, table: EnterpriseTable) -> World:
    """Fill both tables and the target with equal enterprises and products."""
    settings = Settings.isolated(
        database_url=database_url,
        dynamodb_endpoint=table.endpoint,
        dynamodb_enterprise_table=table.name,
    )
    world = World(settings, table, {"enterprise": ENTERPRISE, "product": PRODUCT})
    world.execute(SCHEMA)
    put(table, *world.items("enterprise"), *world.items("product"))
    return world


def history(*items: dict[str, Any]) -> Callable[[set[str]], dict[str, LastWrite]]:
    """Return a history of one write of each item; its rows are numbered from 1."""
    writes = {
        item["id"]: LastWrite(
            frozenset({digest(item.values())}), there=True, source_id=str(number)
        )
        for number, item in enumerate(items, 1)
    }
    return lambda ids: {key: writes[key] for key in ids if key in writes}


def counts(report: ReconciliationReport) -> dict[str, int]:
    """Return the classes that occur, with their counts."""
    return {name: count for name, count in report.counts.items() if count}


def test_two_equal_entities_are_clean(world: World) -> None:
    """The counts must be sums; other items are neither counted nor touched."""
    put(world.table, *FOREIGN)
    report = world.reconcile()
    values = report.asdict()

    assert report.status == "clean", report.verdict
    assert "9 of 9 rows proven equal" in report.verdict
    assert (report.source_rows, report.target_items) == (9, 9)
    assert sum(report.other_items.values()) == len(FOREIGN) - 1
    assert list(values["entities"]) == ["enterprise", "product"]
    assert values["entities"]["product"]["source_rows"] == 6
    assert values["entities"]["product"]["matched"] == 6
    assert values["entities"]["product"]["columns_not_migrated"] == ["gone"]
    assert values["entities"]["enterprise"]["table"] == "public.enterprises"
    assert report.part("product").counts["matched"] == 6


def test_entities_that_exceed_memory_are_compared(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each entity must have separate files, and every row its counterpart."""
    monkeypatch.setattr(spill, "KEPT_ROWS", 1)
    put(world.table, world.items("product")[0] | {"code": "other"})
    report = world.reconcile()

    assert counts(report) == {"matched": 8, "mismatched": 1}
    assert report.part("enterprise").target_items == 3


def test_one_entity_is_compared_alone(world: World) -> None:
    """Items of an entity that is not compared are of another kind."""
    alone = replace(world, entities={"enterprise": ENTERPRISE})
    report = alone.reconcile()

    assert report.status == "clean"
    assert "entities" not in report.asdict()
    assert sum(report.other_items.values()) == 6


DAMAGE = {
    "another number": {"name": {"N": "1.51"}},
    "a text instead of a number": {"name": "1.5"},
    "a number that is gone": {"name": None},
    "another flag": {"sold": True},
    "a number instead of a flag": {"sold": 0},
    "another nested number": {
        "settings": {"M": {"a": {"M": {"b": {"L": [{"N": "1.1"}, {"NULL": True}]}}}}}
    },
    "a nested text": {
        "settings": {"M": {"a": {"M": {"b": {"L": [{"S": "1"}, {"NULL": True}]}}}}}
    },
    "a list that is shorter": {"settings": {"M": {"a": {"M": {"b": {"L": []}}}}}},
    "a set with more": {"tags": {"SS": ["x", "y", "z"]}},
    "a list instead of a set": {"tags": {"L": [{"S": "x"}, {"S": "y"}]}},
    "other bytes": {"photo": {"B": b"\x00"}},
    "bytes as text": {"photo": "AP8="},
    "another reference": {"enterprise_id": "x"},
    "another key of an index": {"GSI1PK": "CODE#c2"},
    "no key of an index": {"GSI1PK": None},
    "another id": {"id": "x"},
}


def test_each_damage_of_one_attribute_is_found(world: World) -> None:
    """A value, a type, or one nested value must suffice, and must be shown alone."""
    item = world.items("product")[0]
    for kind, changed in DAMAGE.items():
        put(world.table, item | changed)
        report = world.reconcile()
        assert counts(report) == {"matched": 8, "mismatched": 1}, kind
        (difference,) = report.found
        assert (difference.entity, difference.source_id) == ("product", "1")
        assert difference.key == (item["PK"], item["SK"])
        assert difference.fields.keys() == changed.keys(), kind
        (listed,) = report.asdict()["differences"]
        assert listed["entity"] == "product"
        assert report.differences["entity"].tolist() == ["product"]


def test_equal_values_in_other_spellings_match(world: World) -> None:
    """1.50 and 1.5 are one number, and the order of a set or map is nothing."""
    item = to_wire(world.items("product")[0])
    item |= {"name": {"N": "1.500"}, "tags": {"SS": ["y", "x"]}, "note": {"S": "more"}}
    item["settings"]["M"]["a"]["M"]["b"]["L"][0] = {"N": "1.0"}
    world.table.client.put_item(TableName=world.table.name, Item=item)

    assert world.reconcile().status == "clean"


def test_a_row_that_moved_leaves_an_extra_item(world: World) -> None:
    """The item at the old key must be extra, and name the row that moved."""
    before = world.items("product")
    world.execute("UPDATE products SET enterprise_id = 3 WHERE id = 1")
    put(world.table, *world.items("product"))
    judge = Judge(history=history(*before))
    report = world.reconcile({"product": judge})

    assert counts(report) == {"matched": 9, "extra": 1}
    (difference,) = report.found
    assert (difference.origin, difference.source_id) == ("moved", "1")
    assert difference.key == (before[0]["PK"], before[0]["SK"])
    assert difference.id == before[0]["id"]
    assert {"PK", "SK"} <= difference.fields.keys()

    world.execute("DELETE FROM products WHERE id = 1")
    found = world.reconcile({"product": judge}).found
    assert {d.origin for d in found} == {"deleted_in_source"}
    assert len(found) == 2
    # Without a history nothing shows where an item came from.
    assert {d.origin for d in world.reconcile().found} == {""}


def test_the_item_of_a_row_in_quarantine_is_left(world: World) -> None:
    """A row that has no key any more explains the item at its former key."""
    before = world.items("product")
    world.execute("UPDATE products SET enterprise_id = NULL WHERE id = 1")
    judge = Judge(history=history(*before), quarantined=frozenset({"1"}))
    report = world.reconcile({"product": judge})
    unexplained = world.reconcile({"product": Judge(history=history(*before))})

    assert counts(report) == {"matched": 8, "explained": 1}
    assert (report.explained_with_item, report.status) == (1, "clean")
    assert counts(unexplained) == {"matched": 8, "missing": 1, "extra": 1}


def test_an_edit_without_times_is_judged_by_its_last_write(world: World) -> None:
    """What loading leaves to the application is newer; other changes are errors."""
    items = world.items("product")
    put(world.table, items[0] | {"code": "edited"})
    judge = Judge(history=history(*items))
    unknown = Judge(history=history())
    invalid = replace(judge, breaks_suite=lambda frame: [True] * len(frame))

    assert counts(world.reconcile({"product": judge}))["newer_in_target"] == 1
    assert counts(world.reconcile({"product": invalid}))["malformed"] == 1
    assert counts(world.reconcile({"product": unknown}))["mismatched"] == 1
    assert counts(world.reconcile())["mismatched"] == 1

    world.drop(items[1])
    owned = replace(judge, after_cutover=True)
    assert counts(world.reconcile({"product": judge}))["missing"] == 1
    assert counts(world.reconcile({"product": owned}))["deleted_in_target"] == 1


def test_two_rows_with_one_key_are_never_proven(world: World) -> None:
    """One item cannot stand for two rows, even if it equals one of them."""
    keyed = PRODUCT.model_copy(update={"sort_key": "PROD#{code}"})
    shared = replace(world, entities=world.entities | {"product": keyed})
    for item in world.items("product"):
        world.drop(item)
    put(shared.table, *shared.items("product"))
    assert shared.reconcile().status == "clean"
    world.execute("UPDATE products SET code = 'c1', enterprise_id = 2 WHERE id = 4")
    report = shared.reconcile()

    assert counts(report) == {"matched": 7, "mismatched": 2, "extra": 1}
    assert {d.source_id for d in report.found} == {"1", "4", None}


def test_some_rows_are_compared_by_entity(world: World) -> None:
    """A selection of one entity must leave the other one whole."""
    items = world.items("product")
    world.drop(items[0])
    put(world.table, items[1] | {"code": "other"})
    report = world.reconcile(product=Selection(ids=["1", "3"]))

    assert report.mode == "partial"
    assert (report.source_rows, report.part("enterprise").mode) == (5, "full")
    assert counts(report) == {"matched": 4, "missing": 1}


def test_an_entity_without_rows_needs_no_proof(world: World) -> None:
    """It is clean beside another one; without any rows nothing is proven."""
    for item in world.items("product"):
        world.drop(item)
    world.execute("DELETE FROM products")
    assert world.reconcile().status == "clean"

    for item in world.items("enterprise"):
        world.drop(item)
    world.execute("DELETE FROM enterprises")
    assert world.reconcile().status == "unproven"
