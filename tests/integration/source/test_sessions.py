"""Sessions on the source, and the snapshots that they hold."""

import pickle
import re
import time
from datetime import UTC, datetime, timedelta
from threading import Thread

import pytest

from flows.errors import SourceError, SourceLost
from flows.settings import Settings
from flows.stores.postgres.session import open_source
from flows.stores.postgres.snapshots import export_snapshot, read_watermark
from tests.support.source_database import (
    SourceDatabase,
)
from tests.support.source_table import CANARY, CreateTable, run_as_source
from tests.support.standby import running_standby

# Possible settings of a role or a database, and the required ones of every session.
UNUSUAL = {
    "timezone": "'Asia/Kolkata'",
    "datestyle": "German, DMY",
    "search_path": "decoy",
    "row_security": "on",
    "client_encoding": "'LATIN1'",
    "standard_conforming_strings": "off",
    "default_transaction_isolation": "'serializable'",
    "statement_timeout": "'1s'",
    "transaction_timeout": "'1s'",
    "lock_timeout": "'1s'",
    "idle_in_transaction_session_timeout": "'1s'",
    "idle_session_timeout": "'1s'",
}
SESSION = {
    "timezone": "UTC",
    "datestyle": "ISO, YMD",
    "search_path": "pg_catalog",
    "row_security": "off",
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "transaction_isolation": "repeatable read",
    "transaction_read_only": "on",
    "statement_timeout": "0",
    "transaction_timeout": "0",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
}


@pytest.mark.parametrize("owner", ["ROLE {role}", "DATABASE {name}"])
def test_a_session_is_the_same_for_every_role_and_database(
    database: SourceDatabase, role: str, owner: str
) -> None:
    """An administrator's settings for a role or a database must not change any text."""
    whose = owner.format(role=role, name=database.ask("SELECT current_database()"))
    database.run(*(f"ALTER {whose} SET {n} = {v}" for n, v in UNUSUAL.items()))
    reader = database.as_user(role)
    assert reader.ask("SHOW timezone") == "Asia/Kolkata"

    with open_source(reader.settings()) as connection, connection.cursor() as cursor:
        found = {}
        for name in SESSION:
            cursor.execute(f"SHOW {name}")
            found[name] = (cursor.fetchone() or ("",))[0]

    assert found == SESSION


def test_timeouts_of_the_role_do_not_hurt(database: SourceDatabase, role: str) -> None:
    """Limits for interactive users must not end a long query or an idle session."""
    for limit in (
        "statement_timeout",
        "transaction_timeout",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
    ):
        database.run(f"ALTER ROLE {role} SET {limit} = '100ms'")
    reader = database.as_user(role)

    with open_source(reader.settings()) as connection, connection.cursor() as cursor:
        time.sleep(0.2)
        cursor.execute("SELECT pg_sleep(0.2)")
        time.sleep(0.2)
        cursor.execute("SELECT 1")

        assert cursor.fetchone() == (1,)


@pytest.mark.parametrize(("asked", "idle"), [("", "60"), ("&keepalives_idle=7", "7")])
def test_an_idle_session_is_kept_alive(
    database: SourceDatabase, asked: str, idle: str
) -> None:
    """A session that is idle for hours must keep its snapshot and its connection.

    Nor may it wait two hours for a lost peer, which is the default of the system.
    """
    settings = Settings.isolated(database_url=database.url + asked)
    with open_source(settings) as connection:
        parameters = connection.info.dsn_parameters

    assert (parameters["keepalives_idle"], parameters["keepalives_interval"]) == (
        idle,
        "10",
    )
    assert parameters["keepalives_count"] == "6"


def test_the_source_cannot_be_written(
    database: SourceDatabase, create_table: CreateTable
) -> None:
    """A session on the source must be read-only, whatever its role may do."""
    create_table()

    with pytest.raises(SourceError, match="ReadOnlySqlTransaction"):
        run_as_source(database, "DELETE FROM public.enterprises")


