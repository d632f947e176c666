"""Crash, resume, lease and cutover: the traces of a run, and the limits of another."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any
from uuid import uuid5

import psycopg2
import pytest

from flows import pipeline
from flows.errors import (
    CutoverDeclared,
    Incomplete,
    LeaseHeld,
    SchemaChanged,
    SettingsError,
    SourceLost,
)
from flows.models import Ledger, MigrateOptions, PartitionLedger, PartitionSpec
from flows.run import context, partition
from flows.run import start as run_module
from flows.run.context import RunContext
from flows.run.start import open_run
from flows.settings import ID_NAMESPACE
from flows.stores.dynamodb.cutover_marker import declare_cutover, revoke_cutover
from flows.stores.dynamodb.lease import CUTOVER, LEASE, Lease
from flows.stores.dynamodb.schema import create_table
from flows.stores.dynamodb.table import OWN_PARTITION, EnterpriseTable
from tests.support.fault_proxy import FaultProxy
from tests.support.faults import change
from tests.support.runners import Each, running
from tests.support.target_table import open_at, put

pytestmark = pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)

ReadItems = Callable[[], dict[str, dict[str, Any]]]
TWO_EACH = MigrateOptions(partition_rows=2)


def execute(url: str, statement: str) -> None:
    """Run one statement on the source and commit it."""
    with closing(psycopg2.connect(url)) as connection, connection:
        connection.cursor().execute(statement)


def losing_the_source(after: int) -> Each:
    """Return a runner whose connection is lost after some partitions."""

    def each(
        function: Callable[[PartitionSpec], PartitionLedger],
        specs: Sequence[PartitionSpec],
    ) -> Iterable[PartitionLedger]:
        for spec in specs[:after]:
            yield function(spec)
        raise SourceLost("the connection was lost")

    return each


@pytest.mark.usefixtures("source", "table")
@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_stopped_run_is_incomplete_and_resumes_to_proven(after: int) -> None:
    """Finished partitions are kept, and the resume does the rest."""
    stopped = pipeline.migrate(TWO_EACH, runner=running(losing_the_source(after)))
    resumed = pipeline.migrate(TWO_EACH.model_copy(update={"resume": "last"}))

    assert stopped.status == "incomplete"
    assert stopped.ledger.read == 2 * after
    assert resumed.run_id == stopped.run_id
    assert resumed.resumed
    assert resumed.status == "proven", resumed.findings
    assert resumed.ledger == Ledger(read=5, written=5)


END_SESSIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'enterprises%'
"""


def losing_the_snapshot(url: str, then: Callable[[], None]) -> Each:
    """Return a runner that ends the snapshot's session after its first run."""
    lost: list[str] = []

    def each(
        function: Callable[[PartitionSpec], PartitionLedger],
        specs: Sequence[PartitionSpec],
    ) -> Iterable[PartitionLedger]:
        yield from map(function, specs)
        if not lost:
            lost.append(url)
            execute(url, END_SESSIONS)
            then()

    return each


@pytest.mark.usefixtures("table")
def test_a_snapshot_lost_when_all_is_loaded_is_gone_on_from(source: str) -> None:
    """The proof needs it too: it uses a new snapshot, and nothing is loaded again.

    A run with one partition has no other way to lose its snapshot.
    """
    report = pipeline.migrate(runner=running(losing_the_snapshot(source, lambda: None)))

    assert report.status == "proven", report.findings
    assert report.resumed
    assert report.ledger == Ledger(read=5, written=5)


