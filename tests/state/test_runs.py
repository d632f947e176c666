"""The state of runs, in SQLite and in PostgreSQL, and its failures."""

import sqlite3
import stat
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from conftest import execute

from flows.errors import Incomplete, SettingsError
from flows.models import (
    Ledger,
    Outcome,
    PartitionLedger,
    PartitionSpec,
    digest,
)
from flows.settings import Settings
from flows.state import database, manifest, tables
from flows.state.database import make_engine
from flows.state.runs import QUARANTINE_COLUMNS, State, fingerprint
from tests.support.source_database import SourceDatabase, new_role
from tests.support.source_table import make_source_table
from tests.support.target_table import as_items, make_items, numbered

IDENTITY = {"source": {"table": "enterprises"}, "target": ["T", "eu-west-1"]}
SOURCE = make_source_table()


@pytest.fixture
def state_file(tmp_path: Path) -> Path:
    """Return a path for SQLite in folders that do not exist yet."""
    return tmp_path / "deep" / "down" / "state.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def state_url(request: pytest.FixtureRequest, state_file: Path) -> str:
    """Return the URL of each database in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{state_file}"
    url: str = request.getfixturevalue("database_url")
    return url


@pytest.fixture
def state(state_url: str) -> Iterator[State]:
    """Open a new state in which the run `run` is recorded."""
    state = open_state(state_url)
    state.start_run("run", IDENTITY)
    yield state
    state._database.engine.dispose()


@pytest.fixture
def in_file(state_file: Path) -> Iterator[State]:
    """Open a new state in SQLite, with the run `run`."""
    state = open_state(f"sqlite:///{state_file}")
    state.start_run("run", IDENTITY)
    yield state
    state._database.engine.dispose()


def open_state(url: str) -> State:
    """Open the state of a URL."""
    return State.open(Settings.isolated(state_url=url))


def part(number: int = 1) -> PartitionSpec:
    """Create a partition of the run."""
    return PartitionSpec("run", number, SOURCE, f"{number - 1}", f"{number}")


def ledger(number: int = 1, **columns: int) -> PartitionLedger:
    """Create a partition's ledger."""
    return PartitionLedger(
        run_id="run",
        number=number,
        ledger=Ledger(**columns),
        validation={"source": {"rows": 3, "failed_rows": 0, "by_reason": {}}},
        seconds={"load": 0.25},
        capacity={"write_units": 3.0},
    )


def quarantined(*rows: tuple[str | None, ...]) -> pd.DataFrame:
    """Create quarantined rows."""
    return pd.DataFrame(rows, columns=list(QUARANTINE_COLUMNS), dtype=object)


def test_a_manifest_says_what_was_sent(state: State) -> None:
    """Ids, stamps and digests must come back as they were, in their order."""
    items = make_items(["a", "株\0🚀", "c"], first=-1)
    state.manifests.save(part(2), items.iloc[2:])
    state.manifests.save(part(1), items.iloc[:2])
    tables = [table for table, _ in state.manifests.of_run("run")]

    assert [table.num_rows for table in tables] == [2, 1]
    rows = [row for table in tables for row in table.to_pylist()]
    assert rows == [
        {
            "source_id": source_id,
            "id": item["id"],
            "updated_at": item["updatedAt"],
            "digest": digest(item.values()),
        }
        for source_id, item in zip(["-1", "0", "1"], as_items(items), strict=True)
    ]


def test_a_manifest_of_a_further_attempt_replaces_the_former(state: State) -> None:
    """A partition must have one manifest: that of its last attempt."""
    state.manifests.save(part(), numbered(5))
    state.manifests.save(part(), numbered(2))
    state.manifests.save(part(2), numbered(0))

    assert [table.num_rows for table, _ in state.manifests.of_run("run")] == [2, 0]


def test_attempts_are_counted(state: State, state_url: str) -> None:
    """Only the first attempt may get number 1, from any state."""
    other = open_state(state_url)
    found = [
        state.begin_partition(part(1)),
        other.begin_partition(part(1)),
        other.begin_partition(part(2)),
        state.begin_partition(part(1)),
    ]
    other._database.engine.dispose()

    assert found == [1, 2, 1, 3]


def test_attempts_that_begin_at_once_are_told_apart(
    state: State, state_url: str
) -> None:
    """If several workers begin one partition, each must get a different number."""
    state.begin_partition(part())
    states = [open_state(state_url) for _ in range(4)]

    def begin(worker: int) -> list[int]:
        return [states[worker].begin_partition(part()) for _ in range(10)]

    with ThreadPoolExecutor(4) as pool:
        found = [attempt for each in pool.map(begin, range(4)) for attempt in each]
    for each in states:
        each._database.engine.dispose()

    assert sorted(found) == list(range(2, 42))


