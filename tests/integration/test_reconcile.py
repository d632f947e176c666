"""Reconciliation of a real PostgreSQL with real tables, after manual damage."""

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import psycopg2
import pytest

from flows.errors import Unproven
from flows.extract import extract_enterprises
from flows.load import load_items
from flows.models import CLASSES, ENTERPRISE_TABLE, Difference, Key, PartitionSpec
from flows.reconciliation.expected_items import ExpectedItems
from flows.reconciliation.judge import Judge, read_unmatched
from flows.reconciliation.reconcile import reconcile_enterprises
from flows.reconciliation.report import ReconciliationReport
from flows.reconciliation.source_rows import ALL_ROWS, Selection
from flows.run.proof import breaks_item_suite
from flows.settings import Settings, load_settings, using
from flows.stores.dynamodb.table import EnterpriseTable
from flows.stores.dynamodb.wire import to_wire
from flows.stores.postgres.schema import describe_source
from flows.stores.postgres.session import open_source
from flows.transform import transform_enterprises
from tests.support.fault_proxy import FaultProxy
from tests.support.faults import corrupt, error, passing, reset_before, truncate
from tests.support.target_table import (
    EARLIER,
    FOREIGN,
    LATER,
    STAMP,
    as_puts,
    open_at,
    put,
)

ReadItems = Callable[[], dict[str, dict[str, Any]]]
Row = tuple[Any, str | None, str | None, str | None]

on_dynamodb_local = pytest.mark.parametrize(
    "endpoint", ["dynamodb-local"], indirect=True
)
BREAKS_SUITE = partial(breaks_item_suite, ENTERPRISE_TABLE)
DAY = "2024-02-29 00:00:00+00"
SCHEMA = """
CREATE TABLE public.enterprises (
    id {id} PRIMARY KEY, enterprise_name text, created_date {time}, updated_date {time}
)
"""


@dataclass(frozen=True)
class World:
    """A source, a target, and the program's operations on them."""

    settings: Settings
    table: EnterpriseTable

    def execute(self, statement: str, rows: Sequence[tuple[Any, ...]] = ((),)) -> None:
        """Run a statement on the source, once for each row of values."""
        url = self.settings.database_url
        assert url is not None
        with closing(psycopg2.connect(url.get_secret_value())) as connection:
            connection.set_client_encoding("UTF8")
            with connection, connection.cursor() as cursor:
                cursor.executemany(statement, rows)

    def insert(
        self, *rows: Row, id_type: str = "bigint", time_type: str = "timestamptz"
    ) -> None:
        """Create the source table and fill it."""
        self.execute(SCHEMA.format(id=id_type, time=time_type))
        self.execute("INSERT INTO public.enterprises VALUES (%s, %s, %s, %s)", rows)

    def migrate(self) -> list[dict[str, Any]]:
        """Load every row as the program does; return the items in the ids' order."""
        with open_source(self.settings) as connection:
            source = describe_source(connection, self.settings)
            spec = PartitionSpec("run", 1, source, None, None)
            items = transform_enterprises(
                extract_enterprises(connection, spec),
                id_kind=source.id_kind,
                provenance=self.settings.item_provenance,
            )
        load_items(items, self.table, table_was_empty=True)
        records: list[Any] = items.drop(columns="source_id").to_dict("records")
        return records

    def reconcile(
        self,
        table: EnterpriseTable | None = None,
        selection: Selection = ALL_ROWS,
        **judged: Any,
    ) -> ReconciliationReport:
        """Compare source and target, by the settings in force."""
        with using(self.settings), open_source(load_settings()) as connection:
            source = describe_source(connection, load_settings())
            settings = load_settings()
            expected_items = ExpectedItems(
                source, settings.id_namespace, settings.item_provenance
            )
            return reconcile_enterprises(
                connection,
                table or self.table,
                expected_items,
                judge=Judge(**judged),
                selection=selection,
            )

    def change(self, item: dict[str, Any], **attributes: Any) -> None:
        """Change attributes of an item outside the program; None removes one."""
        changed = {k: v for k, v in (item | attributes).items() if v is not None}
        put(self.table, changed)

    def drop(self, item: dict[str, Any]) -> None:
        """Delete an item outside the program."""
        key: Any = to_wire({"PK": item["PK"], "SK": item["SK"]})
        self.table.client.delete_item(TableName=self.table.name, Key=key)


