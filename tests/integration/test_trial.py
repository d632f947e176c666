"""Trials: a few rows are moved and compared, no run depends on it, and it is undone."""

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows import pipeline
from flows.cli.app import app
from flows.errors import SettingsError, SnapshotLost
from flows.models import Ledger, MigrateOptions
from flows.run.repair import RepairOptions
from flows.run.schema_drift import source_key
from flows.settings import load_settings
from flows.state.runs import State
from flows.stores.dynamodb.cutover_marker import declare_cutover
from flows.stores.dynamodb.lease import Lease
from flows.stores.dynamodb.table import EnterpriseTable
from flows.stores.dynamodb.wire import from_wire
from tests.support.damage import change, drop
from tests.support.expected_items import enterprises, expected_items, fill
from tests.support.fault_proxy import FaultProxy, Request, error_answer
from tests.support.faults import passing
from tests.support.runners import running
from tests.support.source_database import SourceDatabase
from tests.support.target_table import put
from tests.support.warm_command import Commands, Process

pytestmark = pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)

ROWS = 10
WRITTEN = {"read": 3, "written": 3, "unchanged": 0, "kept_newer": 0} | {
    "quarantined": 0,
    "failed": 0,
}
UNDO = "enterprises migrate --undo-trial"
ALL = "enterprises migrate"


@pytest.fixture
def filled(
    database_url: str,
    table: EnterpriseTable,  # noqa: ARG001 - must exist
    monkeypatch: pytest.MonkeyPatch,
) -> SourceDatabase:
    """Fill the source with ten rows, -93 to -30, and name it in the environment."""
    fill(database_url, ROWS)
    monkeypatch.setenv("DATABASE_URL", database_url)
    return SourceDatabase(database_url)


def command(*arguments: str, code: int) -> Any:
    """Run migrate in this process; return its JSON."""
    options = ["migrate", "--no-prefect", "--json", *arguments]
    result = CliRunner().invoke(app, options)

    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def found(table: EnterpriseTable) -> dict[str, Any]:
    """Return the enterprises in the table, by PK."""
    return enterprises(table.client, table.name)


def items_of(table: EnterpriseTable) -> list[dict[str, Any]]:
    """Return the enterprises in the table as plain values, by key."""
    return [from_wire(item) for _, item in sorted(found(table).items())]


def migration_of(state: State) -> str:
    """Return the fingerprint of the only migration in a state."""
    with state._database.transaction() as connection:
        query = "SELECT DISTINCT fingerprint FROM enterprise_migration_run"
        return str(connection.exec_driver_sql(query).scalar_one())


def test_a_trial_moves_its_rows_and_proves_nothing(
    filled: SourceDatabase, table: EnterpriseTable
) -> None:
    """It must end with 3, name its size and what was equal, and name what comes next.

    The same rows are chosen each time, from all over the range of ids.
    """
    trial = command("--limit", "3", code=3)
    moved = found(table)
    again = command("--limit", "3", code=3)

    assert trial["status"] == "unproven"
    assert trial["trial"] == {"rows": 3, "of": ROWS, "estimated": False}
    assert trial["ledger"] == WRITTEN
    assert trial["reconciliation"]["matched"] == 3
    (finding,) = trial["findings"]
    assert "trial of 3 of 10 rows" in finding
    assert "3 are equal" in finding
    assert UNDO in finding
    assert trial["next"] == ALL
    everything = expected_items(filled.url)
    assert moved == {key: everything[key] for key in moved}
    assert {item["name"] for item in items_of(table)} == {
        f"Enterprise {n} & Söhne 株式会社" for n in (1, 6, 10)
    }
    assert again["ledger"] == WRITTEN | {"written": 0, "unchanged": 3}
    assert found(table) == moved