def test_an_error_of_the_server_holds_no_value(database: SourceDatabase) -> None:
    """PostgreSQL quotes values in its messages; the program must not repeat them."""
    with pytest.raises(SourceError) as refused:
        run_as_source(database, f"SELECT '{CANARY}'::int")

    error = refused.value
    assert "SQLSTATE 22P02" in error.message
    assert CANARY not in str(error) + repr(error) + repr(pickle.dumps(error))


def test_an_exported_snapshot_names_its_time_and_place(
    database: SourceDatabase,
) -> None:
    """The report must be able to name the time and the log position of the data."""
    with open_source(database.settings()) as connection:
        name, taken = export_snapshot(connection)

    assert re.fullmatch(r"[0-9A-F]{8}-[0-9A-F]{8}-\d+", name)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z, LSN [0-9A-F]+/[0-9A-F]+", taken
    )


@pytest.mark.parametrize("sees_all", [True, False])
def test_a_role_that_sees_no_other_transaction_is_given_an_hour(
    database: SourceDatabase, role: str, *, sees_all: bool
) -> None:
    """An invisible transaction may have stamped rows that are not yet committed."""
    if sees_all:
        database.run(f"GRANT pg_read_all_stats TO {role}")
    with open_source(database.as_user(role).settings()) as connection:
        watermark = datetime.fromisoformat(read_watermark(connection))

    hour_ago = datetime.now(UTC) - timedelta(minutes=59)
    assert (watermark > hour_ago) is sees_all


def test_a_prepared_transaction_is_given_an_hour(postgres_server: str) -> None:
    """It stamped its rows when it began, but only the time of its PREPARE is known."""
    prepare = "BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'late'"
    with running_standby(postgres_server, max_prepared_transactions=1) as standby:
        promoted = SourceDatabase(standby.url)
        promoted.run("SELECT pg_promote()", prepare)
        with open_source(promoted.settings()) as connection:
            watermark = datetime.fromisoformat(read_watermark(connection))

    assert watermark < datetime.now(UTC) - timedelta(minutes=59)


@pytest.mark.parametrize("end", ["commit", "close"])
def test_a_snapshot_that_is_gone_makes_the_run_incomplete(
    database: SourceDatabase, end: str
) -> None:
    """After the exporter's end a session must stop, resumable, and read no other."""
    with open_source(database.settings()) as exporter:
        snapshot, _ = export_snapshot(exporter)
        if end == "commit":
            exporter.commit()
        else:
            exporter.close()

        with (
            pytest.raises(SourceLost, match="snapshot") as lost,
            open_source(database.settings(), snapshot),
        ):
            pass

    assert lost.value.remedy


@pytest.mark.parametrize(
    ("statement", "cause"),
    [
        ("SELECT pg_terminate_backend(pid) FROM {}", "OperationalError"),
        ("SELECT pg_cancel_backend(pid) FROM {}", "QueryCanceled 57014"),
    ],
)
def test_a_session_that_is_ended_is_lost(
    database: SourceDatabase, statement: str, cause: str
) -> None:
    """An administrator who ends a query must make the run incomplete, not refused."""
    activity = "pg_stat_activity WHERE application_name = 'enterprises'"
    # Only this query: ending an earlier one would not affect the session under test.
    asleep = "state = 'active' AND query LIKE '%pg_sleep%'"
    mine = f"{activity} AND datname = current_database() AND {asleep}"
    count = "SELECT count(*) FROM {}"

    def end() -> None:
        while not database.ask(count.format(mine)):
            time.sleep(0.02)
        database.run(statement.format(mine))

    thread = Thread(target=end)
    thread.start()
    with pytest.raises(SourceLost) as lost:
        run_as_source(database, "SELECT pg_sleep(30)")
    thread.join()

    assert cause in lost.value.message
    assert lost.value.exit_code == 4


def test_a_session_that_is_ended_at_rest_is_lost(database: SourceDatabase) -> None:
    """A connection closed between two queries must not be reported as refused."""
    end = "SELECT pg_terminate_backend({})"

    def ask_after_the_end() -> None:
        with open_source(database.settings()) as connection:
            database.run(end.format(connection.info.backend_pid))
            connection.cursor().execute("SELECT 1")

    with pytest.raises(SourceLost) as lost:
        ask_after_the_end()

    assert "run again" in lost.value.remedy.lower()