@pytest.fixture
def world(database_url: str, table: EnterpriseTable) -> World:
    """Return an empty source and an empty target."""
    settings = Settings.isolated(
        database_url=database_url,
        dynamodb_endpoint=table.endpoint,
        dynamodb_enterprise_table=table.name,
        source_timezone="Europe/Paris",
    )
    return World(settings, table)


@pytest.fixture
def loaded(world: World) -> list[dict[str, Any]]:
    """Fill source and target with ten equal enterprises; return their items."""
    world.insert(*((n, f"Enterprise {n}", DAY, DAY) for n in range(1, 11)))
    return world.migrate()


def counts(report: ReconciliationReport) -> dict[str, int]:
    """Return the classes that occur, with their counts."""
    return {name: count for name, count in report.counts.items() if count}


def ghost(number: int, **attributes: Any) -> dict[str, Any]:
    """Return an enterprise item without a row."""
    identity = f"00000000-0000-4000-8000-{number:012}"
    item = {
        "PK": f"ENT#{identity}",
        "SK": "METADATA",
        "id": identity,
        "enterprise_name": "Ghost",
        "name": "Ghost",
        "created_date": LATER,
        "createdAt": LATER,
        "updated_date": LATER,
        "updatedAt": LATER,
        "entity_type": "enterprise",
    }
    return {k: v for k, v in (item | attributes).items() if v is not None}


def test_equal_sides_are_clean(world: World, loaded: list[dict[str, Any]]) -> None:
    """Every row must be matched, whatever other items the table has."""
    put(world.table, *FOREIGN)
    report = world.reconcile()

    assert report.status == "clean"
    assert (report.source_rows, report.target_items) == (10, 10)
    assert counts(report) == {"matched": len(loaded)}
    assert report.differences.empty
    report.raise_for_failures()


@on_dynamodb_local
def test_an_empty_source_and_an_empty_table_agree(world: World) -> None:
    """Two empty sides have no counts and do not differ."""
    world.insert()
    report = world.reconcile()

    assert (report.source_rows, report.target_items) == (0, 0)
    assert (report.wrong, counts(report)) == ("", {})


def test_each_fault_is_put_into_its_class(
    world: World, loaded: list[dict[str, Any]]
) -> None:
    """Differences that equal counts would hide must be found, key by key."""
    put(world.table, *FOREIGN)
    one, two, three, four, five, six, seven, eight, *_ = loaded
    world.drop(one)
    put(world.table, ghost(1))
    world.change(two, enterprise_name=three["name"], name=three["name"])
    world.change(three, enterprise_name=two["name"], name=two["name"])
    world.change(four, createdAt=LATER)
    world.change(five, entity_type="product")
    put(world.table, ghost(2, enterprise_name="No more", name="Ghost"))
    world.change(six, updated_date=None, updatedDate=six["updated_date"])
    world.change(seven, note="an attribute of the application")
    times = ("updated_date", "updatedAt")
    later = dict.fromkeys(times, LATER)
    world.change(eight, name="newer", enterprise_name="newer", **later)
    report = world.reconcile(quarantined=frozenset({"9"}), breaks_suite=BREAKS_SUITE)

    assert report.source_rows == 10
    assert report.target_items == 10
    assert counts(report) == {
        "matched": 2,
        "missing": 1,
        "extra": 1,
        "mismatched": 5,
        "malformed": 1,
        "newer_in_target": 1,
        "explained": 1,
    }
    found = {(d.kind, d.source_id, d.id): d.fields for d in report.found}
    names = ("enterprise_name", "name")
    named = {"source": None, "target": "Ghost"}
    assert found == {
        ("missing", "1", one["id"]): {},
        ("mismatched", "2", two["id"]): {
            n: {"source": "Enterprise 2", "target": "Enterprise 3"} for n in names
        },
        ("mismatched", "3", three["id"]): {
            n: {"source": "Enterprise 3", "target": "Enterprise 2"} for n in names
        },
        ("mismatched", "4", four["id"]): {
            "createdAt": {"source": "2024-02-29T00:00:00.000Z", "target": LATER}
        },
        ("mismatched", "5", five["id"]): {
            "entity_type": {"source": "enterprise", "target": "product"}
        },
        ("mismatched", "6", six["id"]): {
            "updated_date": {"source": "2024-02-29T00:00:00.000Z", "target": None}
        },
        ("newer_in_target", "8", eight["id"]): {
            **{n: {"source": "Enterprise 8", "target": "newer"} for n in names},
            **{n: {"source": STAMP, "target": LATER} for n in times},
        },
        ("extra", None, ghost(1)["id"]): {"name": named},
        ("malformed", None, ghost(2)["id"]): {"name": named},
    }
    with pytest.raises(Unproven, match="1 missing, 1 extra, 5 mismatched, 1 malformed"):
        report.raise_for_failures()