def test_a_large_source_is_not_counted(
    filled: SourceDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above a limit the trial reports PostgreSQL's estimate, and says so."""
    monkeypatch.setattr("flows.run.trial.COUNTED_ROWS", 5)
    filled.run("ANALYZE enterprises", "DELETE FROM enterprises WHERE id = -30")
    trial = pipeline.migrate(MigrateOptions(limit=2))

    assert "trial of 2 of about 10 rows" in trial.verdict


def test_no_run_depends_on_a_trial(filled: SourceDatabase) -> None:
    """It must leave no watermark, proof, accepted row, known class or profile.

    A full run finds its items as those of an earlier run.
    """
    filled.run("UPDATE enterprises SET name = ' ' WHERE id = -93")
    trial = command("--limit", "3", "--allow-quarantined", "1", code=3)
    state = State.open(load_settings())
    migration, key = (
        migration_of(state),
        source_key(load_settings(), ("public", "enterprises")),
    )

    assert trial["ledger"]["quarantined"] == 1
    assert len(trial["findings"]) == 1
    assert state.source.explained(migration) == frozenset()
    assert not state.has_full_run(migration)
    assert state.source.last_columns(key) is None
    assert state.source.last_profile(key) is None
    assert state.resumable("last", {}) is None
    assert pipeline.reconciliation_history().empty
    for option, what in {"--since": "last", "--resume": trial["run_id"]}.items():
        assert command(option, what, code=2)["status"] == "refused"
    with pytest.raises(SettingsError, match="no quarantined rows"):
        pipeline.migrate(MigrateOptions(replay="last"))
    filled.run("UPDATE enterprises SET name = 'Corrected' WHERE id = -93")
    whole = pipeline.migrate(MigrateOptions(resume="last"))

    assert whole.status == "proven", whole.findings
    assert not whole.resumed
    assert whole.ledger == Ledger(read=ROWS, written=8, unchanged=2)
    assert len(pipeline.reconciliation_history()) == 1
    # Neither does a trial after a run change what that run has proven.
    filled.run("UPDATE enterprises SET name = ' ' WHERE id = -93")
    pipeline.migrate(MigrateOptions(limit=ROWS))
    history = pipeline.reconciliation_history()
    assert history["status"].tolist() == ["clean"]
    assert state.source.explained(migration) == frozenset()
    assert pipeline.migrate(MigrateOptions(since="last")).source_rows == 0


def test_an_undone_trial_leaves_nothing(
    filled: SourceDatabase, table: EnterpriseTable
) -> None:
    """All items go, again as often as asked, and a full run writes them all."""
    command("--limit", "3", code=3)
    planned = command("--undo-trial", "--dry-run", code=0)
    kept = len(found(table))
    undone = command("--undo-trial", code=0)
    left = found(table)
    again = command("--undo-trial", code=0)
    whole = pipeline.migrate()
    rightful = command("--undo-trial", code=0)

    counts = {"removed": 3, "changed": 0, "gone": 0, "rightful": 0}
    assert (planned["status"], planned["items"], planned["next"]) == (
        "planned",
        counts,
        UNDO,
    )
    assert kept == 3
    assert (undone["status"], undone["items"], undone["next"]) == (
        "undone",
        counts,
        ALL,
    )
    assert left == {}
    assert again["items"] == counts | {"removed": 0, "gone": 3}
    assert whole.status == "proven", whole.findings
    assert whole.ledger == Ledger(read=ROWS, written=ROWS)
    assert rightful["items"] == counts | {"removed": 0, "rightful": 3}
    assert rightful["statement"].startswith("Nothing to undo: ")
    assert "3 were sent by another run too and are kept" in rightful["statement"]
    assert rightful["next"] is None
    assert found(table) == expected_items(filled.url)


def test_an_undone_trial_is_no_deletion_by_the_application(
    filled: SourceDatabase, table: EnterpriseTable
) -> None:
    """A run after the cutover must write the rows whose items the removal deleted."""
    pipeline.migrate()
    filled.run("INSERT INTO enterprises VALUES (-29, 'New', now(), now())")
    trial = pipeline.migrate(MigrateOptions(limit=11))
    undone = pipeline.undo_trial()
    declare_cutover(table, Lease(table, "cutover", 30))
    report = pipeline.migrate(MigrateOptions(after_cutover=True))

    assert trial.ledger == Ledger(read=11, written=1, unchanged=10)
    assert (undone.items.removed, undone.items.rightful) == (1, 0)
    assert report.status == "proven", report.findings
    assert report.ledger == Ledger(read=11, written=1, unchanged=10)
    assert found(table) == expected_items(filled.url)


@pytest.mark.usefixtures("filled")
def test_what_others_wrote_stays(table: EnterpriseTable) -> None:
    """Only what a trial created, and nobody touched since, may be deleted.

    An item that was there before stays, even if the trial updated it.
    """
    pipeline.migrate(MigrateOptions(limit=1))
    (before,) = items_of(table)
    pipeline.undo_trial()
    older = before | {"name": "older", "updatedAt": "2001-01-01T00:00:00.000Z"}
    put(table, older | {"updated_date": older["updatedAt"]})
    trial = pipeline.migrate(MigrateOptions(limit=5))
    three = [item for item in items_of(table) if item["id"] != before["id"]]
    later = dict.fromkeys(("updatedAt", "updated_date"), "2999-01-01T00:00:00.000Z")
    change(table, three[0], name="edited", enterprise_name="edited", **later)
    change(table, three[1], tags="added by the application")
    drop(table, three[2])
    undone = pipeline.undo_trial()
    left = {item["id"]: item for item in items_of(table)}
    whole = pipeline.migrate()

    assert trial.ledger == Ledger(read=5, written=5)
    assert (undone.items.removed, undone.items.changed, undone.items.gone) == (1, 2, 1)
    assert undone.verdict == (
        "Undone: of the items that trials created, 1 were removed, 2 were changed since"
        " and are kept, 1 are gone already."
    )
    assert left.keys() == {before["id"], three[0]["id"], three[1]["id"]}
    assert left[before["id"]]["name"] == before["name"]
    assert whole.status == "proven", whole.findings
    assert whole.ledger == Ledger(read=ROWS, written=7, unchanged=2, kept_newer=1)
    assert {i["id"]: i for i in items_of(table)}[three[0]["id"]]["name"] == "edited"


def test_two_trials_are_undone_at_once(
    filled: SourceDatabase, table: EnterpriseTable
) -> None:
    """An item that a second trial updated was created by the first one."""
    pipeline.migrate(MigrateOptions(limit=2))
    filled.run("UPDATE enterprises SET name = 'Changed', updated_date = now()")
    second = pipeline.migrate(MigrateOptions(limit=4))
    undone = pipeline.undo_trial()

    assert second.ledger == Ledger(read=4, written=4)
    assert len(undone.trials) == 2
    assert (undone.items.removed, undone.items.rightful) == (4, 0)
    assert found(table) == {}


@pytest.mark.usefixtures("filled")
def test_a_run_of_another_name_of_the_source_counts(table: EnterpriseTable) -> None:
    """Items that a run under other settings has proven must not be deleted."""
    pipeline.migrate(MigrateOptions(limit=3))
    state = State.open(load_settings())
    with state._database.transaction() as connection:
        query = "SELECT run_id, identity FROM enterprise_migration_run"
        (trial,) = connection.exec_driver_sql(query).all()
        connection.exec_driver_sql(
            "INSERT INTO enterprise_migration_run (run_id, status, started_at,"
            " fingerprint, identity) VALUES ('other', 'proven', '2026-01-01', ?, ?)",
            ("another", trial.identity),
        )
        connection.exec_driver_sql(
            'INSERT INTO enterprise_migration_manifest (run_id, number, "rows", data,'
            " outcomes) SELECT 'other', number, \"rows\", data, outcomes"
            " FROM enterprise_migration_manifest WHERE number > 0"
        )
    undone = pipeline.undo_trial()

    assert (undone.items.removed, undone.items.rightful) == (0, 3)
    assert len(found(table)) == 3


def test_a_repaired_row_is_no_trial_any_more(
    filled: SourceDatabase, table: EnterpriseTable
) -> None:
    """A repair after a trial sends items too: these stay."""
    pipeline.migrate(MigrateOptions(limit=2))
    gone = items_of(table)[0]
    drop(table, gone)
    pipeline.reconcile(repair=RepairOptions(yes=True))
    undone = pipeline.undo_trial()

    # The repair sends all rows without an item, not the one that is equal.
    assert (undone.items.removed, undone.items.rightful) == (1, 1)
    assert len(expected_items(filled.url)) - len(found(table)) == 1


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    "option",
    ["--resume last", "--since last", "--propagate-deletes 1", "--after-cutover"],
)
def test_options_of_other_runs_are_refused(table: EnterpriseTable, option: str) -> None:
    """Neither a trial nor its removal has them; both name the option."""
    name, *value = option.split()
    for flags in (["--limit", "3"], ["--undo-trial"]):
        refused = command(*flags, name, *value, code=2)
        message = f"{flags[0]} cannot be given together with {name}."
        assert refused["error"]["message"] == message
    both = command("--limit", "3", "--undo-trial", code=2)
    with pytest.raises(SettingsError, match="--limit cannot be given together with"):
        pipeline.migrate(MigrateOptions(limit=1, replay="last"))

    assert "--undo-trial cannot be given together" in both["error"]["message"]
    assert found(table) == {}


