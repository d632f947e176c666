"""``enterprises status``: the phase, the speed, the last proof, and what is missing."""

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.models import Ledger, PartitionLedger, PartitionSpec
from flows.settings import load_settings
from flows.state.runs import State
from flows.stores.dynamodb.cutover_marker import declare_cutover
from flows.stores.dynamodb.lease import Lease
from flows.stores.dynamodb.schema import create_table
from flows.stores.dynamodb.table import EnterpriseTable, open_table
from tests.support.fault_proxy import FaultProxy
from tests.support.source_table import make_source_table
from tests.support.terminal import CTRL_C, Terminal

ROWS = 1_000


@pytest.fixture
def table(
    moto_endpoint: str, table_name: str, monkeypatch: pytest.MonkeyPatch
) -> EnterpriseTable:
    """Create the target table and name it in the environment."""
    monkeypatch.setenv("DYNAMODB_ENDPOINT", moto_endpoint)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("DYNAMODB_ENTERPRISE_TABLE", table_name)
    target = open_table(load_settings())
    create_table(target)
    return target


@pytest.fixture
def state() -> State:
    """Create the state of the settings."""
    return State.open(load_settings())


def status(code: int = 0) -> dict[str, Any]:
    """Run status in this process; return its JSON."""
    done = CliRunner().invoke(app, ["status", "--json"])
    assert done.exit_code == code, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def start(state: State, table: EnterpriseTable, run_id: str, **values: Any) -> None:
    """Record a run into the table with three partitions."""
    identity = {
        "source": {"schema": "public", "table": "enterprises"},
        "target": [table.name, table.region, table.endpoint],
    }
    spec = PartitionSpec(run_id, 0, make_source_table())
    bounds = [(1, None, "5"), (2, "5", "9"), (3, "9", None)]
    state.start_run(run_id, identity, [*spec.of_ranges(bounds)], **values)


def finish_partition(state: State, run_id: str, number: int, rows: int = ROWS) -> None:
    """Record a partition as loaded just now."""
    state.begin_partition(PartitionSpec(run_id, number, make_source_table()))
    now = time.time()
    ledger = PartitionLedger(
        run_id,
        number,
        Ledger(read=rows, written=rows - 2, quarantined=2),
        validation={},
        seconds={},
        capacity={},
        loading=[now - 1, now],
    )
    state.finish_partition(ledger, pd.DataFrame())


def prove(state: State, name: str, mode: str = "full", outcome: str = "clean") -> None:
    """Record a comparison of the migration that ``start`` begins."""
    taken = datetime.now(UTC) - timedelta(hours=2)
    facts = {
        "name": name,
        "mode": mode,
        "status": outcome,
        "snapshot": f"{taken:%Y-%m-%dT%H:%M:%S.000Z}, LSN 0/1",
        "verdict": f"Verdict of {name}.",
        "source_rows": 3_000,
        "target_items": 3_000,
        "counts": {"explained": 6},
    }
    state.reconciliations.save("of this migration", facts)


def test_the_phases_of_a_run_follow_from_lease_and_state(
    table: EnterpriseTable, state: State
) -> None:
    """Each phase must follow from lease and partitions, with rows, speed and proof."""
    idle = status()
    start(state, table, "first")
    lease = Lease(table, "first@host:1-abc", 30)
    lease.acquire()
    planning = status()
    finish_partition(state, "first", 1)
    finish_partition(state, "first", 2)
    moving = status()
    finish_partition(state, "first", 3, rows=10)
    proving = status()
    lease.release()
    stopped = status()
    state.finish_run("first", "proven", {"ledger": vars(Ledger(read=2_010))})
    prove(state, "first")
    proven = status()

    assert (idle["status"], idle["lease"], idle["run"]) == ("idle", None, None)
    assert idle["cutover"] == {"declared": False, "declared_at": None}
    assert planning["status"] == "planning"
    assert planning["lease"]["run"] == "first"
    assert planning["lease"]["owner"] == "host:1-abc"
    assert 25 < planning["lease"]["left"] <= 31
    assert planning["run"]["rows"] == {"done": 0, "about": None}
    assert (moving["status"], moving["next"]) == ("moving", None)
    assert moving["run"]["partitions"] == {"finished": 2, "all": 3}
    assert moving["run"]["rows"] == {"done": 2_000, "about": 3_000}
    assert moving["run"]["ledger"]["quarantined"] == 4
    assert moving["run"]["rows_per_second"] > 0
    assert moving["run"]["seconds_left"] >= 0
    assert 0 <= moving["snapshot"]["seconds"] < 30
    assert proving["status"] == "proving"
    assert proving["run"]["rows"] == {"done": 2_010, "about": 2_010}
    assert stopped["status"] == "stopped"
    assert stopped["next"] == "enterprises migrate --resume first"
    assert (proven["status"], proven["next"]) == ("idle", None)
    assert proven["proofs"]["full"]["name"] == "first"
    assert proven["proofs"]["incremental"] is None
    assert 7_190 < proven["snapshot"]["seconds"] < 7_300


