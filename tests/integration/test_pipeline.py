"""The whole path on real stores: a run moves, proves and reports its rows."""

import json
import multiprocessing
import re
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any

import pandas as pd
import psycopg2
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from flows import pipeline
from flows.cli.app import app
from flows.errors import OriginError, Refused, SettingsError, SourceError, Unproven
from flows.models import CLASSES, Ledger, MigrateOptions, PartitionLedger, PartitionSpec
from flows.planning.plan import plan_migration
from flows.run import partition
from flows.run.context import RunContext
from flows.run.partition import migrate_partition
from flows.run.start import open_run
from flows.settings import ID_NAMESPACE
from flows.state.manifest import ManifestLog
from flows.stores.dynamodb.cutover_marker import declare_cutover
from flows.stores.dynamodb.lease import Lease
from flows.stores.dynamodb.table import EnterpriseTable
from flows.stores.dynamodb.wire import to_wire
from tests.support.expected_items import all_items
from tests.support.runners import running

ReadItems = Callable[[], dict[str, dict[str, Any]]]

FOREIGN = [
    {"PK": "ENT#3500a20a-fa32-5543-842f-da54bef06c63", "SK": "PROD#1", "name": "p"},
    {"PK": "EPS#1", "SK": "METADATA", "entity_type": "eps"},
    {"PK": "USER#1", "SK": "METADATA", "entity_type": "enterprise"},
    {"PK": "ENT#other", "SK": "METADATA", "entity_type": "product"},
]

TEXT_IDS = """
CREATE TABLE enterprises (id text PRIMARY KEY, name text, created_date timestamptz,
                          updated_date timestamptz);
INSERT INTO enterprises VALUES ('no uuid', 'a', now(), now());
INSERT INTO enterprises SELECT gen_random_uuid()::text, 'b', now(), now()
FROM generate_series(1, 99);
"""


def execute(url: str, statement: str, values: Sequence[object] = ()) -> None:
    """Run one statement on the source and commit it."""
    with closing(psycopg2.connect(url)) as connection, connection:
        connection.cursor().execute(statement, values)


def put(table: EnterpriseTable, item: dict[str, Any]) -> None:
    """Put an item as another program would."""
    table.client.put_item(TableName=table.name, Item=to_wire(item))


def key_of(source_id: int) -> str:
    """Return the key of an enterprise, by uuid5 of the standard library."""
    return f"ENT#{uuid.uuid5(ID_NAMESPACE, str(source_id))} METADATA"


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(
    "call",
    [
        pipeline.migrate,
        pipeline.validate,
        pipeline.reconcile,
        lambda: pipeline.reconcile(sample=1),
        plan_migration,
        lambda: plan_migration(sample=1),
    ],
)
def test_a_text_id_that_is_no_uuid_is_refused_by_name(
    database_url: str, monkeypatch: pytest.MonkeyPatch, call: Callable[[], object]
) -> None:
    """Every reader of the rows must refuse it equally, whichever rows it reads."""
    execute(database_url, TEXT_IDS)
    monkeypatch.setenv("DATABASE_URL", database_url)

    with pytest.raises(SourceError, match="'no uuid', which is not a UUID"):
        call()


@pytest.mark.usefixtures("source")
def test_every_row_arrives_as_exactly_the_item_of_the_contract(
    items: ReadItems,
) -> None:
    """A migrated row must be the ten attributes, all strings, with its values."""
    report = pipeline.migrate()

    identity = "3500a20a-fa32-5543-842f-da54bef06c63"
    expected = {
        "PK": f"ENT#{identity}",
        "SK": "METADATA",
        "id": identity,
        "enterprise_name": "Acme GmbH",
        "name": "Acme GmbH",
        "created_date": "2024-01-05T12:34:56.789Z",
        "createdAt": "2024-01-05T12:34:56.789Z",
        "updated_date": "2024-02-01T00:00:00.000Z",
        "updatedAt": "2024-02-01T00:00:00.000Z",
        "entity_type": "enterprise",
    }
    assert items()[key_of(42)] == to_wire(expected)
    assert report.status == "proven"
    assert report.ledger == Ledger(read=5, written=5)