@pytest.mark.usefixtures("filled")
def test_after_the_cutover_there_is_no_trial(table: EnterpriseTable) -> None:
    """The application owns the items: a trial and its removal are refused."""
    pipeline.migrate(MigrateOptions(limit=2))
    declare_cutover(table, Lease(table, "cutover", 30))
    before = found(table)
    refusals = [
        command(*flags, code=2)["error"]
        for flags in (
            ["--limit", "3"],
            ["--limit", "3", "--dry-run"],
            ["--undo-trial"],
        )
    ]

    assert [refused["code"] for refused in refusals] == ["CutoverDeclared"] * 3
    assert all("cutover revoke" in refused["remedy"] for refused in refusals)
    assert found(table) == before


@pytest.mark.usefixtures("filled")
def test_without_a_trial_there_is_nothing_to_undo(table: EnterpriseTable) -> None:
    """A state without trials must not delete the items of its runs."""
    pipeline.migrate()
    refused = command("--undo-trial", code=2)

    assert "no trial of this migration" in refused["error"]["message"]
    assert "--limit" in refused["error"]["remedy"]
    assert len(found(table)) == ROWS


def test_a_dry_run_of_a_trial_writes_nothing(
    filled: SourceDatabase, table: EnterpriseTable
) -> None:
    """It checks and plans as that of a run; a missing source is refused."""
    planned = command("--limit", "3", "--dry-run", code=0)
    filled.run("DELETE FROM enterprises")
    refused = command("--limit", "3", "--dry-run", code=2)
    empty = pipeline.migrate(MigrateOptions(limit=3, allow_empty=True))

    assert planned["status"] == "planned"
    assert found(table) == {}
    assert "has no rows" in refused["error"]["message"]
    assert (empty.status, empty.source_rows) == ("unproven", 0)


