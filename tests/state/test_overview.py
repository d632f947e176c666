"""What the state says of past runs, in SQLite and in PostgreSQL, for readers only."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from flows.errors import SettingsError
from flows.models import Ledger, PartitionLedger, PartitionSpec
from flows.run.past_runs import next_of, resume_of
from flows.settings import Settings
from flows.state.overview import Overview
from flows.state.runs import State
from flows.state.tables import TRIAL
from tests.support.former_states import first_version, run_script
from tests.support.source_table import make_source_table

SOURCE = make_source_table()


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Return settings with each kind of state in turn."""
    if request.param == "sqlite":
        return Settings.isolated(state_url=f"sqlite:///{tmp_path}/deep/state.db")
    return Settings.isolated(state_url=request.getfixturevalue("database_url"))


def open_overview(settings: Settings) -> Overview:
    """Open a state that must be there."""
    overview = Overview.open(settings)
    assert overview is not None
    return overview


def test_a_state_that_no_run_has_created_is_left_uncreated(settings: Settings) -> None:
    """Reading must not create a file, a folder or a table."""
    assert Overview.open(settings) is None
    assert Overview.open(settings) is None
    assert list(Path().iterdir()) == []


def test_the_progress_of_a_run_is_summed_by_the_database(settings: Settings) -> None:
    """Partitions that are begun and finished, and their rows, must be counted."""
    state = State.open(settings)
    spec = PartitionSpec("run", 0, SOURCE)
    specs = [*spec.of_ranges([(1, None, "5"), (2, "5", "9"), (3, "9", None)])]
    state.start_run("run", {"target": ["T"]}, specs, since="2026-01-01T00:00:00Z")
    for number, rows in ((1, 9), (2, 7)):
        state.begin_partition(specs[number - 1])
        ledger = Ledger(read=rows, written=rows - 1, quarantined=1)
        done = PartitionLedger(
            "run", number, ledger, {}, {}, {}, {}, [1.0, number + 1.5]
        )
        state.finish_partition(done, pd.DataFrame({"source_id": ["1"]}))
    state.start_run("other", {})

    overview = open_overview(settings)
    record = overview.record("run")

    assert record is not None
    progress = record.progress
    assert (progress.partitions, progress.begun, progress.finished) == (3, 2, 2)
    assert progress.largest == 9
    assert record.ledger == Ledger(read=16, written=14, quarantined=2)
    assert (record.mode, record.status, record.ended) == (
        "incremental",
        "running",
        None,
    )
    assert sorted(overview.loads("run")) == [(2.5, 9), (3.5, 7)]
    assert overview.record("nobody") is None
    state.resume_run("run", "2026-01-02T00:00:00Z")
    again = overview.record("run")
    assert again is not None
    assert (again.progress.finished, again.ledger) == (0, Ledger())
    assert [one.run_id for one in overview.records()] == ["other", "run"]


def test_the_end_of_a_former_attempt_is_not_that_of_a_resumed_run(
    settings: Settings,
) -> None:
    """A run that is resumed has not ended, and its former report does not count."""
    state = State.open(settings)
    state.start_run("run", {})
    report = {"statement": "Incomplete.", "ledger": {"read": 5, "failed": 5}}
    state.finish_run("run", "incomplete", report)
    ended = open_overview(settings).record("run")
    state.resume_run("run", "2026-01-02T00:00:00Z")
    resumed = open_overview(settings).record("run")

    assert ended is not None
    assert resumed is not None
    assert (ended.verdict, ended.ledger.read) == ("Incomplete.", 5)
    assert ended.ended is not None
    assert ended.ended.utcoffset() is not None
    assert (resumed.verdict, resumed.ledger.read, resumed.ended) == (None, 0, None)


def test_a_state_of_another_version_is_named(tmp_path: Path) -> None:
    """A newer state is refused, an earlier one too until a run has upgraded it."""
    url = f"sqlite:///{tmp_path}/state.db"
    settings = Settings.isolated(state_url=url)
    run_script(url, first_version())
    with pytest.raises(SettingsError, match="of an earlier version") as earlier:
        Overview.open(settings)
    State.open(settings)
    upgraded = open_overview(settings).records()
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection, connection:
        connection.execute("UPDATE enterprise_migration_version SET version = 99")
    with pytest.raises(SettingsError, match="has version 99"):
        Overview.open(settings)

    assert "enterprises quarantine list" in earlier.value.remedy
    assert {record.run_id for record in upgraded} == {
        "former",
        "replay",
        "reconcile-1",
    }
    (tmp_path / "state.db").write_bytes(b"not a database, " * 100)
    with pytest.raises(SettingsError, match="cannot be opened"):
        Overview.open(settings)


def test_a_trial_is_a_mode_and_not_a_status(settings: Settings) -> None:
    """A trial under way runs, and one that ended has the verdict of its report."""
    state = State.open(settings)
    state.start_run("trial", {}, status=TRIAL)

    (running,) = open_overview(settings).records()
    state.finish_run("trial", TRIAL, {"status": "unproven"})
    (ended,) = open_overview(settings).records()

    assert (running.mode, running.status) == ("trial", "running")
    assert (ended.mode, ended.status) == ("trial", "unproven")
    assert next_of(ended) == "enterprises migrate"
    assert resume_of(running) is resume_of(ended) is None