@pytest.mark.usefixtures("source")
def test_hostile_values_arrive_as_they_are(items: ReadItems) -> None:
    """Names keep every character, and times are cut to milliseconds, not rounded."""
    pipeline.migrate()

    found = items()
    names = {i: found[key_of(i)]["name"]["S"] for i in (-7, 0, 7, 9007199254740993)}
    assert names == {
        -7: "Ünïcode & Söhne",
        0: "株式会社 🚀 ",
        7: "NULL",
        9007199254740993: '=1+1 "quoted"\n<b>',
    }
    assert found[key_of(-7)]["createdAt"]["S"] == "1999-12-31T23:59:59.999Z"
    assert found[key_of(-7)]["updatedAt"]["S"] == "1999-12-31T23:59:59.999Z"
    assert found[key_of(0)]["createdAt"]["S"] == "2020-02-29T01:02:03.500Z"
    assert found[key_of(7)]["createdAt"]["S"] == "9999-12-31T23:59:59.999Z"


@pytest.mark.usefixtures("source")
def test_a_second_run_writes_nothing(items: ReadItems) -> None:
    """Over an unchanged source a run must find all items and leave them alone."""
    pipeline.migrate()
    before = items()

    report = pipeline.migrate()

    assert report.ledger == Ledger(read=5, unchanged=5)
    assert report.status == "proven"
    assert report.capacity["write_units"] == 0
    assert items() == before


def test_a_changed_row_is_brought_over_and_a_newer_item_is_kept(
    source: str, table: EnterpriseTable, items: ReadItems
) -> None:
    """The later updatedAt wins, and other attributes survive an update."""
    pipeline.migrate()
    execute(
        source,
        "UPDATE enterprises SET name = 'New', updated_date = '2025-01-01Z'"
        " WHERE id = 42",
    )
    execute(source, "UPDATE enterprises SET name = 'Old news' WHERE id = 7")
    later = {"S": "2030-01-01T00:00:00.000Z"}
    newer = items()[key_of(0)] | {"updated_date": later, "updatedAt": later}
    extra = items()[key_of(42)] | {"tier": {"S": "gold"}}
    for item in (newer, extra):
        table.client.put_item(TableName=table.name, Item=item)

    report = pipeline.migrate()

    assert report.ledger == Ledger(read=5, written=2, unchanged=2, kept_newer=1)
    assert report.status == "proven"
    assert items()[key_of(42)]["name"] == {"S": "New"}
    assert items()[key_of(42)]["tier"] == {"S": "gold"}
    assert items()[key_of(0)] == newer
    assert report.reconciliation is not None
    assert report.reconciliation.counts["newer_in_target"] == 1


@pytest.mark.usefixtures("source")
def test_other_kinds_of_item_are_neither_counted_nor_touched(
    table: EnterpriseTable, items: ReadItems
) -> None:
    """Items that are not enterprises must stay unchanged and appear nowhere."""
    for item in FOREIGN:
        put(table, item)
    before = items()

    report = pipeline.migrate()

    found = items()
    assert report.status == "proven"
    assert report.ledger == Ledger(read=5, written=5)
    assert report.reconciliation is not None
    assert report.reconciliation.target_items == 5
    assert {key: found[key] for key in before} == before
    own = {"MIGRATION#enterprises ORIGIN"}
    assert len(found) == len(FOREIGN) + 5 + len(own)


def test_bad_rows_go_to_quarantine_and_are_never_lost(
    source: str, items: ReadItems
) -> None:
    """A row that fails is kept with its reasons; more than allowed fail the run."""
    execute(source, "INSERT INTO enterprises VALUES (100, NULL, '2024-01-01', NULL)")
    execute(source, "INSERT INTO enterprises VALUES (101, ' ', 'infinity', NULL)")
    execute(source, "INSERT INTO enterprises VALUES (-102, '', '12000-01-01Z', NULL)")

    report = pipeline.migrate(MigrateOptions(allow_quarantined=2))

    assert report.status == "unproven"
    assert report.ledger == Ledger(read=8, written=5, quarantined=3)
    text = Path(str(report.files["quarantine"])).read_text("utf-8").splitlines()
    assert text == [
        (
            "source_id,reasons,enterprise_name,created_date,updated_date,partition,"
            "store_reason"
        ),
        (
            '"-102","name_blank;created_date_out_of_range","",'
            '"12000-01-01 00:00:00+00",,"1",'
        ),
        '"100","name_missing",,"2024-01-01 00:00:00+00",,"1",',
        '"101","name_blank;created_date_not_finite"," ","infinity",,"1",',
    ]
    stored = pq.read_table(report.files["quarantine_parquet"]).to_pylist()
    assert [row["enterprise_name"] for row in stored] == ["", None, " "]
    assert {row["partition"] for row in stored} == {"1"}
    assert not {key_of(100), key_of(101), key_of(-102)} & set(items())
    with pytest.raises(Unproven, match="3 rows are in quarantine, 2 allowed"):
        report.raise_for_failures()