@on_dynamodb_local
def test_the_report_has_its_json_form(
    world: World, loaded: list[dict[str, Any]]
) -> None:
    """The keys are a contract; each difference has its class and both values."""
    world.change(loaded[0], name="other")
    world.drop(loaded[1])
    values = json.loads(json.dumps(world.reconcile().asdict()))

    assert {
        "status",
        "statement",
        "exit_code",
        "name",
        "begun",
        "ended",
        "version",
        "host",
        "operator",
        "database",
        "server",
        "account",
        "source",
        "target",
        "columns_migrated",
        "excepted",
        "spot_checks",
        "mode",
        "snapshot",
        "new_classes",
        "columns_not_migrated",
        "referring_tables",
        "under_way",
        "seconds",
        "capacity",
        "source_rows",
        "target_items",
        *CLASSES,
        "explained_with_item",
        "other_items",
        "differences",
        "files",
    } == set(values)
    assert values["status"] == "different"
    assert sorted(values["differences"], key=lambda d: str(d["source_id"])) == [
        {
            "class": "mismatched",
            "source_id": "1",
            "id": loaded[0]["id"],
            "fields": {"name": {"source": "Enterprise 1", "target": "other"}},
        },
        {"class": "missing", "source_id": "2", "id": loaded[1]["id"], "fields": {}},
    ]


def test_the_differences_are_a_table() -> None:
    """A notebook must get one row per key and field, with the same columns."""
    fields = {"name": {"source": "a", "target": None}, "id": {"source": "1"}}
    found = (
        Difference("mismatched", "-1", "x", fields),  # type: ignore[arg-type]
        Difference("extra", None, "y"),
    )
    report = ReconciliationReport(1, 2, dict.fromkeys(CLASSES, 0), found)
    rows = report.differences.to_dict("records")

    assert list(report.differences.columns) == [
        "class",
        "source_id",
        "id",
        "field",
        "source",
        "target",
    ]
    assert [tuple(row.values()) for row in rows] == [
        ("mismatched", "-1", "x", "name", "a", None),
        ("mismatched", "-1", "x", "id", "1", None),
        ("extra", None, "y", "", None, None),
    ]
    assert "Reconciliation: unproven" in str(report)


SMALL_CHANGES: list[dict[str, Any]] = [
    {"created_date": None},
    {"name": {"NULL": True}},
    {"name": {"L": []}},
    {"createdAt": "2024-02-29T00:00:00.001Z"},
    {"createdAt": "2024-02-29T00:00:00.000z"},
    {"createdAt": "2024-02-29T00:00:00Z"},
    {"enterprise_name": "enterprise"},
    {"enterprise_name": "Enterprise "},
    {"id": "3500A20A-FA32-5543-842F-DA54BEF06C63"},
    {"updatedAt": EARLIER},
    {"updatedAt": None},
    {"entity_type": "Enterprise"},
    {"original_pg_id": "1"},
    {"migrated_from_pg": 1},
    {"migrated_from_pg": None},
]