def test_what_else_holds_the_lease_is_shown(
    table: EnterpriseTable, state: State
) -> None:
    """A run of another state, a dead one, a repair and a cutover are kept apart."""
    start(state, table, "repair-1")
    state.finish_run("repair-1", "repair", {})
    found = {}
    for owner in ("elsewhere@host:1", "repair-1@host:1", "cutover@host:1"):
        lease = Lease(table, owner, 30)
        lease.acquire()
        found[owner.partition("@")[0]] = status()
        lease.release()
    Lease(table, "dead@host:1", -5).acquire()
    dead = status()
    text = CliRunner().invoke(app, ["status"]).stdout
    declare_cutover(table, Lease(table, "cutover@host:2", 30))

    statuses = [one["status"] for one in found.values()]
    assert statuses == ["held", "repairing", "declaring"]
    assert (dead["status"], dead["lease"]["held"]) == ("idle", False)
    assert "left by dead on host:1, which has died" in text
    assert status()["cutover"]["declared"] is True


def test_the_proofs_are_those_of_this_migration(
    table: EnterpriseTable, state: State
) -> None:
    """A proof of another table, of a replay or of an unproven run must not be shown."""
    start(state, table, "unproven")
    state.finish_run("unproven", "unproven", {"ledger": vars(Ledger(quarantined=3))})
    prove(state, "reconcile-1")
    prove(state, "unproven")
    prove(state, "reconcile-2", outcome="different")
    start(state, table, "replay")
    state.record_replay("replay", "unproven")
    state.finish_run("replay", "proven", {})
    prove(state, "since", mode="partial")
    prove(state, "replay", mode="partial")

    found = status()

    assert found["proofs"]["full"]["name"] == "reconcile-1"
    assert found["proofs"]["incremental"]["name"] == "since"


def test_either_of_table_and_state_may_be_missing(
    table: EnterpriseTable,
    closed_port: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> None:
    """What can be read must be shown; with nothing to read the command refuses."""
    stateless = status()
    files = list(tmp_path.iterdir())
    missing = CliRunner().invoke(
        app, ["status", "--json", "--set", "DYNAMODB_ENTERPRISE_TABLE=Nowhere"]
    )
    state = State.open(load_settings())
    start(state, table, "first")
    monkeypatch.setenv("DYNAMODB_ENTERPRISE_TABLE", table.name)
    monkeypatch.setenv("DYNAMODB_ENDPOINT", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setattr("flows.doctor.status.ASK_SECONDS", 0.5)
    tableless = status()
    watched = CliRunner().invoke(app, ["status", "--watch", "--json"])

    assert stateless["unknown"] == {"state": "no run has created it"}
    assert (stateless["status"], stateless["run"]) == ("idle", None)
    assert files == []
    assert (missing.exit_code, json.loads(missing.stdout)["status"]) == (2, "refused")
    assert tableless["status"] == "unknown"
    assert str(closed_port) in tableless["unknown"]["table"]
    assert (tableless["cutover"], tableless["next"]) == (None, None)
    assert (watched.exit_code, json.loads(watched.stdout)["status"]) == (2, "refused")


def test_status_reads_two_items_and_changes_nothing(
    table: EnterpriseTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must work with the permission GetItem alone, and leave the state as it is."""
    state = State.open(load_settings())
    start(state, table, "first")
    file = load_settings().runs_dir / "state.db"
    before = (file.stat().st_mtime_ns, file.read_bytes())
    with FaultProxy(table.endpoint) as proxy:
        monkeypatch.setenv("DYNAMODB_ENDPOINT", proxy.url)
        status()

        operations = [call.operation for call in proxy.calls]

    assert operations == ["GetItem", "GetItem"]
    assert (file.stat().st_mtime_ns, file.read_bytes()) == before
    assert [path.name for path in file.parent.iterdir()] == ["state.db"]


def test_a_terminal_shows_the_progress_until_ctrl_c(
    table: EnterpriseTable, state: State
) -> None:
    """The status must renew itself in place on 80 columns, and end with 0."""
    start(state, table, "first")
    lease = Lease(table, "first@host:1", 60)
    lease.acquire()
    with Terminal("status", "--watch") as terminal:
        terminal.wait_for("planning: a run has taken its snapshot")
        finish_partition(state, "first", 1)
        terminal.wait_for("moving: a run moves rows")
        terminal.wait_for("partition 1 of 3: 1,000 of about 3,000 rows")
        terminal.send(CTRL_C)
        code = terminal.wait()
        lines = terminal.screen.history

    assert code == 0
    assert sum(line.startswith("Status") for line in lines) == 1
    assert max(map(len, lines)) <= 80
    assert "Traceback" not in terminal.text


def test_a_log_has_a_line_at_a_time(
    table: EnterpriseTable, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a terminal each status is one sentence-like line with its time."""
    start(state, table, "first")
    lease = Lease(table, "first@host:1", 60)
    lease.acquire()
    finish_partition(state, "first", 1)
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("flows.cli.status.sleep", sleep)

    done = CliRunner().invoke(app, ["status", "--watch"])

    lines = done.stdout.splitlines()
    assert (done.exit_code, waits) == (0, [10.0, 10.0])
    assert len(lines) == 2
    for line in lines:
        assert "Z moving, run first, partition 1 of 3: 1,000 of about 3,000" in line


@pytest.mark.usefixtures("table")
def test_a_log_ends_with_its_reader() -> None:
    """A reader such as head closes the pipe; nothing may keep on reading for it."""
    reading, writing = os.pipe()
    os.close(reading)

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "flows.cli", "status", "--watch"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)

    assert done.returncode == 0
    assert "Error" not in done.stderr
