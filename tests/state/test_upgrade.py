"""A state beside an application's tables, and one whose tables had no prefix."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import sqlalchemy as sa

from flows.doctor.runs import _running
from flows.errors import Incomplete, SettingsError
from flows.models import ENTITY_TYPE, Ledger, PartitionSpec
from flows.settings import Settings
from flows.state.database import make_engine
from flows.state.overview import Overview
from flows.state.runs import QUARANTINE_COLUMNS, PastRun, State, fingerprint
from flows.state.tables import PREFIX, metadata, versions
from flows.state.upgrade import VERSION
from tests.support.former_states import (
    IDENTITY,
    first_version,
    first_version_with_prefix,
    run_script,
    second_version,
)
from tests.support.source_database import SourceDatabase, new_role
from tests.support.source_table import make_source_table
from tests.support.target_table import numbered

KEY = "k" * 64
SINCE = "2026-11-27T08:00:00.000000Z"
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


def open_state(url: str) -> State:
    """Open the state of a URL."""
    return State.open(Settings.isolated(state_url=url))


def tables(url: str) -> set[str]:
    """Return the names of all tables of a database."""
    engine = make_engine(url)
    found = set(sa.inspect(engine).get_table_names())
    engine.dispose()
    return found


@pytest.mark.parametrize("former", [first_version, first_version_with_prefix])
def test_a_former_state_keeps_its_runs(
    state_url: str, former: Callable[[], str]
) -> None:
    """A former state must keep all records when it is opened, and accept new ones."""
    run_script(state_url, former())
    state = open_state(state_url)

    (migration,) = {row["fingerprint"] for row in state_rows(state, "run")}
    assert state.past_runs(migration) == ["former", "replay"]
    assert state.last_watermark(migration) == SINCE
    assert [one.ledger for one in state.ledgers("former")] == [Ledger(3, 2, 0, 0, 1)]
    assert state.source.quarantine("former")["source_id"].tolist() == ["3"]
    assert state.source.explained(migration) == frozenset({"3"})
    assert [table.num_rows for table, _ in state.manifests.of_run("former")] == [2]
    assert state.source.last_profile("k" * 64) == {"rows": 3}
    assert [one["name"] for one in state.reconciliations.history(migration)] == [
        "reconcile-1"
    ]
    assert tables(state_url) == set(metadata.tables)
    assert state_rows(state, "version") == [{"version": VERSION}]

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


@pytest.mark.parametrize(
    ("former", "count"),
    [(first_version, 2), (first_version_with_prefix, 2), (second_version, 4)],
)
def test_a_former_state_may_be_opened_by_several_at_once(
    state_url: str, former: Callable[[], str], count: int
) -> None:
    """Workers that start together must all find the runs, whichever one moves them."""
    run_script(state_url, former())
    at_once = Barrier(4)

    def count_runs() -> int:
        at_once.wait()
        state = open_state(state_url)
        found = len(state_rows(state, "run"))
        state._database.engine.dispose()
        return found

    with ThreadPoolExecutor(4) as threads:
        found = [
            each.result() for each in [threads.submit(count_runs) for _ in range(4)]
        ]

    assert found == [count] * 4


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
    run_script(state_url, first_version())
    other = "CREATE TABLE reconciliation (serial integer, amount integer);"
    run_script(state_url, f"DROP TABLE reconciliation; {other}")
    state = open_state(state_url)
    state._database.engine.dispose()

    assert tables(state_url) == {"reconciliation", *metadata.tables}


def test_the_doctor_reads_a_former_state_and_moves_nothing(state_url: str) -> None:
    """A dead run must be found even before the first run of this version."""
    run_script(state_url, first_version())
    before = tables(state_url)

    assert _running(state_url) == {"replay": ["T", "eu-west-1"]}
    assert tables(state_url) == before


def test_a_state_of_version_2_keeps_its_runs(state_url: str) -> None:
    """Its runs are of enterprises by the built-in mapping, each from one source."""
    run_script(state_url, second_version())
    state = open_state(state_url)
    migration = fingerprint(IDENTITY)

    assert state.past_runs(migration) == ["full", "again", "stopped"]
    assert state.last_watermark(migration, KEY) == SINCE
    assert state.has_full_run(migration, KEY)
    assert not state.has_full_run(migration, "other")
    assert [one.ledger for one in state.ledgers("full", ENTITY_TYPE)] == [
        Ledger(2, 2),
        Ledger(2, 1, quarantined=1),
    ]
    quarantine = state.source.quarantine("full")
    assert [*quarantine] == [*QUARANTINE_COLUMNS[:-1], "partition", "store_reason"]
    assert quarantine.to_numpy().tolist() == [
        ["3", "name_blank", "", None, None, "2", None]
    ]
    assert state.source.explained(migration) == frozenset({"3"})
    assert state.source.unaccepted(migration) == frozenset()
    assert state.source.last_profile(KEY) == {"rows": 4}
    last = state.source.last_columns(KEY)
    assert last is not None
    assert last[0] == "stopped"
    for entity, rows in ((None, [2, 1]), (ENTITY_TYPE, [2, 1]), ("product", [])):
        found = state.manifests.of_run("stopped", entity)
        assert [table.num_rows for table, _ in found] == rows
    assert state_rows(state, "version") == [{"version": VERSION}]
    state._database.engine.dispose()


def test_a_run_of_version_2_is_resumed_where_it_stopped(state_url: str) -> None:
    """A partition of rows that were moved again must not become the whole table."""
    run_script(state_url, second_version())
    state = open_state(state_url)
    stopped = state.resumable("stopped", IDENTITY)
    other = state.resumable("other", {**IDENTITY, "target": ["U", "eu-west-1"]})
    with pytest.raises(SettingsError, match="another mapping file"):
        state.resumable("stopped", IDENTITY, {"entities": {}})
    state._database.engine.dispose()

    assert stopped == PastRun("stopped", SINCE, {ENTITY_TYPE: ((2, "2", None),)}, 3)
    assert other == PastRun("other", None, {ENTITY_TYPE: ((1, None, None),)}, 1)


@pytest.mark.parametrize(
    "former", [first_version, first_version_with_prefix, second_version]
)
def test_an_upgraded_state_has_the_tables_of_a_new_one(
    state_url: str, former: Callable[[], str]
) -> None:
    """Columns, keys and defaults must be those that this version would create."""
    run_script(state_url, former())
    open_state(state_url)._database.engine.dispose()
    upgraded = describe_tables(state_url)
    engine = make_engine(state_url)
    metadata.drop_all(engine)
    engine.dispose()
    open_state(state_url)._database.engine.dispose()

    assert upgraded == describe_tables(state_url)


def describe_tables(url: str) -> dict[str, object]:
    """Return columns, keys and references of all tables of a database."""
    engine = make_engine(url)
    inspector = sa.inspect(engine)
    found: dict[str, object] = {
        name: (
            {
                column["name"]: (
                    str(column["type"]),
                    column["nullable"],
                    column["default"] if column["name"] != "serial" else None,
                )
                for column in inspector.get_columns(name)
            },
            inspector.get_pk_constraint(name)["constrained_columns"],
            [
                (key["constrained_columns"], key["referred_table"])
                for key in inspector.get_foreign_keys(name)
            ],
            [one["column_names"] for one in inspector.get_indexes(name)],
        )
        for name in inspector.get_table_names()
    }
    engine.dispose()
    return found


def test_an_upgrade_that_fails_changes_nothing(state_url: str) -> None:
    """It must be all or nothing: the next attempt starts from the state as it was."""
    run_script(state_url, second_version())
    before = describe_tables(state_url)
    in_the_way = f"{PREFIX}source_{VERSION}"
    run_script(state_url, f"CREATE TABLE {in_the_way} (run_id text);")
    with pytest.raises(SettingsError, match="cannot be opened"):
        open_state(state_url)
    run_script(state_url, f"DROP TABLE {in_the_way};")

    assert describe_tables(state_url) == before
    state = open_state(state_url)
    assert [row["source"] for row in state_rows(state, "source")] == [KEY] * 2
    state._database.engine.dispose()


def test_a_role_that_cannot_upgrade_is_sent_to_the_owner(database_url: str) -> None:
    """It may use the tables and create others, but not change their columns."""
    run_script(database_url, second_version())
    owner = SourceDatabase(database_url)
    with new_role(owner) as role:
        owner.run(
            f"GRANT CREATE ON SCHEMA public TO {role}",
            f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
        )
        with pytest.raises(SettingsError, match="InsufficientPrivilege") as refused:
            open_state(owner.as_user(role).url)

    assert "as the owner of its tables" in refused.value.remedy


def test_a_state_of_version_2_is_read_without_an_upgrade(state_url: str) -> None:
    """Runs of the earlier program may be under way, which would refuse version 3."""
    run_script(state_url, second_version())
    before = describe_tables(state_url)
    overview = Overview.open(Settings.isolated(state_url=state_url))
    assert overview is not None
    records = {one.run_id: one for one in overview.records()}
    record = overview.record("full")
    overview.close()

    assert record == records["full"]
    assert record.entities == (ENTITY_TYPE,)
    assert record.ledger == Ledger(4, 3, quarantined=1)
    assert records["stopped"].progress.partitions == 3
    assert records["again"].entities == ()
    assert _running(state_url) == {
        "again": ["T", "eu-west-1"],
        "other": ["U", "eu-west-1"],
    }
    assert describe_tables(state_url) == before


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