@on_dynamodb_local
def test_the_smallest_change_is_a_mismatch(world: World) -> None:
    """One attribute, one millisecond, one type: each alone must be found and shown."""
    settings = world.settings.model_copy(update={"item_provenance": True})
    world = World(settings, world.table)
    ids = range(1, len(SMALL_CHANGES) + 1)
    world.insert(*((number, "Enterprise", DAY, DAY) for number in ids))
    items = world.migrate()
    assert counts(world.reconcile()) == {"matched": len(items)}
    for item, change in zip(items, SMALL_CHANGES, strict=True):
        world.change(item, **change)
    report = world.reconcile()

    assert counts(report) == {"mismatched": len(items)}
    found = {difference.source_id: difference.fields for difference in report.found}
    assert found == {
        str(number): {name: {"source": item[name], "target": value}}
        for number, item, change in zip(ids, items, SMALL_CHANGES, strict=True)
        for name, value in change.items()
    }


@on_dynamodb_local
def test_a_true_is_no_one(world: World) -> None:
    """True and 1 are equal in Python, but not in DynamoDB."""
    settings = world.settings.model_copy(update={"item_provenance": True})
    world = World(settings, world.table)
    world.insert((1, "Enterprise", DAY, DAY))
    (item,) = world.migrate()
    world.change(item, original_pg_id=True)
    (found,) = world.reconcile().found

    ((name, sides),) = found.fields.items()
    assert (found.kind, name) == ("mismatched", "original_pg_id")
    assert [type(value) for value in sides.values()] == [int, bool]


@on_dynamodb_local
def test_what_is_not_ours_makes_no_difference(
    world: World, loaded: list[dict[str, Any]]
) -> None:
    """Attributes that the application added must not be compared."""
    for number, item in enumerate(loaded):
        world.change(item, price=number, tags={"SS": ["a"]}, migrated_from_pg=True)

    assert counts(world.reconcile()) == {"matched": 10}


@on_dynamodb_local
def test_an_explained_row_is_never_different(
    world: World, loaded: list[dict[str, Any]]
) -> None:
    """A quarantined row is explained with its item, without it, and with a changed one.

    An existing item of such a row is not compared: the verdict reports it.
    """
    world.drop(loaded[0])
    world.change(loaded[1], name="earlier version")
    quarantined = frozenset({"1", "2", "3", "77"})

    report = world.reconcile(quarantined=quarantined)
    some = world.reconcile(
        quarantined=quarantined, selection=Selection(ids=["1", "2", "3", "4"])
    )
    sample = world.reconcile(quarantined=quarantined, selection=Selection(sample=1_000))

    assert counts(report) == {"matched": 7, "explained": 3}
    assert counts(some) == {"matched": 1, "explained": 3}
    assert counts(sample) == counts(report)
    assert (report.target_items, some.target_items, sample.target_items) == (9, 3, 9)
    for one in (report, some):
        assert one.status == "clean"
        assert one.asdict()["explained_with_item"] == 2
        assert "3 explained (2 of them with an item, left as it is)" in one.verdict
    # 1 - 0.05 ** (1 / 7): the bound refers to the rows that were compared.
    assert "0 of 7 differ; with 95 % confidence at most 34.8 % do" in sample.verdict
    assert "3 explained (2 of them with an item, left as it is)" in sample.verdict


HOSTILE: list[Row] = [
    (-9223372036854775808, "\u202eeman \U0010ffff\ufeff", DAY, DAY),
    (9223372036854775807, "株式会社 🚀 cafe\u0301 café", DAY, DAY),
    (-1, " blanks \t\r\n", "1969-12-31 23:59:59.999999+00", DAY),
    (0, "NULL", "0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00"),
    (1, "rounding", "2023-12-31 23:59:59.999999+00", "2024-01-01 00:00:00.0009+00"),
    (2, "offset", "2024-06-01 12:00:00.5+05:30", "0044-03-15 00:00:00.1+00"),
    (3, "no update", DAY, None),
    (4, "no creation", None, DAY),
    (5, "'; DROP TABLE enterprises; --", DAY, DAY),
]


