"""The quarantine: its content, and the replay of repaired rows."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from typer.testing import CliRunner

from flows import pipeline
from flows.cli.app import app
from flows.errors import SnapshotLost
from flows.models import Ledger, MigrateOptions, PartitionSpec
from flows.settings import load_settings
from flows.state.runs import State
from flows.stores.dynamodb.table import EnterpriseTable
from tests.support.fault_proxy import Fault, FaultProxy, Request, error_answer
from tests.support.runners import running

pytestmark = pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)

ReadItems = Callable[[], dict[str, dict[str, Any]]]
BAD = """
INSERT INTO enterprises VALUES
    (100, NULL, '2024-01-01Z', NULL), (101, ' ', 'infinity', NULL),
    (102, repeat('x', 300000), '2024-01-01Z', NULL), (103, 'Good', NULL, NULL)
"""

CORRECT = """
UPDATE enterprises SET name = 'Corrected', created_date = now()
WHERE id BETWEEN 100 AND 103
"""


def execute(url: str, statement: str) -> None:
    """Run one statement on the source and commit it."""
    with closing(psycopg2.connect(url)) as connection, connection:
        connection.cursor().execute(statement)


def command(*arguments: str, code: int) -> Any:
    """Run a command in this process; return its JSON."""
    result = CliRunner().invoke(app, [*arguments, "--json"])

    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def names(items: ReadItems) -> set[str]:
    """Return the names of all enterprises in the table."""
    return {i["name"]["S"] for i in items().values() if "name" in i}


def test_mended_rows_arrive_by_a_replay(source: str, items: ReadItems) -> None:
    """Two of four rows are repaired: they arrive, and all counts agree."""
    execute(source, BAD)
    assert pipeline.migrate(MigrateOptions(run_id="first")).ledger.quarantined == 4
    execute(source, "UPDATE enterprises SET name = 'Corrected' WHERE id IN (100, 102)")
    # Not part of the replay: changes of other rows wait for a separate run.
    execute(source, "INSERT INTO enterprises VALUES (200, 'New', now(), NULL)")

    replay = command("quarantine", "replay", "last", code=3)

    assert replay["ledger"] == {
        "read": 4,
        "written": 2,
        "unchanged": 0,
        "kept_newer": 0,
        "quarantined": 2,
        "failed": 0,
    }
    assert replay["reconciliation"]["matched"] == 2
    assert replay["reconciliation"]["explained"] == 2
    assert "Corrected" in names(items)
    assert "New" not in names(items)
    whole = pipeline.migrate(MigrateOptions(allow_quarantined=2))
    assert whole.status == "proven", whole.findings
    assert whole.ledger == Ledger(read=10, written=1, unchanged=7, quarantined=2)


def test_the_last_of_the_quarantine_is_proven(source: str, items: ReadItems) -> None:
    """Once all rows are repaired a replay is proven, and nothing is left to replay."""
    execute(source, BAD)
    pipeline.migrate(MigrateOptions(run_id="first"))
    execute(source, CORRECT)

    replay = command("quarantine", "replay", "first", code=0)

    assert replay["status"] == "proven"
    assert replay["ledger"]["written"] == 4
    assert pipeline.reconcile().status == "clean"
    refused = command("quarantine", "replay", "last", code=2)
    assert "this migration has no quarantined rows" in refused["error"]["message"]
    again = command("quarantine", "replay", "first", code=0)
    assert again["ledger"]["unchanged"] == 4
    assert len(items()) == 9 + len({"ORIGIN"})


@pytest.mark.usefixtures("table")
def test_a_row_that_has_come_back_is_explained_no_more(source: str) -> None:
    """A full run without the row discards the explanation of an earlier run."""
    bad = "INSERT INTO enterprises VALUES (100, ' ', '2024-01-01Z', NULL)"
    execute(source, bad)
    pipeline.migrate(MigrateOptions(allow_quarantined=1))
    before = pipeline.reconcile()
    execute(source, "DELETE FROM enterprises WHERE id = 100")
    pipeline.migrate()
    execute(source, bad.replace("' '", "'Corrected'"))

    report = pipeline.reconcile()

    assert (before.status, before.counts["explained"]) == ("clean", 1)
    assert (report.status, report.counts["explained"]) == ("different", 0)
    assert report.counts["missing"] == 1


@pytest.mark.usefixtures("table")
def test_a_replay_goes_in_partitions_and_leaves_out_what_is_gone(source: str) -> None:
    """Rows that were deleted meanwhile are a warning, not a failure."""
    execute(source, BAD)
    pipeline.migrate()
    execute(source, "DELETE FROM enterprises WHERE id = 100")
    execute(source, CORRECT)

    report = pipeline.migrate(MigrateOptions(replay="last", partition_rows=2))

    assert report.status == "proven", report.findings
    assert report.ledger == Ledger(read=3, written=3)
    assert "1 of the 4 rows to replay are no longer" in " ".join(report.warnings)


@pytest.mark.usefixtures("table")
def test_a_replay_obeys_the_fences(source: str) -> None:
    """A declared cutover refuses it; with --after-cutover it adds missing items."""
    execute(source, BAD)
    pipeline.migrate(MigrateOptions(allow_quarantined=4))
    execute(source, "UPDATE enterprises SET name = 'Corrected' WHERE id = 100")
    command("cutover", "declare", "--yes", code=0)

    refused = command("quarantine", "replay", code=2)
    report = command("quarantine", "replay", "--after-cutover", code=3)

    assert refused["error"]["code"] == "CutoverDeclared"
    assert report["ledger"]["written"] == 1
    assert report["ledger"]["quarantined"] == 3


@pytest.mark.usefixtures("table")
def test_a_replay_leaves_its_manifest_and_no_watermark(source: str) -> None:
    """The sent items are recorded; for ranges and resumes a replay is no run."""
    execute(source, BAD)
    first = pipeline.migrate(MigrateOptions(allow_quarantined=4))
    before = State.open(load_settings())
    execute(source, "UPDATE enterprises SET name = 'Corrected' WHERE id = 100")
    replay = pipeline.migrate(MigrateOptions(replay="last", allow_quarantined=3))

    (sent,) = [table for table, _ in before.manifests.of_run(replay.run_id)]
    assert sent["source_id"].to_pylist() == ["100"]
    refused = command("migrate", "--resume", replay.run_id, code=2)
    assert "cannot be resumed" in refused["error"]["message"]
    refused = command("migrate", "--resume", "last", code=2)
    assert f"Run {first.run_id} is proven" in refused["error"]["message"]


@pytest.mark.usefixtures("table")
def test_the_quarantine_is_listed_and_shown(source: str) -> None:
    """Runs with reasons and rows with raw values are shown, for people and programs."""
    execute(source, BAD)
    assert command("quarantine", "list", code=0)["runs"] == []
    pipeline.migrate(MigrateOptions(run_id="one"))

    (listed,) = command("quarantine", "list", code=0)["runs"]
    shown = command("quarantine", "show", "last", code=0)

    assert listed["run_id"] == "one"
    assert listed["reasons"] == {
        "created_date_not_finite": 1,
        "item_too_large": 1,
        "name_blank": 1,
        "name_missing": 1,
        "timestamps_missing": 1,
    }
    rows = {row["source_id"]: row for row in shown["rows"]}
    assert rows["101"]["created_date"] == "infinity"
    assert rows["101"]["enterprise_name"] == " "
    only = command("quarantine", "show", "one", "--id", "103", code=0)["rows"]
    assert [row["reasons"] for row in only] == ["timestamps_missing"]
    text = CliRunner().invoke(app, ["quarantine", "show", "--id", "101"]).stdout
    assert {"name_blank", "created_date_not_finite"} <= set(text.split())
    assert "Traceback" not in text


def test_what_the_store_refuses_is_counted_in_the_report(
    source: str, table: EnterpriseTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report's quarantine includes a row that only the store refused."""
    execute(source, "INSERT INTO enterprises VALUES (1, repeat('x', 300000), now())")
    monkeypatch.setattr("validation.contract.MAX_ITEM_BYTES", 10**9)

    report = pipeline.migrate(MigrateOptions(allow_quarantined=1))

    assert table.name
    assert report.status == "proven", report.findings
    assert dict(report.tables())["Quarantine"] == {"refused_by_store": 1}