@pytest.mark.usefixtures("source", "table")
def test_partitions_cover_each_row_once(
    insert: Callable[[Iterable[Any]], None],
) -> None:
    """For every partition size each row is read once and counted in one column.

    Bounds in text order once made partitions overlap.
    """
    insert((i, f"Enterprise {i}", "2024-01-01Z", None) for i in range(100, 190, 3))

    for size in (35, 12, 5):
        report = pipeline.migrate(MigrateOptions(partition_rows=size))

        assert report.ledger.read == 35
        assert report.status == "proven", report.findings


def test_a_run_moves_the_rows_of_one_moment(source: str, items: ReadItems) -> None:
    """All changes during the partitions belong to the next run.

    The report names the moment: the snapshot's time and the LSN.
    """

    def each(
        function: Callable[[PartitionSpec], PartitionLedger],
        specs: Sequence[PartitionSpec],
    ) -> Iterable[PartitionLedger]:
        yield function(specs[0])
        execute(source, "UPDATE enterprises SET name = name || '!'")
        execute(source, "DELETE FROM enterprises WHERE id = 42")
        execute(source, "INSERT INTO enterprises VALUES (43, 'New!', now(), now())")
        yield from map(function, specs[1:])

    def names() -> set[str]:
        return {item["name"]["S"] for item in items().values() if "name" in item}

    first = pipeline.migrate(MigrateOptions(partition_rows=2), runner=running(each))
    before = names()
    second = pipeline.migrate(MigrateOptions(propagate_deletes=1))

    assert (first.status, first.ledger) == ("proven", Ledger(read=5, written=5))
    assert re.search(r"at 20\S+Z, LSN [0-9A-F]+/[0-9A-F]+\.$", first.verdict)
    assert len(before) == 5
    assert not any(name.endswith("!") for name in before)
    assert (second.status, second.ledger) == ("proven", Ledger(read=5, written=5))
    assert names() == {f"{name}!" for name in before} - {"Acme GmbH!"} | {"New!"}


@pytest.mark.usefixtures("source")
def test_a_dry_run_refuses_what_a_run_would_and_writes_nothing(
    table: EnterpriseTable,
) -> None:
    """It must leave no item, lease or run, and plan the remaining work."""

    def dry(*options: str) -> tuple[int, Any]:
        result = CliRunner().invoke(app, ["migrate", "--dry-run", "--json", *options])
        return result.exit_code, json.loads(result.stdout)

    code, planned = dry("--run-id", "first")
    left = all_items(table.client, table.name)
    report = pipeline.migrate(MigrateOptions(run_id="first"))
    taken = dry("--run-id", "first")
    declare_cutover(table, Lease(table, "cutover", 30))
    declared, after = dry(), dry("--after-cutover")

    assert (code, planned["source"]["rows"]) == (0, 5)
    assert planned["load"]["write_units"] > 0
    assert left == {}
    assert report.ledger == Ledger(read=5, written=5)
    assert (taken[0], taken[1]["status"]) == (2, "refused")
    assert "Run first already exists" in taken[1]["error"]["message"]
    assert (declared[0], declared[1]["error"]["code"]) == (2, "CutoverDeclared")
    assert after[0] == 0
    assert after[1]["load"]["write_units"] < planned["load"]["write_units"]


def migrate_by_environment(spec: PartitionSpec) -> PartitionLedger:
    """Migrate a partition in a process that shares nothing with the run's process."""
    return migrate_partition(spec, RunContext())


@pytest.mark.usefixtures("source", "table")
def test_every_runner_calls_the_same_function_on_plain_values() -> None:
    """Partitions must run in another process from pickled values alone."""
    context = multiprocessing.get_context("spawn")

    def each(_: object, specs: Sequence[PartitionSpec]) -> Iterable[PartitionLedger]:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return list(pool.map(migrate_by_environment, specs))

    report = pipeline.migrate(MigrateOptions(partition_rows=3), runner=running(each))

    assert report.status == "proven"
    assert report.ledger == Ledger(read=5, written=5)