def test_states_in_several_threads_lose_nothing(
    in_file: State, state_file: Path
) -> None:
    """Partitions recorded at once, each by its own state, must all be found."""

    def record(number: int) -> None:
        state = open_state(f"sqlite:///{state_file}")
        state.begin_partition(part(number))
        state.manifests.save(part(number), numbered(3))
        rows = quarantined((str(number), "name_missing", None, None, None, None))
        state.finish_partition(ledger(number, read=4, written=3, quarantined=1), rows)
        state._database.engine.dispose()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(record, range(1, 25)))

    found = in_file.ledgers("run")
    assert [one.number for one in found] == list(range(1, 25))
    assert sum((one.ledger for one in found), Ledger()) == Ledger(96, 72, 0, 0, 24)
    assert len(in_file.source.quarantine("run")) == 24
    assert sum(table.num_rows for table, _ in in_file.manifests.of_run("run")) == 72


def test_a_state_may_be_made_by_several_at_once(
    state_url: str, state_file: Path
) -> None:
    """Two first runs at once must not fail on each other's tables."""
    senders = 4
    for _ in range(5):
        at_once = Barrier(senders)

        def make(at_once: Barrier = at_once) -> None:
            at_once.wait()
            open_state(state_url)._database.engine.dispose()

        with ThreadPoolExecutor(senders) as threads:
            made = [threads.submit(make) for _ in range(senders)]

        assert [one.exception() for one in made] == [None] * senders
        if state_file.exists():
            state_file.unlink()
        else:
            engine = make_engine(state_url)
            tables.metadata.drop_all(engine)
            engine.dispose()


def test_ledgers_come_back_in_key_order(state: State) -> None:
    """Finished partitions must come back unchanged; unfinished ones must not."""
    for number in (2, 3, 1):
        state.begin_partition(part(number))
    ledgers = [ledger(1, read=2, written=1, failed=1), ledger(2, read=1, kept_newer=1)]
    for one in reversed(ledgers):
        state.finish_partition(one, quarantined())

    assert state.ledgers("run") == ledgers
    assert state.ledgers("another") == []
    assert state.source.quarantine("run").empty


def test_the_quarantine_comes_back_as_postgresql_wrote_it(state: State) -> None:
    """NULL must stay NULL, no text may become NULL, and no id a number."""
    rows = [
        ("-9223372036854775808", "name_missing", None, None, "infinity", None),
        ("7", "name_blank;timestamps_missing", "", None, None, None),
        ("8", "refused_by_store", "nan", "NULL", "0044-03-15 00:00:00+00 BC", "No."),
        ("9", "name_not_unicode", "\ud800 株 🚀 \u202e", DAY, DAY, None),
    ]
    state.begin_partition(part())
    state.finish_partition(ledger(read=4, quarantined=4), quarantined(*rows))
    found = state.source.quarantine("run")

    *raw, said = QUARANTINE_COLUMNS
    assert list(found.columns) == [*raw, "partition", said]
    assert [tuple(row) for row in found.itertuples(index=False)] == [
        (*row[:-1], "1", row[-1]) for row in rows
    ]
    assert found["enterprise_name"].tolist()[0] is None
    assert state.source.quarantine("another").empty


DAY = "2024-02-29 00:00:00+00"


def test_a_run_id_is_taken_once(state: State) -> None:
    """A second run of the same name must be refused before it does anything."""
    state.require_new("other")
    with pytest.raises(SettingsError, match="run"):
        state.require_new("run")
    with pytest.raises(Incomplete):
        state.start_run("run", IDENTITY)


def test_a_state_knows_its_runs_and_their_migration(state: State) -> None:
    """A worker with another state, or another migration, must be refused."""
    state.require_run("run", IDENTITY)

    with pytest.raises(SettingsError, match="no run other"):
        state.require_run("other", IDENTITY)
    with pytest.raises(SettingsError, match="another namespace"):
        state.require_run("run", IDENTITY | {"namespace": "another"})


def test_what_makes_a_migration_the_same_is_its_content() -> None:
    """Order must make no difference, and any other value must make one."""
    turned: dict[str, Any] = dict(reversed(IDENTITY.items()))

    assert fingerprint(turned) == fingerprint(IDENTITY)
    assert fingerprint({**IDENTITY, "target": ["U"]}) != fingerprint(IDENTITY)


