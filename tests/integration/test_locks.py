"""Locks on the source table: neither the application nor a run waits long for one.

The other sessions act like an administrator, on a real server.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest

from flows.stores.dynamodb.lease import LEASE
from flows.stores.dynamodb.table import EnterpriseTable
from tests.benchmarks.endpoint import running_endpoint
from tests.support.expected_items import enterprises, expected_items
from tests.support.source_database import SourceDatabase, new_role
from tests.support.started_runs import (
    SECONDS,
    await_items,
    ended,
    environment_of,
    make_target,
    reading_meanwhile,
    starting,
)
from tests.support.warm_command import Commands, Process

# Each waits for locks that are held for seconds.
pytestmark = pytest.mark.slow

ROWS = 1_500
WRITE_UNITS = 300
# Five seconds plus a busy machine's delay; an unlimited wait would last the whole run.
AT_MOST = 20
ALTER = "ALTER TABLE enterprises ADD COLUMN note text"
REWRITE = "ALTER TABLE enterprises ALTER COLUMN name TYPE varchar(900)"


@pytest.fixture(scope="module")
def slow_endpoint() -> Iterator[str]:
    """Run an endpoint that accepts some hundred units per second; yield its URL."""
    with running_endpoint(write_units=WRITE_UNITS) as url:
        yield url


@pytest.fixture
def target(slow_endpoint: str, table_name: str, database_url: str) -> EnterpriseTable:
    """Fill the source and create its target."""
    return make_target(slow_endpoint, table_name, database_url, ROWS)


@pytest.fixture
def start(
    target: EnterpriseTable, database_url: str, commands: Commands, tmp_path: Path
) -> Iterator[Callable[..., Process]]:
    """Return a function that starts a command; leftover processes are killed."""
    with starting(commands, environment_of(target, database_url), tmp_path) as start:
        yield start


def migrate(*options: str) -> tuple[str, ...]:
    """Return the arguments of a run in small partitions."""
    return ("migrate", "--no-prefect", "--json", "--partition-rows", "100", *options)


@contextmanager
def holding_lock(url: str, mode: str = "ACCESS EXCLUSIVE") -> Iterator[int]:
    """Hold a lock on the table in another session; yield its process id."""
    with closing(psycopg2.connect(f"{url}&application_name=dba")) as connection:
        connection.cursor().execute(f"LOCK TABLE enterprises IN {mode} MODE")
        yield connection.info.backend_pid


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("statement", [ALTER, "VACUUM FULL enterprises"])
def test_a_run_gives_way_to_a_session_that_waits_for_its_lock(
    start: Callable[..., Process],
    target: EnterpriseTable,
    database_url: str,
    statement: str,
    workers: str,
) -> None:
    """The application waits only seconds; the run stops, names it, and is resumed."""
    run = start(*migrate("--workers", workers))
    await_items(target, 200)
    with reading_meanwhile(database_url) as waits:
        begun = time.monotonic()
        SourceDatabase(database_url).run(statement)
        waited = time.monotonic() - begun
        code, values, errors = ended(run)

    assert (code, values["status"]) == (4, "incomplete"), errors
    assert max(*waits, waited) < AT_MOST
    assert f"{statement.split(maxsplit=1)[0]})" in values["statement"]
    assert "has waited" in values["statement"]
    assert target.get_own(LEASE) is None
    code, values, errors = ended(start(*migrate("--resume", "last")))
    assert (code, values["status"]) == (0, "proven"), errors
    found = enterprises(target.client, target.name)
    assert found == expected_items(database_url)


def test_a_role_that_sees_no_other_sessions_gives_way_too(
    start: Callable[..., Process], target: EnterpriseTable, database_url: str
) -> None:
    """Without pg_read_all_stats a waiting session is reported by its number."""
    database = SourceDatabase(database_url)
    with new_role(database) as role:
        database.run(f"GRANT SELECT ON enterprises TO {role}")
        url = database.as_user(role).url
        run = start(*migrate(), DATABASE_URL=url)
        await_items(target, 200)
        database.run(ALTER)
        code, values, errors = ended(run)

    assert (code, values["status"]) == (4, "incomplete"), errors
    assert re.search(r"Session \d+ .*has waited", values["statement"])


def test_a_truncated_table_is_never_proven(
    start: Callable[..., Process], target: EnterpriseTable, database_url: str
) -> None:
    """TRUNCATE is not MVCC-safe: no run may read the emptied table as its snapshot.

    It waits for the run, which stops; a resume compares the items with zero rows.
    """
    run = start(*migrate("--workers", "2"))
    await_items(target, 200)
    SourceDatabase(database_url).run("TRUNCATE enterprises")
    stopped, values, errors = ended(run)
    refused, _, _ = ended(start(*migrate("--resume", "last")))
    resume = migrate("--resume", "last", "--allow-empty")
    different, resumed, _ = ended(start(*resume))

    assert (stopped, values["status"]) == (4, "incomplete"), errors
    assert refused == 2
    assert (different, resumed["status"]) == (3, "unproven")
    assert resumed["reconciliation"]["extra"] >= 200


@pytest.mark.parametrize("since", [None, "2001-01-01T00:00:00Z"])
def test_a_table_rewritten_before_its_lock_is_not_read_as_empty(
    start: Callable[..., Process],
    target: EnterpriseTable,
    database_url: str,
    since: str | None,
) -> None:
    """A snapshot older than a rewriting ALTER sees no row: the run takes another.

    The run waits for the lock of the ALTER after it has taken its snapshot.
    """
    options = ["--since", since] if since else ["--allow-empty"]
    with closing(psycopg2.connect(database_url)) as other:
        other.cursor().execute(REWRITE)
        run = start(*migrate(*options))
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        database = SourceDatabase(database_url)
        end = time.monotonic() + SECONDS
        while not database.ask(waiting):
            assert time.monotonic() < end, "it does not wait"
            time.sleep(0.02)
        other.commit()
    code, values, errors = ended(run)

    assert (code, values["source"]["rows"]) == (0, ROWS), errors
    found = enterprises(target.client, target.name)
    assert found == expected_items(database_url)


@pytest.mark.parametrize(
    "command",
    [
        migrate(),
        migrate("--dry-run"),
        ("validate", "--json"),
        ("validate", "--source", "--sample", "10", "--json"),
        ("plan", "--json"),
        ("plan", "--estimate", "--json"),
        ("reconcile", "--json"),
    ],
)
def test_a_lock_that_is_held_refuses_a_command(
    start: Callable[..., Process],
    target: EnterpriseTable,
    database_url: str,
    command: tuple[str, ...],
) -> None:
    """Each command ends with 2 before its first write, and names the lock's holder."""
    with holding_lock(database_url) as pid:
        code, values, errors = ended(start(*command))

    assert code == 2, errors
    assert values["status"] == "refused"
    message = values["error"]["message"]
    assert f"session {pid}" in message
    assert "application dba" in message
    assert "LOCK" in message
    assert f"pg_terminate_backend({pid})" in values["error"]["remedy"]
    assert target.get_own(LEASE) is None