@pytest.mark.usefixtures("source", "table")
def test_a_partition_is_prepared_while_another_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one process neither store waits for the other, and loads are sequential."""
    events: list[str] = []
    second = Event()
    save, load = ManifestLog.save, partition.load_items

    def save_manifest(
        log: ManifestLog, spec: PartitionSpec, items: pd.DataFrame
    ) -> None:
        save(log, spec, items)
        events.append("prepared")
        if events.count("prepared") > 1:
            second.set()

    def load_items(*arguments: Any, **options: Any) -> Any:
        events.append("loading")
        assert second.wait(30), "the second was not prepared meanwhile"
        # Long enough to detect another load that does not wait for its turn.
        time.sleep(0.2)
        report = load(*arguments, **options)
        events.append("loaded")
        return report

    monkeypatch.setattr(ManifestLog, "save", save_manifest)
    monkeypatch.setattr(partition, "load_items", load_items)
    report = pipeline.migrate(MigrateOptions(partition_rows=2, workers=1))

    loads = [event for event in events if event != "prepared"]
    assert report.status == "proven"
    assert loads == ["loading", "loaded"] * 3


@pytest.mark.usefixtures("source", "table")
def test_a_retried_partition_converges_without_batches() -> None:
    """Repeating the same partition must read and compare, but write nothing."""
    with open_run(MigrateOptions(), RunContext()) as run:
        (spec,) = run.partitions
        first = migrate_partition(spec, run.stores.context)
        second = migrate_partition(spec, run.stores.context)

    assert first.ledger == Ledger(read=5, written=5)
    assert second.ledger == Ledger(read=5, unchanged=5)


@pytest.mark.usefixtures("table")
def test_the_report_has_the_frozen_keys_and_its_files(source: str) -> None:
    """Other programs rely on the JSON of a run: no key may be removed or renamed."""
    execute(source, "ALTER TABLE enterprises ADD COLUMN fax text")

    report = pipeline.migrate(MigrateOptions(run_id="one"))

    values = json.loads(json.dumps(report.asdict()))
    assert {
        "run_id",
        "status",
        "resumed",
        "source",
        "target",
        "ledger",
        "reconciliation",
        "validation",
        "seconds",
        "capacity",
        "files",
    } <= set(values)
    assert values["source"]["columns_not_migrated"] == ["fax"]
    assert set(values["source"]) == {
        "table",
        "rows",
        "snapshot",
        "columns_migrated",
        "columns_not_migrated",
        "referring_tables",
    }
    assert set(values["target"]) == {"table", "region", "endpoint"}
    assert set(values["seconds"]) >= {"extract", "validate", "transform", "load"}
    assert tuple(values["reconciliation"]) == (*CLASSES, "explained_with_item")
    written = json.loads(Path(values["files"]["report_json"]).read_text("utf-8"))
    assert written == values
    mapping = pq.read_table(values["files"]["id_map"]).to_pydict()
    expected = {str(i): str(uuid.uuid5(ID_NAMESPACE, str(i))) for i in (42, 0, -7, 7)}
    found = dict(zip(mapping["source_id"], mapping["id"], strict=True))
    assert {key: found[key] for key in expected} == expected


@pytest.mark.usefixtures("source", "table")
def test_another_namespace_or_source_is_refused(
    monkeypatch: pytest.MonkeyPatch, items: ReadItems
) -> None:
    """A run with another id rule would double the table, so nothing may be written."""
    pipeline.migrate()
    before = items()
    monkeypatch.setenv("ID_NAMESPACE", str(uuid.uuid4()))

    with pytest.raises(OriginError, match="namespace"):
        pipeline.migrate()

    assert items() == before


@pytest.mark.usefixtures("table")
def test_an_empty_source_needs_to_be_allowed(
    database_url: str,
    insert: Callable[[Iterable[Any]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No rows may mean the wrong database: it is refused unless allowed."""
    insert([])
    monkeypatch.setenv("DATABASE_URL", database_url)

    with pytest.raises(SourceError, match=r"public\.enterprises has no rows"):
        pipeline.migrate()
    report = pipeline.migrate(MigrateOptions(allow_empty=True))

    assert report.status == "proven"
    assert report.ledger == Ledger()


@pytest.mark.usefixtures("source", "table")
def test_a_run_id_is_used_once() -> None:
    """Two runs of one name would mix their states: the second is refused."""
    pipeline.migrate(MigrateOptions(run_id="nightly"))

    with pytest.raises(SettingsError, match="Run nightly already exists"):
        pipeline.migrate(MigrateOptions(run_id="nightly"))