def test_a_state_is_there_when_it_is_opened_again(
    in_file: State, state_file: Path
) -> None:
    """A process must find the records of another one, with no step in between."""
    in_file.manifests.save(part(), numbered(2))
    in_file.finish_run("run", "proven", {"run_id": "run"})
    again = open_state(f"sqlite:///{state_file}")
    found = [table.num_rows for table, _ in again.manifests.of_run("run")]
    again._database.engine.dispose()

    assert found == [2]


@pytest.mark.usefixtures("in_file")
def test_a_state_that_another_process_has_locked_is_no_damaged_one(
    state_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remedy for a lock must name the lock, and not suggest to move the file."""
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.1)
    with closing(sqlite3.connect(state_file)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SettingsError, match=state_file.name) as caught:
            open_state(f"sqlite:///{state_file}")

    assert "locked" in caught.value.remedy
    assert "moved away" not in caught.value.remedy


@pytest.mark.parametrize("kept", [0.9, 0.5, 0.01])
def test_a_torn_state_is_no_empty_one(
    in_file: State, state_file: Path, kept: float
) -> None:
    """A truncated file must be named, with the way to continue without it."""
    in_file.manifests.save(part(), make_items(["x" * 100] * 2_000))
    in_file._database.engine.dispose()
    with state_file.open("r+b") as file:
        file.truncate(int(kept * state_file.stat().st_size))

    with pytest.raises(SettingsError, match=state_file.name) as caught:
        open_state(f"sqlite:///{state_file}")

    assert "moved away" in caught.value.remedy


def test_nobody_else_may_read_the_state(in_file: State, state_file: Path) -> None:
    """The file and SQLite's files beside it contain rows: their mode must be 0600."""
    in_file.begin_partition(part())
    files = sorted(state_file.parent.iterdir())

    assert state_file in files
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_commit_is_on_the_disk(in_file: State) -> None:
    """A crash of the machine must not undo a record."""
    with in_file._database.engine.connect() as connection:
        values = {
            name: connection.scalar(sa.text(f"PRAGMA {name}"))
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }

    assert values == {"journal_mode": "delete", "synchronous": 2, "foreign_keys": 1}


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("sqlite:///{tmp}/file/state.db", "file/state.db"),
        ("sqlite:///{tmp}", "sqlite:///"),
        ("sqlite:///{tmp}/file", "file"),
        ("sqlite:////dev/null/state.db", "/dev/null"),
        ("no url at all", "STATE_URL"),
        ("{tmp}/state.db", "not a URL.*\n.*sqlite:///"),
        ("postgresql://user:canary@localhost:port/state", "STATE_URL"),
        ("nosuchstore://user:canary@localhost/state", "nosuchstore"),
        ("postgresql://user:canary@127.0.0.1:1/state", "127.0.0.1:1"),
    ],
)
def test_a_state_that_cannot_be_opened_is_named(
    tmp_path: Path, url: str, named: str
) -> None:
    """The error must name the database and the setting, without a password."""
    (tmp_path / "file").write_text("no database, but a text of some length " * 99)
    with pytest.raises(SettingsError, match=named) as caught:
        open_state(url.format(tmp=tmp_path))

    assert "STATE_URL" in str(caught.value)
    assert "canary" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user@127.0.0.1:1/state?password=canary",
        "postgresql://user:a@canary@127.0.0.1:1/state",
        "postgresql://user:a/canary@b@127.0.0.1:1/state",
        "postgresql+psycopg://user:a%zzcanary@127.0.0.1:1/state",
    ],
)
def test_no_part_of_a_states_password_is_taken_for_another(url: str) -> None:
    """A password that SQLAlchemy would show as host or query is refused unseen."""
    with pytest.raises(SettingsError, match="STATE_URL") as caught:
        open_state(url)

    assert "canary" not in "".join(traceback.format_exception(caught.value))
    assert "percent-encode" in caught.value.remedy


def test_the_reason_of_a_states_server_is_shown(postgres_server: str) -> None:
    """A wrong name is no damaged file: the server's message and a remedy are shown."""
    url = postgres_server.replace("/postgres?", "/nowhere?")
    with pytest.raises(SettingsError, match='"nowhere" does not exist') as caught:
        open_state(url.replace("postgres@", "postgres:nowhere@"))

    assert caught.value.remedy == "Check the database and the user in STATE_URL."


def test_a_state_in_which_no_table_may_be_made_says_what_to_grant(
    database_url: str,
) -> None:
    """Since PostgreSQL 15 a role may not create tables in the schema public."""
    owner = SourceDatabase(database_url)
    with new_role(owner) as role:
        url = owner.as_user(role).url
        with pytest.raises(SettingsError, match="InsufficientPrivilege") as caught:
            open_state(url)
        owner.run(caught.value.remedy)
        open_state(url)._database.engine.dispose()


