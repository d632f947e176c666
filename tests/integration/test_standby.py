"""A hot standby as the source: reads in one snapshot, and recovery conflicts."""

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

# Together they remove a row that a reader of an older snapshot needs.
DELETE = "DELETE FROM public.enterprises WHERE id = 42"
VACUUM = "VACUUM (FREEZE) public.enterprises"


@pytest.fixture(scope="module")
def standby(postgres_server: str) -> Iterator[Standby]:
    """Run a standby of the tests' server."""
    with running_standby(postgres_server) as running:
        yield running


@pytest.fixture
def followed(source: str, standby: Standby, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name the standby's copy of the source in the environment."""
    url = standby.source(source)
    monkeypatch.setenv("DATABASE_URL", url)
    return url


def clean_up(standby: Standby, source: str) -> None:
    """Delete a row on the primary, and remove it from the standby."""
    SourceDatabase(source).run(DELETE, VACUUM)
    standby.follow()


def be_serializable(source: str) -> None:
    """Set the source's default isolation to serializable, which no standby supports."""
    database = SourceDatabase(source).ask("SELECT current_database()")
    serializable = "SET default_transaction_isolation = serializable"
    SourceDatabase(source).run(f"ALTER DATABASE {database} {serializable}")


@pytest.mark.usefixtures("table")
def test_a_standby_is_moved_and_proven(
    source: str, standby: Standby, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report must have the log position, whatever the database's default is."""
    be_serializable(source)
    monkeypatch.setenv("DATABASE_URL", standby.source(source))

    report = pipeline.migrate(MigrateOptions(partition_rows=2))

    assert report.status == "proven", report.findings
    assert report.ledger == Ledger(read=5, written=5)
    assert ", LSN " in report.snapshot


@pytest.mark.usefixtures("table")
def test_a_standby_is_served(source: str, standby: Standby) -> None:
    """Reads are answered, and writes get a 503."""
    be_serializable(source)
    settings = SourceDatabase(standby.source(source)).settings(storage_mode="postgres")
    with service_of(settings) as service:
        written = service.client.post("/api/enterprises", json={"name": "New"})

        assert len(service.listed()) == 5
        assert written.status_code == 503


@pytest.mark.usefixtures("table")
def test_a_watermark_of_a_standby_is_an_hour_old(followed: str) -> None:
    """Open transactions on the primary are invisible on the standby."""
    with open_source(SourceDatabase(followed).settings()) as connection:
        watermark = datetime.fromisoformat(read_watermark(connection))

    assert watermark < datetime.now(UTC) - timedelta(minutes=59)


@pytest.mark.usefixtures("table")
def test_a_conflict_with_recovery_ends_the_session(
    source: str, followed: str, standby: Standby
) -> None:
    """The primary removed rows before they were read: the remedy names the primary."""

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
    """It takes a new snapshot, keeps finished work, and is proven for the new one."""
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