def test_hostile_rows_match_their_items(world: World) -> None:
    """Two derivations with different code must agree on the worst valid rows."""
    world.insert(*HOSTILE)
    world.migrate()

    assert counts(world.reconcile()) == {"matched": len(HOSTILE)}


@pytest.mark.parametrize("time_type", ["timestamp", "date", "timestamptz(0)"])
@on_dynamodb_local
def test_times_of_every_type_match(world: World, time_type: str) -> None:
    """Both sides must interpret local times equally, in gaps and overlaps too."""
    times = ["2024-03-31 02:30:00", "2024-10-27 02:30:00.9999", "1900-01-01", DAY]
    world.insert(
        *((n, "local", time, time) for n, time in enumerate(times)),
        time_type=time_type,
    )
    world.migrate()

    assert counts(world.reconcile()) == {"matched": 4}


@pytest.mark.parametrize("id_type", ["uuid", "text"])
@on_dynamodb_local
def test_ids_that_are_uuids_match(world: World, id_type: str) -> None:
    """Both derivations must produce the same key from any spelling of a UUID."""
    spelt = [
        "6F9619FF-8B86-D011-B42D-00C04FC964FF",
        "{6f9619ff-8b86-d011-b42d-00c04fc964fe}",
        "6f9619ff8b86d011b42d00c04fc964fd",
    ]
    world.insert(*((text, "uuid", DAY, DAY) for text in spelt), id_type=id_type)
    world.migrate()

    assert counts(world.reconcile()) == {"matched": 3}


@on_dynamodb_local
def test_rows_that_cannot_be_items_are_different_until_explained(
    world: World,
) -> None:
    """Without its quarantine such a row must be reported, and never pass for equal."""
    world.insert(
        (1, "infinite", "infinity", "-infinity"),
        (2, "BC", "0044-03-15 00:00:00+00 BC", "0044-03-15 00:00:00+00 BC"),
        (3, "far", "10000-01-01 00:00:00+00", "10000-01-01 00:00:00+00"),
        (4, "never", None, None),
        (5, None, DAY, DAY),
    )
    stamps = [
        "9999-12-31T23:59:59.999Z",
        "0044-03-15T00:00:00.000Z",
        "10000-01-01T00:00:00.000Z",
        "2024-02-29T00:00:00+00:00",
    ]
    expected_items = ExpectedItems(self_described(world), world.settings.id_namespace)
    for number, stamp in enumerate(stamps, 1):
        name = ("infinite", "BC", "far", "never")[number - 1]
        item, _ = expected_items.item((str(number), name, stamp, stamp))
        put(world.table, item)
    nameless, _ = expected_items.item(("5", None, STAMP, STAMP))
    put(world.table, {k: v for k, v in nameless.items() if v is not None})
    report = world.reconcile()
    explained = world.reconcile(quarantined=frozenset("12345"))

    assert report.status == "different"
    assert counts(report) == {"mismatched": 5}
    assert counts(explained) == {"explained": 5}


def self_described(world: World) -> Any:
    """Return the source table as the program finds it."""
    with open_source(world.settings) as connection:
        return describe_source(connection, world.settings)


@on_dynamodb_local
def test_what_seems_different_is_read_once_more(
    world: World, loaded: list[dict[str, Any]], endpoint: str
) -> None:
    """An item that appears or disappears after the scan must not be reported."""
    world.drop(loaded[0])
    put(world.table, ghost(1), ghost(2))

    def repair() -> None:
        put(world.table, loaded[0], ghost(2, entity_type="product"))
        world.drop(ghost(1))

    with FaultProxy(endpoint) as proxy:
        behind = open_at(proxy.url, world.table.name)
        proxy.add(passing(repair), operation="BatchGetItem", times=1)
        report = world.reconcile(behind, breaks_suite=BREAKS_SUITE)
        behind.client.close()

    assert (report.status, counts(report)) == ("clean", {"matched": 10})


