"""A state beside an application's tables, and one whose tables had no prefix."""

import re
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier

import pytest
import sqlalchemy as sa

from flows.doctor.runs import _running
from flows.errors import Incomplete, SettingsError
from flows.models import Ledger, PartitionSpec
from flows.settings import Settings
from flows.state.database import make_engine
from flows.state.runs import State
from flows.state.tables import PREFIX, metadata, versions
from flows.state.upgrade import VERSION
from tests.support.source_database import SourceDatabase
from tests.support.source_table import make_source_table
from tests.support.target_table import numbered

FORMER = Path(__file__).parent / "former_state.sql"
IDENTITY = {"source": {"table": "enterprises"}, "target": ["T", "eu-west-1"]}
# PostgreSQL's words, and those of SQLAlchemy for the same tables in SQLite.
IN_SQLITE = {
    "SERIAL": "INTEGER",
    "TIMESTAMP WITH TIME ZONE": "DATETIME",
    "BYTEA": "BLOB",
    "'\\x": "x'",
    "SELECT setval": "--",
}
SOURCE = make_source_table()
# An application's tables: other columns, a key that our tables refer to, and rows.
APPLICATION = """
CREATE TABLE run (run_id text PRIMARY KEY, started_at text, runner text);
CREATE TABLE source (id integer PRIMARY KEY, source text);
CREATE TABLE manifest (id integer PRIMARY KEY, rows text);
CREATE INDEX ix_source_source ON source (source);
INSERT INTO run VALUES ('marathon', 'today', 'ana');
INSERT INTO source VALUES (1, 'spring');
INSERT INTO manifest VALUES (1, 'cargo');
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def state_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of each empty database in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state.db'}"
    url: str = request.getfixturevalue("database_url")
    return url


def run_script(url: str, script: str) -> None:
    """Run SQL, written for PostgreSQL, in a state's database."""
    if not url.startswith("sqlite"):
        SourceDatabase(url).run(script)
        return
    for word, other in IN_SQLITE.items():
        script = script.replace(word, other)
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        connection.executescript(script)


def open_state(url: str) -> State:
    """Open the state of a URL."""
    return State.open(Settings.isolated(state_url=url))


def tables(url: str) -> set[str]:
    """Return the names of all tables of a database."""
    engine = make_engine(url)
    found = set(sa.inspect(engine).get_table_names())
    engine.dispose()
    return found


def with_prefix(script: str) -> str:
    """Return the SQL of a state from which version 1 has given its tables a prefix."""
    names = "|".join(name.removeprefix(PREFIX) for name in metadata.tables)
    before = r'(CREATE TABLE |REFERENCES | ON |INSERT INTO "|setval\(\')'
    return re.sub(rf"{before}({names})(?=\b|_serial)", rf"\g<1>{PREFIX}\g<2>", script)


@pytest.mark.parametrize("name_tables", [str, with_prefix])
def test_a_former_state_keeps_its_runs(
    state_url: str, name_tables: Callable[[str], str]
) -> None:
    """A former state must keep all records when it is opened, and accept new ones."""
    run_script(state_url, name_tables(FORMER.read_text("utf-8")))
    state = open_state(state_url)

    (migration,) = {row["fingerprint"] for row in state_rows(state, "run")}
    assert state.past_runs(migration) == ["former", "replay"]
    assert state.last_watermark(migration) == "2026-11-27T08:00:00.000000Z"
    assert [one.ledger for one in state.ledgers("former")] == [Ledger(3, 2, 0, 0, 1)]
    assert state.source.quarantine("former")["source_id"].tolist() == ["3"]
    assert state.source.explained(migration) == frozenset({"3"})
    assert [table.num_rows for table, _ in state.manifests.of_run("former")] == [2]
    assert state.source.last_profile("k" * 64) == {"rows": 3}
    assert [one["name"] for one in state.reconciliations.history(migration)] == [
        "reconcile-1"
    ]
    assert tables(state_url) == set(metadata.tables)

    state.start_run("next", IDENTITY)
    spec = PartitionSpec("next", 1, SOURCE)
    assert state.begin_partition(spec) == 1
    state.manifests.save(spec, numbered(5))
    assert [table.num_rows for table, _ in state.manifests.of_run("next")] == [5]
    with pytest.raises(Incomplete, match=r"IntegrityError|ForeignKeyViolation"):
        state.record_replay("nobody", "former")
    state._database.engine.dispose()


