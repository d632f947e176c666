"""The sessions that a run needs: a lack is detected before the first write."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.doctor.diagnosis import CheckContext, Finding, Status
from flows.doctor.source import check_postgresql
from flows.errors import Refused, SourceError
from flows.models import MigrateOptions, PartitionSpec
from flows.pipeline import migrate
from flows.run import partition
from flows.run.start import check_run
from flows.settings import load_settings
from flows.state.runs import State
from flows.stores.dynamodb.backoff import Backoff
from flows.stores.dynamodb.table import EnterpriseTable
from flows.stores.postgres.schema import describe_source
from flows.stores.postgres.session import open_source
from flows.stores.postgres.snapshots import export_snapshot
from tests.support.source_database import SourceDatabase, new_role
from tests.support.standby import running_standby

COUNT = "SELECT count(*) FROM public.enterprises"
LIMITS = {
    "role": "ALTER ROLE {role} CONNECTION LIMIT {limit}",
    "database": "ALTER DATABASE {database} CONNECTION LIMIT {limit}",
}


@pytest.fixture
def endpoint(moto_endpoint: str) -> str:
    """Return moto's endpoint, since no write is tested here."""
    return moto_endpoint


@pytest.fixture
def reader(source: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Read the source as a role that has only this privilege."""
    owner = SourceDatabase(source)
    with new_role(owner) as role:
        owner.run(f"GRANT SELECT ON public.enterprises TO {role}")
        monkeypatch.setenv("DATABASE_URL", owner.as_user(role).url)
        yield role


@contextmanager
def limited(source: str, kind: str, role: str, limit: int) -> Iterator[None]:
    """Limit the sessions of a role or a database for the length of a block."""
    database = SourceDatabase(source)
    names = {"role": role, "database": database.ask("SELECT current_database()")}
    database.run(LIMITS[kind].format(limit=limit, **names))
    try:
        yield
    finally:
        database.run(LIMITS[kind].format(limit=-1, **names))


def doctored() -> Finding:
    """Return the doctor's finding about PostgreSQL."""
    context = CheckContext()
    context.settings = load_settings()
    with context.opened:
        return check_postgresql(context)


@pytest.mark.parametrize("kind", LIMITS)
def test_too_few_sessions_are_refused_before_the_first_write(
    source: str, table: EnterpriseTable, reader: str, kind: str
) -> None:
    """One holds the snapshot, one detects waiting sessions, and each worker has one."""
    with limited(source, kind, reader, 2):
        for refused in (
            doctored,
            lambda: check_run(MigrateOptions()),
            lambda: migrate(MigrateOptions()),
        ):
            with pytest.raises(SourceError, match="needs 3 sessions") as caught:
                refused()
            assert f"ALTER {kind.upper()} " in caught.value.remedy
            assert "CONNECTION LIMIT" in caught.value.remedy

    assert table.client.scan(TableName=table.name)["Count"] == 0
    assert State.open(load_settings()).source.quarantines() == []


@pytest.mark.usefixtures("table")
def test_a_run_counts_the_sessions_of_its_workers(source: str, reader: str) -> None:
    """Each worker of `--workers` needs one more; a sufficient limit is not refused."""
    with limited(source, "role", reader, 3):
        assert doctored().status is Status.OK
        assert migrate(MigrateOptions(workers=1)).status == "proven"
        with pytest.raises(SourceError, match=r"needs 5 sessions .* only 3 can"):
            check_run(MigrateOptions(workers=3, partition_rows=1))


@pytest.mark.parametrize("limit", [4, 5, 6])
def test_the_sessions_of_the_state_are_counted(
    source: str,
    table: EnterpriseTable,
    reader: str,
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
) -> None:
    """A state on the same server uses sessions within the same limits."""
    SourceDatabase(source).run(f"GRANT CREATE ON SCHEMA public TO {reader}")
    monkeypatch.setenv("STATE_URL", SourceDatabase(source).as_user(reader).url)
    with limited(source, "role", reader, limit):
        if limit == 6:
            assert migrate(MigrateOptions(workers=1)).status == "proven"
            return
        with pytest.raises(Refused, match="too many connections") as caught:
            migrate(MigrateOptions(workers=1))

    assert "CONNECTION LIMIT" in caught.value.remedy
    assert table.client.scan(TableName=table.name)["Count"] == 0


def test_a_session_that_is_refused_meanwhile_is_asked_for_again(
    source: str, reader: str
) -> None:
    """Ended sessions count for a moment longer: one refusal must be retried."""
    settings, owner = load_settings(), SourceDatabase(source)

    class Lifting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert "too many connections" in record.getMessage()
            owner.run(f"ALTER ROLE {reader} CONNECTION LIMIT -1")

    lifting, log = Lifting(), logging.getLogger("flows.run.partition")
    log.addHandler(lifting)
    try:
        with open_source(settings) as connection:
            described = describe_source(connection, settings)
            snapshot, _ = export_snapshot(connection)
            spec = PartitionSpec("run", 1, described, snapshot=snapshot)
            owner.run(f"ALTER ROLE {reader} CONNECTION LIMIT 1")
            rows = partition._read_rows(settings, spec, Backoff(None))
    finally:
        log.removeHandler(lifting)

    assert len(rows) == owner.ask(COUNT)


@pytest.mark.usefixtures("table")
def test_a_repair_that_can_read_nothing_is_refused(source: str, reader: str) -> None:
    """A repair reads its rows in another session, before it takes the lease."""
    with limited(source, "role", reader, 2):
        command = ["reconcile", "--repair", "--yes", "--json"]
        result = CliRunner().invoke(app, command)

    assert result.exit_code == 2
    assert "needs 3 sessions" in result.output


@pytest.mark.usefixtures("table")
def test_a_name_of_several_servers_is_refused(
    postgres_server: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A primary and its standby share a name, but no snapshots."""
    with running_standby(postgres_server) as standby:
        ports = [
            SourceDatabase(url).ask("SHOW port")
            for url in (source, standby.source(source))
        ]
        url, _, _ = source.rpartition("&port=")
        folder = url.rpartition("host=")[2]
        both = f"{url},{folder}&port={','.join(ports)}&load_balance_hosts=random"
        monkeypatch.setenv("DATABASE_URL", both)

        def thrice(check: Callable[[], object]) -> None:
            # At random one server may answer a whole round.
            for _ in range(3):
                check()

        for check in (doctored, lambda: check_run(MigrateOptions())):
            with pytest.raises(SourceError, match="is several servers") as caught:
                thrice(check)
            assert "Name one of them" in caught.value.remedy


@pytest.mark.usefixtures("table")
def test_several_hosts_of_which_one_answers_are_one_server(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of hosts, tried in order, leads to one server."""
    url, _, port = source.rpartition("&port=")
    folder = url.rpartition("host=")[2]
    monkeypatch.setenv("DATABASE_URL", f"{url},{folder}&port={port},1")

    check_run(MigrateOptions())