def is_enterprise(request: Request) -> bool:
    """Return whether a request concerns enterprises, not the internal items."""
    return b"ENT#" in request.body


@pytest.mark.usefixtures("filled")
def test_a_trial_that_stops_is_repeated_and_can_be_undone(
    table: EnterpriseTable, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Items that it may have sent are its own, although no outcome is recorded."""
    monkeypatch.setenv("SENDERS", "1")
    denied = error_answer("AccessDeniedException", 400)
    proxy.add(lambda _: denied, operation="PutItem", first=2, when=is_enterprise)
    stopped = command("--limit", "3", "--partition-rows", "2", code=4)
    one = found(table)
    proxy.clear()
    undone = command("--undo-trial", code=0)

    assert stopped["status"] == "incomplete"
    assert stopped["next"] == f"{ALL} --partition-rows 2 --limit 3"
    assert len(one) == 1
    assert undone["items"]["removed"] == 1
    assert found(table) == {}


def test_a_trial_that_loses_its_snapshot_is_repeated(
    filled: SourceDatabase, table: EnterpriseTable
) -> None:
    """The second trial finds the items of the first, and both can be undone."""
    lost: list[Any] = []

    def each(function: Any, specs: Sequence[Any]) -> Iterator[Any]:
        if not lost:
            lost.extend(specs)
            yield function(specs[0])
            raise SnapshotLost("The snapshot is gone.")
        yield from map(function, specs)

    options = MigrateOptions(limit=4, partition_rows=2)
    report = pipeline.migrate(options, runner=running(each))
    undone = pipeline.undo_trial()

    assert report.status == "unproven"
    assert report.ledger == Ledger(read=4, written=2, unchanged=2)
    assert (len(undone.trials), undone.items.removed) == (2, 4)
    assert found(table) == {}
    assert len(expected_items(filled.url)) == ROWS


def test_a_removal_that_is_denied_says_which_policy_allows_it(
    filled: SourceDatabase, table: EnterpriseTable, proxy: FaultProxy
) -> None:
    """It stops, and its repetition deletes what is left; nothing is lost in between."""
    command("--limit", "3", code=3)
    denied = error_answer("AccessDeniedException", 400)
    proxy.add(lambda _: denied, operation="DeleteItem", first=2, when=is_enterprise)
    stopped = command("--undo-trial", code=4)
    two = found(table)
    proxy.clear()
    undone = command("--undo-trial", code=0)
    whole = pipeline.migrate()

    assert "DeleteItem" in stopped["error"]["message"]
    assert "iam-policy --for migrate --with-deletes" in stopped["error"]["remedy"]
    assert stopped["next"] == UNDO
    assert len(two) == 2
    counts = {"removed": 2, "changed": 0, "gone": 1, "rightful": 0}
    assert undone["items"] == counts
    assert whole.status == "proven", whole.findings
    assert whole.ledger == Ledger(read=ROWS, written=ROWS)
    assert found(table) == expected_items(filled.url)


@pytest.mark.slow
def test_a_killed_removal_is_resumed_by_another(
    filled: SourceDatabase,
    table: EnterpriseTable,
    proxy: FaultProxy,
    commands: Commands,
    tmp_path: Path,
) -> None:
    """After SIGKILL the next one waits for the lease, and a full run writes all."""
    command("--limit", "5", code=3)
    settings = os.environ | {"LEASE_SECONDS": "15"}
    arguments = ["migrate", "--undo-trial", "--json"]
    started: list[Process] = []
    kill = passing(lambda: started[0].send_signal(signal.SIGKILL))
    proxy.add(kill, operation="DeleteItem", first=2, when=is_enterprise, times=1)
    started.append(commands.start(arguments, settings, tmp_path))
    code = started[0].wait(timeout=120)
    left = len(found(table))
    proxy.clear()
    output, errors = commands.start(arguments, settings, tmp_path).communicate(
        timeout=120
    )
    whole = pipeline.migrate()

    assert code == -signal.SIGKILL
    assert 0 < left < 5
    assert json.loads(output)["items"] == {
        "removed": left,
        "changed": 0,
        "gone": 5 - left,
        "rightful": 0,
    }, errors
    assert whole.status == "proven", whole.findings
    assert whole.ledger == Ledger(read=ROWS, written=ROWS)
    assert found(table) == expected_items(filled.url)


def test_the_edit_between_our_read_and_our_deletion_survives(
    filled: SourceDatabase, table: EnterpriseTable, proxy: FaultProxy
) -> None:
    """An item that the application has just changed stays, and is counted."""
    pipeline.migrate(MigrateOptions(limit=1))
    (item,) = items_of(table)
    edit: Callable[[], object] = lambda: change(table, item, name="edited")  # noqa: E731
    proxy.add(passing(edit), operation="DeleteItem", when=is_enterprise, times=1)
    undone = pipeline.undo_trial()

    assert (undone.items.removed, undone.items.changed) == (0, 1)
    assert [one["name"] for one in items_of(table)] == ["edited"]
    assert len(expected_items(filled.url)) == ROWS
