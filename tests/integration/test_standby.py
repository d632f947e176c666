"""A hot standby as the source: read under one snapshot, and lost when it must be."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flows import pipeline
from flows.errors import SourceLost
from flows.models import Ledger, MigrateOptions, PartitionLedger, PartitionSpec
from flows.stores.postgres.session import open_source
from flows.stores.postgres.snapshots import export_snapshot, read_watermark
from tests.support.runners import running
from tests.support.serving import service_of
from tests.support.source_database import SourceDatabase
from tests.support.standby import Standby, running_standby

pytestmark = pytest.mark.parametrize("endpoint", ["moto"], indirect=True)

# What no reader of a snapshot can do without.
DELETE = "DELETE FROM public.enterprises WHERE id = 42"
VACUUM = "VACUUM (FREEZE) public.enterprises"


@pytest.fixture(scope="module")
def standby(postgres_server: str) -> Iterator[Standby]:
    """Run a standby of the tests' server."""
    with running_standby(postgres_server) as running:
        yield running


@pytest.fixture
def followed(source: str, standby: Standby, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name the source in the environment, as it is at the standby."""
    url = standby.source(source)
    monkeypatch.setenv("DATABASE_URL", url)
    return url


def clean_up(standby: Standby, source: str) -> None:
    """Have the primary delete a row, and the standby forget it."""
    SourceDatabase(source).run(DELETE, VACUUM)
    standby.follow()


def be_serializable(source: str) -> None:
    """Have the source's transactions serializable by default: a standby has none."""
    database = SourceDatabase(source).ask("SELECT current_database()")
    serializable = "SET default_transaction_isolation = serializable"
    SourceDatabase(source).run(f"ALTER DATABASE {database} {serializable}")


@pytest.mark.usefixtures("table")
def test_a_standby_is_moved_and_proven(
    source: str, standby: Standby, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where in the log it was read must be told, whatever the database's default is."""
    be_serializable(source)
    monkeypatch.setenv("DATABASE_URL", standby.source(source))

    report = pipeline.migrate(MigrateOptions(partition_rows=2))

    assert report.status == "proven", report.findings
    assert report.ledger == Ledger(read=5, written=5)
    assert ", LSN " in report.snapshot


@pytest.mark.usefixtures("table")
def test_a_standby_is_served(source: str, standby: Standby) -> None:
    """Whoever reads is answered, and whoever writes is told to come back."""
    be_serializable(source)
    settings = SourceDatabase(standby.source(source)).settings(storage_mode="postgres")
    with service_of(settings) as service:
        written = service.client.post("/api/enterprises", json={"name": "New"})

        assert len(service.listed()) == 5
        assert written.status_code == 503


@pytest.mark.usefixtures("table")
def test_a_watermark_of_a_standby_is_an_hour_old(followed: str) -> None:
    """Who else's transactions are open on the primary is not seen here."""
    with open_source(SourceDatabase(followed).settings()) as connection:
        watermark = datetime.fromisoformat(read_watermark(connection))

    assert watermark < datetime.now(UTC) - timedelta(minutes=59)


@pytest.mark.usefixtures("table")
def test_a_conflict_with_recovery_ends_the_session(
    source: str, followed: str, standby: Standby
) -> None:
    """What the primary cleaned up was not read to its end: the primary is named."""

    def read_late() -> None:
        with open_source(SourceDatabase(followed).settings()) as connection:
            export_snapshot(connection)
            clean_up(standby, source)
            connection.cursor().execute("SELECT count(*) FROM public.enterprises")

    with pytest.raises(SourceLost) as lost:
        read_late()

    assert lost.value.exit_code == 4
    assert "on the primary if this is a standby" in lost.value.remedy


@pytest.mark.usefixtures("followed", "table")
def test_a_run_goes_on_after_a_conflict(
    source: str, standby: Standby, items: Callable[[], dict[str, Any]]
) -> None:
    """It takes a new snapshot, keeps what was done, and is proven for the new one."""
    runs: list[int] = []

    def each(
        function: Callable[[PartitionSpec], PartitionLedger],
        specs: Sequence[PartitionSpec],
    ) -> Iterable[PartitionLedger]:
        runs.append(len(specs))
        yield function(specs[0])
        if len(runs) == 1:
            clean_up(standby, source)
        yield from map(function, specs[1:])

    options = MigrateOptions(partition_rows=2, propagate_deletes=1)
    report = pipeline.migrate(options, runner=running(each))

    assert runs == [3, 2]
    assert report.resumed
    assert report.status == "proven", report.findings
    assert report.ledger.read == 4
    assert "Acme GmbH" not in {i["name"]["S"] for i in items().values() if "name" in i}