@pytest.mark.usefixtures("source")
def test_the_stores_reason_stands_beside_its_refusal(
    proxy: FaultProxy,
) -> None:
    """It must have the store's message, or only its code if it quotes a row's value."""

    def refuse(text: str) -> Fault:
        return lambda _: error_answer("ValidationException", 400, text)

    def of(name: str) -> Callable[[Request], bool]:
        return lambda request: json.dumps(name)[1:-1].encode() in request.body

    why = "Type mismatch for Index Key\n updatedAt"
    for name, text in (("Acme GmbH", why), ("NULL", "cannot convert NULL to a number")):
        for operation in ("BatchWriteItem", "PutItem"):
            proxy.add(refuse(text), operation=operation, when=of(name))
    said = command("migrate", "--run-id", "one", code=3)
    shown = command("quarantine", "show", "one", code=0)["rows"]
    wide = {"COLUMNS": "160"}
    plain = CliRunner().invoke(app, ["quarantine", "show", "one"], env=wide).stdout

    known = "ValidationException: Type mismatch for Index Key updatedAt"
    reasons = {row["source_id"]: row["store_reason"] for row in shown}
    assert reasons == {"42": known, "7": "ValidationException"}
    assert said["refusals"] == {known: 1, "ValidationException": 1}
    assert known in plain
    page = Path(said["files"]["report"]).with_suffix(".md").read_text()
    assert known in page
    assert known in Path(said["files"]["quarantine"]).read_text()