@pytest.mark.usefixtures("source")
def test_provenance_adds_two_attributes(
    items: ReadItems, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ITEM_PROVENANCE an item names its origin, and is proven with it."""
    monkeypatch.setenv("ITEM_PROVENANCE", "true")

    report = pipeline.migrate()

    item = items()[key_of(9007199254740993)]
    assert item["original_pg_id"] == {"N": "9007199254740993"}
    assert item["migrated_from_pg"] == {"BOOL": True}
    assert len(item) == 12
    assert report.status == "proven"
    assert pipeline.migrate().ledger == Ledger(read=5, unchanged=5)


@pytest.mark.usefixtures("table")
def test_uuid_ids_are_kept(
    database_url: str, items: ReadItems, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A UUID key is the id; provenance is refused, because it needs a number."""
    execute(
        database_url,
        "CREATE TABLE enterprises (enterprise_id uuid PRIMARY KEY, enterprise_name"
        " varchar(80), created_at timestamptz, updated_at timestamptz);"
        "INSERT INTO enterprises VALUES"
        " ('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 'Kept', now(), now())",
    )
    monkeypatch.setenv("DATABASE_URL", database_url)

    report = pipeline.migrate()

    assert report.status == "proven"
    assert "ENT#a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 METADATA" in items()
    monkeypatch.setenv("ITEM_PROVENANCE", "true")
    with pytest.raises(Refused, match="ITEM_PROVENANCE needs integer ids"):
        pipeline.migrate()


@pytest.mark.usefixtures("table")
def test_reconcile_finds_what_a_hand_has_done(
    source: str, table: EnterpriseTable, items: ReadItems
) -> None:
    """A deletion, a ghost and a changed value must each be found, by key and field."""
    execute(source, "INSERT INTO enterprises VALUES (100, '', now(), now())")
    pipeline.migrate(MigrateOptions(allow_quarantined=1))
    assert pipeline.reconcile().status == "clean"
    found = items()
    dropped, changed = found[key_of(42)], found[key_of(7)] | {"name": {"S": "?"}}
    ghost = found[key_of(0)] | {"PK": {"S": "ENT#ghost"}, "id": {"S": "ghost"}}
    key = {"PK": dropped["PK"], "SK": dropped["SK"]}
    table.client.delete_item(TableName=table.name, Key=key)
    for item in (changed, ghost):
        table.client.put_item(TableName=table.name, Item=item)

    report = pipeline.reconcile()

    assert report.status == "different"
    assert {(d.kind, d.source_id) for d in report.found} == {
        ("missing", "42"),
        ("mismatched", "7"),
        ("malformed", None),
    }
    (mismatch,) = (d for d in report.found if d.kind == "mismatched")
    assert mismatch.fields == {"name": {"source": "NULL", "target": "?"}}
    assert report.counts["explained"] == 1
    assert report.source_rows == 6


@pytest.mark.usefixtures("source")
def test_validate_writes_nothing(items: ReadItems) -> None:
    """Validation alone reports on rows and items, and leaves the table empty."""
    rows, found = pipeline.validate(MigrateOptions(partition_rows=2))

    assert (rows.rows, found.rows) == (5, 5)
    assert rows.success
    assert found.success
    assert items() == {}


def test_time_zones_of_machine_and_role_change_nothing(
    source: str,
    table: EnterpriseTable,
    items: ReadItems,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under TZ, PGTZ and a role's zone the table must be the same, byte for byte."""
    pipeline.migrate()
    expected = items()
    for item in expected.values():
        key = {"PK": item["PK"], "SK": item["SK"]}
        table.client.delete_item(TableName=table.name, Key=key)
    database = source.split("?", maxsplit=1)[0].rsplit("/", 1)[1]
    zone = "SET timezone = 'Asia/Kolkata'"
    execute(source, f"ALTER ROLE postgres IN DATABASE {database} {zone}")
    for name in ("TZ", "PGTZ"):
        monkeypatch.setenv(name, "Asia/Kolkata")
    time.tzset()

    try:
        report = pipeline.migrate()
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()

    assert report.status == "proven"
    assert items() == expected


@pytest.mark.usefixtures("source")
def test_another_programs_item_at_a_rows_key_is_not_put_over(
    table: EnterpriseTable, items: ReadItems
) -> None:
    """Even in a table without enterprises, the run must name the row of that key."""
    key = key_of(42).removesuffix(" METADATA")
    theirs = {"PK": key, "SK": "METADATA", "entity_type": "product", "price": 3}
    put(table, theirs)

    report = pipeline.migrate()

    assert items()[key_of(42)] == to_wire(theirs)
    assert report.status == "unproven"
    assert report.ledger == Ledger(read=5, written=4, failed=1)
    assert report.reconciliation is not None
    (found,) = report.reconciliation.found
    assert (found.kind, found.source_id) == ("mismatched", "42")