@pytest.mark.usefixtures("table")
def test_a_run_that_cannot_go_on_is_incomplete(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has written: without a new snapshot it is not refused, and can be resumed."""

    def go_away() -> None:
        monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/away")

    stopped = pipeline.migrate(runner=running(losing_the_snapshot(source, go_away)))
    monkeypatch.setenv("DATABASE_URL", source)
    resumed = pipeline.migrate(MigrateOptions(resume="last"))

    assert stopped.status == "incomplete"
    assert stopped.ledger == Ledger(read=5, written=5)
    assert resumed.run_id == stopped.run_id
    assert resumed.status == "proven", resumed.findings


@pytest.mark.usefixtures("table")
def test_a_resume_counts_every_row_of_its_own_snapshot(
    source: str, items: ReadItems
) -> None:
    """Rows changed, added and deleted since the stop must match the new snapshot.

    The deleted row's item is extra, so the run is proven only with propagated deletes.
    """
    pipeline.migrate(TWO_EACH, runner=running(losing_the_source(1)))
    execute(
        source,
        "UPDATE enterprises SET name = 'Changed', updated_date = '2026-01-01Z'"
        " WHERE id = -7;"
        "INSERT INTO enterprises VALUES (-9, 'Added', '2024-01-01Z', NULL);"
        "DELETE FROM enterprises WHERE id = 0",
    )
    again = TWO_EACH.model_copy(update={"resume": "last"})

    first = pipeline.migrate(again)
    second = pipeline.migrate(again.model_copy(update={"propagate_deletes": 1}))

    assert first.status == "unproven"
    assert first.reconciliation is not None
    assert first.reconciliation.counts["extra"] == 1
    assert first.ledger == Ledger(read=5, written=5)
    assert second.status == "proven", second.findings
    names = {item["name"]["S"] for item in items().values() if "name" in item}
    assert {"Changed", "Added"} < names
    assert "株式会社 🚀 " not in names


@pytest.mark.usefixtures("table")
def test_a_resume_of_another_migration_is_refused(source: str) -> None:
    """Another table or mapping would mix two migrations in one run."""
    pipeline.migrate(TWO_EACH, runner=running(losing_the_source(1)))
    execute(source, "ALTER TABLE enterprises RENAME name TO enterprise_name")

    with pytest.raises(SchemaChanged, match="name was text and is gone"):
        pipeline.migrate(MigrateOptions(resume="last"))
    with pytest.raises(SettingsError, match="began with another source"):
        pipeline.migrate(MigrateOptions(resume="last", accept_schema=True))
    with pytest.raises(SettingsError, match="there is no such run"):
        pipeline.migrate(MigrateOptions(resume="nightly", accept_schema=True))


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize(
    ("setting", "other"),
    [
        ("ITEM_PROVENANCE=true", "provenance"),
        ("SOURCE_TIMEZONE=Asia/Kolkata", "source"),
        ("DYNAMODB_ENTERPRISE_TABLE=Another", "target"),
    ],
)
def test_a_resume_with_other_settings_is_refused(
    table: EnterpriseTable,
    items: ReadItems,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    other: str,
) -> None:
    """Settings that determine an item or its place must not change after the start."""
    pipeline.migrate(TWO_EACH, runner=running(losing_the_source(1)))
    create_table(replace(table, name="Another"))
    before = items()
    monkeypatch.setenv(*setting.split("="))

    with pytest.raises(SettingsError, match=f"began with another {other}"):
        pipeline.migrate(MigrateOptions(resume="last"))

    assert items() == before


def in_another_account(answer: Any) -> Any:
    """Return a table's description with the ARN of another account."""
    arn = "arn:aws:dynamodb:eu-west-1:999999999999:table/enterprises"
    return {"Table": answer["Table"] | {"TableArn": arn}}


@pytest.mark.usefixtures("source")
def test_a_table_of_the_same_name_in_another_account_is_another(
    table: EnterpriseTable, items: ReadItems, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With other credentials no run uses the records of the first table."""
    with FaultProxy(table.endpoint) as proxy:
        monkeypatch.setenv("DYNAMODB_ENDPOINT", proxy.url)
        assert pipeline.migrate(MigrateOptions(run_id="here")).status == "proven"
        pipeline.migrate(TWO_EACH, runner=running(losing_the_source(1)))
        before = items()
        proxy.add(change(in_another_account), operation="DescribeTable")

        with pytest.raises(SettingsError, match="began with another account"):
            pipeline.migrate(MigrateOptions(resume="last"))
        with pytest.raises(SettingsError, match="no run of this migration"):
            pipeline.migrate(MigrateOptions(since="last"))
        with pytest.raises(SettingsError, match="no full run of this migration"):
            pipeline.migrate(MigrateOptions(after_cutover=True))

    assert items() == before


TWINS = """
CREATE TABLE enterprises (id text PRIMARY KEY, name text, created_date timestamptz,
                          updated_date timestamptz);
INSERT INTO enterprises VALUES
('3500a20a-fa32-5543-842f-da54bef06c63', 'One', '2024-01-01Z', '2024-01-01Z'),
('00000000-0000-4000-8000-000000000002', 'Two', '2024-01-01Z', '2024-01-01Z')
"""
TWIN = "INSERT INTO enterprises VALUES ('{3500A20A-FA32-5543-842F-DA54BEF06C63}', %s"


@pytest.mark.parametrize("name", ["'One'", "'Another'"])
@pytest.mark.parametrize("loaded", [0, 2])
@pytest.mark.usefixtures("table")
def test_two_spellings_of_one_id_are_both_put_aside(
    database_url: str,
    items: ReadItems,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    loaded: int,
) -> None:
    """Of two rows for one item neither is moved, and neither overwrites the other.

    The same holds if the second one appears while the run is stopped.
    """
    monkeypatch.setenv("DATABASE_URL", database_url)
    execute(database_url, TWINS)
    one_each = MigrateOptions(partition_rows=1, allow_quarantined=2)
    if loaded:
        pipeline.migrate(one_each, runner=running(losing_the_source(loaded)))
        one_each = one_each.model_copy(update={"resume": "last"})
    before = items()
    execute(database_url, TWIN % name + ", '2024-01-01Z', '2024-01-01Z')")

    report = pipeline.migrate(one_each)

    assert report.status == "proven", report.findings
    assert report.ledger == Ledger(read=3, written=1, quarantined=2)
    assert report.quarantine == {"id_duplicate": 2}
    found = {i["name"]["S"] for i in items().values() if "name" in i}
    assert found == ({"One", "Two"} if loaded else {"Two"})
    assert before.items() <= items().items()


@pytest.mark.usefixtures("source")
def test_a_held_lease_names_its_holder(table: EnterpriseTable) -> None:
    """While one run is active another ends at once, and names the first."""
    lease = Lease(table, "nightly@host:1", 30)
    lease.acquire()

    with pytest.raises(LeaseHeld, match="Run nightly@host:1 holds the lease") as held:
        pipeline.migrate()
    lease.release()

    assert held.value.exit_code == 5
    assert pipeline.migrate().status == "proven"


@pytest.mark.usefixtures("source")
def test_the_lease_is_given_back(table: EnterpriseTable, items: ReadItems) -> None:
    """After a run the table has only its items and the origin."""
    pipeline.migrate()

    assert table.get_own("LEASE") is None
    assert len(items()) == 6


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"resume": "last"},
        {"since": "2000-01-01T00:00:00Z"},
        {"after_cutover": True},
    ],
    ids=["a dead holder", "resume", "since", "after the cutover"],
)
def test_a_run_after_others_sends_no_batch(
    source: str,
    table: EnterpriseTable,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
) -> None:
    """An empty table is not new if another run may have a pending request.

    A batch has no condition: it would overwrite any write in between.
    """
    if "after_cutover" in options:
        # It needs a proven run, here one that sent nothing.
        execute(source, "CREATE TABLE kept AS TABLE enterprises; TRUNCATE enterprises")
        assert pipeline.migrate(MigrateOptions(allow_empty=True)).status == "proven"
        execute(source, "INSERT INTO enterprises TABLE kept; DROP TABLE kept")
    pipeline.migrate(TWO_EACH, runner=running(losing_the_source(0)))
    if not options:
        owner = {"owner": "dead@host:1", "expires": int(time.time()) - 5}
        put(table, {"PK": OWN_PARTITION, "SK": LEASE, "number": 1, **owner})
    with FaultProxy(table.endpoint) as proxy:
        real = context.open_table

        def behind(settings: Any, deadline: float | None = None) -> EnterpriseTable:
            # Keep the endpoint, because it identifies the earlier run.
            client = open_at(proxy.url, table.name).client
            return replace(real(settings, deadline), client=client)

        monkeypatch.setattr(context, "open_table", behind)
        report = pipeline.migrate(TWO_EACH.model_copy(update=options))
        operations = {call.operation for call in proxy.calls}

    assert report.status == "proven", report.findings
    assert report.ledger.written == report.ledger.read > 0
    assert "PutItem" in operations
    assert "BatchWriteItem" not in operations


def test_the_cutover_fences_every_run(
    source: str, table: EnterpriseTable, items: ReadItems
) -> None:
    """After the cutover no deleted item is revived, and no edit is overwritten."""
    pipeline.migrate()
    found = {i["name"]["S"]: i for i in items().values() if "name" in i}
    declare_cutover(table, Lease(table, "cutover", 30))
    for name in ("NULL", "Acme GmbH"):
        key = {attribute: found[name][attribute] for attribute in ("PK", "SK")}
        table.client.delete_item(TableName=table.name, Key=key)
    new = {"S": "Edited without a new stamp"}
    edited = found["Ünïcode & Söhne"] | {"enterprise_name": new, "name": new}
    table.client.put_item(TableName=table.name, Item=edited)
    created = {
        **edited,
        "PK": {"S": "ENT#11111111-1111-4111-8111-111111111111"},
        "id": {"S": "11111111-1111-4111-8111-111111111111"},
    }
    table.client.put_item(TableName=table.name, Item=created)
    execute(
        source,
        "UPDATE enterprises SET name = name || '!', updated_date = '2026-10-01Z'",
    )
    execute(source, "INSERT INTO enterprises VALUES (8, 'Late', '2026-10-01Z', NULL)")
    before = items()

    with pytest.raises(CutoverDeclared, match="The cutover was declared at 20"):
        pipeline.migrate()
    assert items() == before
    report = pipeline.migrate(MigrateOptions(after_cutover=True))

    after = items()
    assert report.status == "proven", report.findings
    assert report.ledger == Ledger(read=6, written=3, kept_newer=3)
    assert report.reconciliation is not None
    counts = report.reconciliation.counts
    assert counts["deleted_in_target"] == 2
    assert counts["newer_in_target"] == 1
    assert counts["created_in_target"] == 1
    keys = [f"{i['PK']['S']} METADATA" for i in (edited, created)]
    assert [after[key] for key in keys] == [edited, created]
    names = {item["name"]["S"] for item in after.values() if "name" in item}
    assert "Late" in names
    assert not any(name.startswith(("NULL", "Acme")) for name in names)


def test_an_item_that_no_run_has_made_is_the_applications(
    source: str, table: EnterpriseTable, items: ReadItems
) -> None:
    """After the cutover a row must not overwrite an item that no manifest has."""
    pipeline.migrate()
    declare_cutover(table, Lease(table, "cutover", 30))
    execute(source, "INSERT INTO enterprises VALUES (8, 'Late', '2026-10-01Z', NULL)")
    identity = str(uuid5(ID_NAMESPACE, "8"))
    found = next(i for i in items().values() if i.get("name") == {"S": "Acme GmbH"})
    theirs = found | {"PK": {"S": f"ENT#{identity}"}, "id": {"S": identity}}
    table.client.put_item(TableName=table.name, Item=theirs)

    report = pipeline.migrate(MigrateOptions(after_cutover=True))

    assert report.status == "proven", report.findings
    assert report.ledger == Ledger(read=6, unchanged=5, kept_newer=1)
    assert items()[f"ENT#{identity} METADATA"] == theirs


@pytest.mark.usefixtures("source")
def test_a_revoked_cutover_lets_runs_write_again(table: EnterpriseTable) -> None:
    """The marker can be revoked, and the result shows whether it existed."""
    pipeline.migrate()
    declare_cutover(table, Lease(table, "cutover", 30))

    assert revoke_cutover(table)
    assert not revoke_cutover(table)
    assert table.get_own(CUTOVER) is None
    assert pipeline.migrate().status == "proven"


@pytest.mark.usefixtures("source", "table")
def test_after_the_cutover_the_manifests_are_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the state of earlier runs an edit looks like an old value."""
    pipeline.migrate()
    table = pipeline.reconcile()
    assert table.status == "clean"
    monkeypatch.setenv("STATE_URL", "sqlite:///other.db")

    with pytest.raises(SettingsError, match="no full run of this migration"):
        pipeline.migrate(MigrateOptions(after_cutover=True))


@pytest.mark.parametrize("former", ["since", "unproven", "replay"])
def test_after_the_cutover_a_part_of_the_manifests_is_not_enough(
    source: str,
    table: EnterpriseTable,
    items: ReadItems,
    monkeypatch: pytest.MonkeyPatch,
    former: str,
) -> None:
    """A run whose state lacks the full run must not restore deleted items."""
    pipeline.migrate()
    monkeypatch.setenv("STATE_URL", "sqlite:///other.db")
    if former == "since":
        report = pipeline.migrate(MigrateOptions(since="2024-01-15T00:00:00Z"))
        assert report.status == "proven"
    else:
        execute(source, "INSERT INTO enterprises VALUES (8, ' ', '2024-01-01Z', NULL)")
        assert pipeline.migrate().status == "unproven"
    if former == "replay":
        execute(source, "UPDATE enterprises SET name = 'Corrected' WHERE id = 8")
        assert pipeline.migrate(MigrateOptions(replay="last")).status == "proven"
    declare_cutover(table, Lease(table, "cutover", 30))
    found = next(i for i in items().values() if i.get("name") == {"S": "NULL"})
    key = {attribute: found[attribute] for attribute in ("PK", "SK")}
    table.client.delete_item(TableName=table.name, Key=key)
    before = items()

    with pytest.raises(SettingsError, match="no full run of this migration"):
        pipeline.migrate(MigrateOptions(after_cutover=True))
    with pytest.raises(SettingsError, match="no full run of this migration"):
        pipeline.migrate(MigrateOptions(after_cutover=True, resume="last"))
    assert items() == before


@pytest.mark.usefixtures("table")
def test_an_incremental_run_moves_what_is_stamped_since(
    source: str, items: ReadItems
) -> None:
    """Only rows stamped since the watermark are read, and only they are proven."""
    with pytest.raises(SettingsError, match="no run of this migration"):
        pipeline.migrate(MigrateOptions(since="last"))
    pipeline.migrate()
    execute(source, "UPDATE enterprises SET name = 'Now', updated_date = now()"
                    " WHERE id = 42")  # fmt: skip

    report = pipeline.migrate(MigrateOptions(since="last"))
    none = pipeline.migrate(MigrateOptions(since="2500-01-01T00:00:00+01:00"))

    # The stamp of the year 9999 is later than any watermark.
    assert report.ledger == Ledger(read=2, written=1, unchanged=1)
    assert report.status == "proven", report.findings
    assert "of the rows stamped since" in report.verdict
    assert none.ledger == Ledger(read=1, unchanged=1)
    assert "Now" in {i["name"]["S"] for i in items().values() if "name" in i}
    for wrong in ("yesterday", "2026-01-01", "2026-01-01T00:00:00"):
        with pytest.raises(SettingsError, match="is not a time with a zone"):
            pipeline.migrate(MigrateOptions(since=wrong))


@pytest.mark.usefixtures("table")
def test_a_run_that_left_a_gap_moves_no_watermark(
    source: str, items: ReadItems
) -> None:
    """Rows stamped between the last proof and a given time are still read."""
    later = MigrateOptions(since="2500-01-01T00:00:00Z")
    pipeline.migrate(later)
    with pytest.raises(SettingsError, match="no run of this migration"):
        pipeline.migrate(MigrateOptions(since="last"))
    pipeline.migrate()
    execute(source, "UPDATE enterprises SET name = 'Now', updated_date = now()"
                    " WHERE id = 42")  # fmt: skip
    gap = pipeline.migrate(later)

    first, second = (pipeline.migrate(MigrateOptions(since="last")) for _ in range(2))

    assert gap.status == first.status == second.status == "proven"
    assert first.ledger == Ledger(read=2, written=1, unchanged=1)
    # The first one read from the watermark on, so the second does not.
    assert second.ledger == Ledger(read=1, unchanged=1)
    assert "Now" in {i["name"]["S"] for i in items().values() if "name" in i}


@pytest.mark.usefixtures("table")
def test_deletes_are_propagated_only_as_asked(source: str, items: ReadItems) -> None:
    """Up to the allowed number of items is deleted, and none that was changed."""
    pipeline.migrate()
    execute(source, "DELETE FROM enterprises WHERE id IN (0, 7)")

    too_few = pipeline.migrate(MigrateOptions(propagate_deletes=1))
    enough = pipeline.migrate(MigrateOptions(propagate_deletes=2))

    assert too_few.status == "unproven"
    assert too_few.reconciliation is not None
    assert too_few.reconciliation.counts["extra"] == 2
    assert enough.status == "proven", enough.findings
    assert len(items()) == 3 + 1


@pytest.mark.usefixtures("source", "table")
def test_a_worker_without_the_lease_writes_nothing(items: ReadItems) -> None:
    """A partition of a run that has lost its lease must end before its first write."""
    with open_run(MigrateOptions(), RunContext()) as run:
        (spec,) = run.partitions
    before = items()

    with pytest.raises(Incomplete, match="has expired"):
        partition.migrate_partition(replace(spec, snapshot=None), RunContext())

    assert items() == before


@pytest.mark.usefixtures("source", "table")
def test_a_partition_handed_out_before_the_stop_is_not_begun(items: ReadItems) -> None:
    """A stopped run must not read, validate and record partitions in its queue."""
    with open_run(MigrateOptions(), context := RunContext()) as run:
        (spec,) = run.partitions
        context.stop()
        with pytest.raises(Incomplete, match="stopped"):
            partition.migrate_partition(spec, context)

        assert run.stores.state.begin_partition(spec) == 1
    assert [key for key in items() if key.startswith("ENT#")] == []


@pytest.mark.usefixtures("table")
def test_a_late_commit_is_read_by_the_next_incremental_run(
    source: str, items: ReadItems, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that is stamped before a snapshot and committed after it is not lost.

    Its transaction is open when the snapshot is taken, and has ended when the run
    records its watermark.
    """
    with closing(psycopg2.connect(source)) as other:
        other.cursor().execute(
            "INSERT INTO enterprises VALUES (77, 'Late', now(), now())"
        )
        real = run_module.export_snapshot

        def then_commit(connection: Any) -> tuple[str, str]:
            snapshot = real(connection)
            other.commit()
            return snapshot

        with monkeypatch.context() as patch:
            patch.setattr(run_module, "export_snapshot", then_commit)
            assert pipeline.migrate().ledger.read == 5

    report = pipeline.migrate(MigrateOptions(since="last"))

    assert report.status == "proven"
    assert "Late" in {i["name"]["S"] for i in items().values() if "name" in i}