@on_dynamodb_local
def test_faults_on_the_way_change_no_verdict(
    world: World, loaded: list[dict[str, Any]], endpoint: str
) -> None:
    """A damaged or refused answer must be read again, without a missed difference."""
    world.drop(loaded[0])
    world.change(loaded[1], name="other")
    with FaultProxy(endpoint) as proxy:
        behind = open_at(proxy.url, world.table.name)
        proxy.add(error("ThrottlingException"), operation="Scan", times=1)
        proxy.add(corrupt(b"Enterprise"), operation="Scan", times=1)
        proxy.add(reset_before(), operation="BatchGetItem", times=1)
        proxy.add(truncate(0.6), operation="BatchGetItem", times=1)
        report = world.reconcile(behind)
        behind.client.close()

    assert counts(report) == {"matched": 8, "missing": 1, "mismatched": 1}


@on_dynamodb_local
def test_many_differences_are_all_counted_and_the_first_shown(world: World) -> None:
    """More keys than one read accepts must be looked up; the JSON must stay short."""
    world.insert(*((n, f"Enterprise {n}", DAY, DAY) for n in range(1_203)))
    ghosts = [ghost(number) for number in range(130)]
    for start in range(0, len(ghosts), 25):
        world.table.put_batch(as_puts(ghosts[start : start + 25]))
    report = world.reconcile()

    assert counts(report) == {"missing": 1_203, "extra": 130}
    assert len(report.asdict()["differences"]) == 1_000
    assert len(report.differences) == 1_333


@on_dynamodb_local
def test_rows_are_read_under_the_given_snapshot(
    world: World, loaded: list[dict[str, Any]]
) -> None:
    """Changes in the source after the snapshot must not be compared."""
    with open_source(world.settings) as connection:
        source = describe_source(connection, world.settings)
        world.execute("DELETE FROM public.enterprises WHERE id = 1")
        expected_items = ExpectedItems(source, world.settings.id_namespace)
        report = reconcile_enterprises(connection, world.table, expected_items)

    assert counts(report) == {"matched": len(loaded)}
    assert counts(world.reconcile()) == {"matched": 9, "extra": 1}


@on_dynamodb_local
def test_an_item_without_row_is_extra_or_malformed(world: World) -> None:
    """The item suite must decide the class, whatever the item's attributes hold."""
    world.insert()
    whole = [ghost(1), ghost(2, note="more")]
    broken = [
        ghost(3, name="twin"),
        ghost(4, createdAt="yesterday", created_date="yesterday"),
        ghost(5, id=None),
        ghost(6, id="=cmd()"),
        ghost(7, name={"NULL": True}, enterprise_name={"NULL": True}),
        ghost(8, updatedAt=5, updated_date=5),
    ]
    put(world.table, *whole, *broken)
    report = world.reconcile(breaks_suite=BREAKS_SUITE)
    unasked = world.reconcile()

    assert counts(report) == {"extra": 2, "malformed": 6}
    assert counts(unasked) == {"extra": 8}
    expected = {("extra", None, item["id"]) for item in whole} | {
        ("malformed", None, item["PK"].removeprefix("ENT#")) for item in broken
    }
    assert {(d.kind, d.source_id, d.id) for d in report.found} == expected


def test_the_suite_is_asked_about_all_ten_attributes() -> None:
    """The frame must have None, not NaN, for an attribute that an item lacks."""
    seen: list[pd.DataFrame] = []

    class OneGhost(EnterpriseTable):
        def read(self, keys: Sequence[Key]) -> dict[Key, Any]:
            return {key: {**ghost(1, name=None), "PK": key[0]} for key in keys}

    def suite(frame: pd.DataFrame) -> list[bool]:
        seen.append(frame)
        return [True] * len(frame)

    table = OneGhost(None, "T", "r", "e")  # type: ignore[arg-type]
    keys = [("ENT#1", "METADATA"), ("ENT#2", "METADATA")]
    found = list(read_unmatched(table, keys, Judge(breaks_suite=suite)))

    assert [d.kind for d in found] == ["malformed", "malformed"]
    assert seen[0]["name"].tolist() == [None, None]
    assert list(seen[0].columns)[:3] == ["PK", "SK", "id"]