@pytest.mark.usefixtures("table")
def test_a_replay_that_loses_its_snapshot_begins_again(source: str) -> None:
    """Rows that were not fully moved stay in quarantine, and are replayed again."""
    execute(source, BAD)
    pipeline.migrate()
    execute(source, CORRECT)
    lost: list[PartitionSpec] = []

    def each(function: Any, specs: Sequence[PartitionSpec]) -> Iterator[Any]:
        if not lost:
            # One of two partitions is done; the other is begun and sent.
            lost.extend(specs)
            yield function(specs[0])
            raise SnapshotLost("The snapshot is gone.")
        yield from map(function, specs)

    options = MigrateOptions(replay="last", partition_rows=2)
    report = pipeline.migrate(options, runner=running(each))

    assert len(lost) == 2
    assert report.status == "proven", report.findings
    assert report.ledger == Ledger(read=2, written=2)
    assert pipeline.reconcile().status == "clean"


@pytest.mark.usefixtures("table")
def test_either_side_is_validated_as_it_is(source: str) -> None:
    """Bad rows exit with 3, good items with 0, and a sample reports its size."""
    execute(source, BAD)
    pipeline.migrate()

    rows = command("validate", "--source", code=3)
    found = command("validate", "--target", code=0)
    one = command("validate", "--target", "--sample", "2", code=0)

    assert (rows["status"], rows["source"]["failed_rows"]) == ("invalid", 3)
    assert (found["status"], found["target"]["rows"]) == ("valid", 5)
    assert one["target"]["rows"] == 2


ALL_BAD = "UPDATE enterprises SET name = ' '"


@pytest.mark.usefixtures("table")
def test_a_quarantine_of_everything_proves_nothing(source: str) -> None:
    """For any number of allowed rows, at least one must be equal to its item."""
    execute(source, ALL_BAD)
    report = pipeline.migrate(MigrateOptions(allow_quarantined=100))
    reconciled = command("reconcile", code=3)

    assert report.status == "unproven"
    assert report.findings == ["Nothing is proven: all rows are in quarantine."]
    assert (reconciled["status"], reconciled["explained"]) == ("unproven", 5)
    assert reconciled["statement"].startswith("Unproven: 0 of 5 rows proven equal")


@pytest.mark.usefixtures("table")
def test_only_what_a_proven_run_left_in_quarantine_is_accepted(source: str) -> None:
    """A reconciliation may not accept rows that its run was not allowed to accept."""
    execute(source, BAD)
    assert pipeline.migrate(MigrateOptions()).status == "unproven"
    before = command("reconcile", code=3)
    assert pipeline.migrate(MigrateOptions(allow_quarantined=4)).status == "proven"
    after = command("reconcile", code=0)
    # A replay that is not proven does not revoke accepted rows.
    command("quarantine", "replay", "last", code=3)
    replayed = command("reconcile", code=0)
    execute(source, "UPDATE enterprises SET name = ' ', updated_date = now()")
    command("migrate", "--no-prefect", "--since", "2024-06-01T00:00:00Z", code=3)
    since = command("reconcile", code=3)

    assert (before["status"], before["explained"]) == ("unproven", 4)
    assert "4 rows are in quarantine, and no proven run" in before["statement"]
    assert (after["status"], after["explained"]) == ("clean", 4)
    assert replayed["status"] == "clean"
    assert since["status"] == "unproven"
    assert "5 rows are in quarantine, and no proven run" in since["statement"]


@pytest.mark.usefixtures("table")
def test_a_source_without_rows_is_clean_only_if_that_is_accepted(source: str) -> None:
    """No rows may mean the wrong schema; an incremental run may have no changes."""
    # The row with a stamp of the year 9999.
    execute(source, "DELETE FROM enterprises WHERE id = 7")
    pipeline.migrate()
    nothing = pipeline.migrate(MigrateOptions(since="2999-01-01T00:00:00Z"))
    execute(source, "DELETE FROM enterprises")
    full = command("reconcile", code=3)
    deleted = MigrateOptions(allow_empty=True, propagate_deletes=5)
    empty = pipeline.migrate(deleted)
    refused = command("reconcile", code=3)
    accepted = command("reconcile", "--allow-empty", code=0)

    assert (nothing.status, nothing.source_rows) == ("proven", 0)
    assert (full["status"], full["extra"]) == ("different", 4)
    assert empty.status == "proven", empty.findings
    assert refused["status"] == "unproven"
    assert "the source has no rows (--allow-empty)" in refused["statement"]
    assert accepted["status"] == "clean"