def state_rows(state: State, table: str) -> list[dict[str, object]]:
    """Return all rows of one of the state's tables."""
    query = sa.select(metadata.tables[f"{PREFIX}{table}"])
    with state._database.engine.connect() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def test_a_former_state_may_be_opened_by_several_at_once(state_url: str) -> None:
    """Workers that start together must all find the runs, whichever one moves them."""
    run_script(state_url, FORMER.read_text("utf-8"))
    at_once = Barrier(4)

    def count() -> int:
        at_once.wait()
        state = open_state(state_url)
        found = len(state_rows(state, "run"))
        state._database.engine.dispose()
        return found

    with ThreadPoolExecutor(4) as threads:
        found = [each.result() for each in [threads.submit(count) for _ in range(4)]]

    assert found == [2] * 4


def test_an_applications_tables_are_left_alone(state_url: str) -> None:
    """A state may share a database with tables of any name, and must not use them."""
    run_script(state_url, APPLICATION)
    state = open_state(state_url)
    state.start_run("run", IDENTITY, [PartitionSpec("run", 1, SOURCE)])
    state.source.save_columns("run", "key", {"types": {}, "mapped": {}})
    state.manifests.save(PartitionSpec("run", 1, SOURCE), numbered(3))
    state._database.engine.dispose()

    assert tables(state_url) == {"run", "source", "manifest", *metadata.tables}
    engine = make_engine(state_url)
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT runner FROM run").scalars().all()
    engine.dispose()
    assert found == ["ana"]


def test_an_applications_table_among_a_former_state_is_left_alone(
    state_url: str,
) -> None:
    """Only tables with exactly the columns of a state are its own."""
    run_script(state_url, FORMER.read_text("utf-8"))
    other = "CREATE TABLE reconciliation (serial integer, amount integer);"
    run_script(state_url, f"DROP TABLE reconciliation; {other}")
    state = open_state(state_url)
    state._database.engine.dispose()

    assert tables(state_url) == {"reconciliation", *metadata.tables}


def test_the_doctor_reads_a_former_state_and_moves_nothing(state_url: str) -> None:
    """A dead run must be found even before the first run of this version."""
    run_script(state_url, FORMER.read_text("utf-8"))
    before = tables(state_url)

    assert _running(state_url) == {"replay": ["T", "eu-west-1"]}
    assert tables(state_url) == before


def test_a_state_of_before_the_version_keeps_its_runs(state_url: str) -> None:
    """The previous version has the same tables, without the version itself."""
    state = open_state(state_url)
    state.start_run("run", IDENTITY, [PartitionSpec("run", 1, SOURCE)])
    state.manifests.save(PartitionSpec("run", 1, SOURCE), numbered(3))
    with state._database.engine.begin() as connection:
        versions.drop(connection)
    state._database.engine.dispose()

    again = open_state(state_url)
    (migration,) = {row["fingerprint"] for row in state_rows(again, "run")}
    assert again.past_runs(migration) == ["run"]
    assert [table.num_rows for table, _ in again.manifests.of_run("run")] == [3]
    assert state_rows(again, "version") == [{"version": VERSION}]
    again._database.engine.dispose()


def test_a_state_of_a_newer_version_is_refused(state_url: str) -> None:
    """An older program must not write to tables that it does not know."""
    state = open_state(state_url)
    state.start_run("run", IDENTITY)
    newer = sa.update(versions).values(version=VERSION + 1)
    with state._database.engine.begin() as connection:
        connection.execute(newer)

    with pytest.raises(SettingsError, match=f"version {VERSION + 1}") as caught:
        open_state(state_url)

    assert "STATE_URL" in caught.value.remedy
    assert len(state_rows(state, "run")) == 1
    state._database.engine.dispose()