def test_a_connection_that_was_dropped_is_made_again(database_url: str) -> None:
    """The state is idle while partitions load, and idle connections are dropped."""
    state = open_state(database_url)
    state.start_run("run", IDENTITY)
    execute(
        database_url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )

    attempt = state.begin_partition(part())
    state._database.engine.dispose()

    assert attempt == 1


def asked_of_libpq(url: str) -> dict[str, Any]:
    """Return libpq's arguments for a state's URL, without a connection."""
    engine = make_engine(url)
    asked: dict[str, Any] = {}

    def look(*arguments: Any) -> None:
        asked.update(arguments[-1])
        raise ConnectionAbortedError

    sa.event.listen(engine, "do_connect", look)
    with pytest.raises(ConnectionAbortedError):
        engine.connect()
    return asked


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("postgresql://ana:right@db.example.com/state", ""),
        ("postgres:///state?host=db.example.com", ""),
        ("postgresql:///state", "db.example.com"),
    ],
)
def test_tls_is_verified_towards_a_state_off_loopback(
    monkeypatch: pytest.MonkeyPatch, url: str, host: str
) -> None:
    """It contains rows: libpq alone would send them and the password in clear text."""
    monkeypatch.setenv("PGHOST", host)
    verified = {"sslmode": "verify-full", "sslrootcert": "system"}

    assert asked_of_libpq(url).items() >= verified.items()


@pytest.mark.parametrize(
    ("url", "mode", "expected"),
    [
        ("postgresql://127.0.0.1/state", "", None),
        ("postgresql:///state?host=/run/pg", "", None),
        ("postgresql://db.example.com/state?sslmode=require", "", "require"),
        # libpq reads the variable itself.
        ("postgresql://db.example.com/state", "require", None),
    ],
)
def test_a_states_chosen_tls_mode_is_kept(
    monkeypatch: pytest.MonkeyPatch, url: str, mode: str, expected: str | None
) -> None:
    """On this machine libpq chooses; elsewhere an explicit choice must be kept."""
    monkeypatch.setenv("PGSSLMODE", mode)

    assert asked_of_libpq(url).get("sslmode") == expected


@pytest.mark.parametrize(
    ("pragma", "reason"),
    [
        ("query_only = ON", "readonly database"),
        ("max_page_count = 1", "database or disk is full"),
    ],
)
def test_a_state_that_cannot_be_written_stops_the_run(
    in_file: State, state_file: Path, pragma: str, reason: str
) -> None:
    """The run must end resumable, and name the file and SQLite's own reason."""

    def restrict(connection: Any, _record: object) -> None:
        connection.execute(f"PRAGMA {pragma}")

    sa.event.listen(in_file._database.engine, "connect", restrict)
    in_file._database.engine.dispose()
    names = [f"{number}" * 1_000 for number in range(100)]
    with pytest.raises(Incomplete, match=reason) as caught:
        in_file.manifests.save(part(), make_items(names))

    assert str(state_file) in caught.value.message
    assert caught.value.remedy
    assert list(in_file.manifests.of_run("run")) == []


def test_a_state_of_which_the_file_is_gone_stops_the_run(
    in_file: State, state_file: Path
) -> None:
    """A folder removed during a run must not look like an empty state."""
    in_file._database.engine.dispose()
    for file in state_file.parent.iterdir():
        file.unlink()
    with pytest.raises(Incomplete, match=r"state\.db"):
        in_file.begin_partition(part())


def test_the_errors_of_a_server_hold_no_password_and_no_rows(database_url: str) -> None:
    """Only the kind of a server's error may be shown."""
    state = open_state(database_url)
    with state._database.engine.begin() as connection:
        connection.execute(sa.text(f"DROP TABLE {tables.manifests.name}"))
    with pytest.raises(Incomplete) as caught:
        state.manifests.save(part(), make_items(["canary"]))
    state._database.engine.dispose()

    assert "UndefinedTable" in caught.value.message
    assert "canary" not in str(caught.value)
    assert "INSERT" not in str(caught.value)


def test_each_outcome_has_a_letter_of_its_own() -> None:
    """States store the letters: none may change, be missing or have two meanings."""
    assert manifest.CODES == {
        "written": b"w",
        "unchanged": b"u",
        "kept_newer": b"k",
        "refused": b"r",
        "failed": b"f",
        "deleted": b"d",
        "there": b"t",
    }
    assert {*Outcome, "deleted", "there"} == set(manifest.CODES)
