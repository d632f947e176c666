"""Real services for the tests: each starts when the first test asks for it."""

import hashlib
import http.client
import os
import secrets
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import (
    AbstractContextManager,
    ExitStack,
    closing,
    contextmanager,
    suppress,
)
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import psycopg2
import pytest

from flows.stores.embedded import (
    EmbeddedStore,
    embedded_dynamodb,
    embedded_postgres,
)

CACHE = Path(__file__).parents[1] / ".cache" / "dynamodb-local"
SIMULATOR = "amplify-dynamodb-simulator"
SIMULATOR_VERSION = "2.9.30"
SIMULATOR_SHA256 = "3503ffac19f183407909fecdacf4db51ab1fdad1da7b2f177016670b2d80e4b9"
START_SECONDS = 60

# Kills Java when this process ends for any reason: `read` then meets end of input.
WITH_PARENT = '"$@" & read -r _; kill -9 "$!"'

STRAY_PREFIXES = ("AWS_", "PG", "DYNAMODB_", "SOURCE_", "API_")
STRAY_NAMES = {
    "DATABASE_URL",
    "STORAGE_MODE",
    "STATE_URL",
    "RUNS_DIR",
    "MAPPING_FILE",
    "DASK_SCHEDULER_ADDRESS",
    "ALERT_WEBHOOK_URL",
    "ITEM_PROVENANCE",
    "ID_NAMESPACE",
    "LEASE_SECONDS",
    "SENDERS",
    "PORT",
    "ALLOW_ANONYMOUS",
    "CORS_ORIGINS",
    "PREFECT_API_URL",
    "PREFECT_PROFILE",
}


def pytest_configure(config: pytest.Config) -> None:
    """Give Prefect a separate home before a test module imports it."""
    home = tempfile.mkdtemp(prefix="prefect-")
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    patch.setenv("PREFECT_HOME", home)
    patch.delenv("PREFECT_API_URL", raising=False)
    patch.delenv("PREFECT_PROFILE", raising=False)


def pytest_xdist_auto_num_workers() -> int:
    """Use twice as many workers as cores: tests wait for their stores."""
    return 2 * (os.cpu_count() or 1)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Isolate every test from real stores and the machine's settings and folders."""
    for name in list(os.environ):
        if name.upper().startswith(STRAY_PREFIXES) or name.upper() in STRAY_NAMES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Run PostgreSQL; yield the URL of its database `postgres`."""
    with started(embedded_postgres()) as store:
        yield store.url


@pytest.fixture
def database_url(postgres_server: str) -> Iterator[str]:
    """Create an empty database for one test; yield its URL."""
    name = f"test_{uuid.uuid4().hex}"
    execute(postgres_server, f"CREATE DATABASE {name}")
    try:
        yield urlsplit(postgres_server)._replace(path=f"/{name}").geturl()
    finally:
        execute(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


def execute(url: str, statement: str) -> None:
    """Run one statement outside any transaction."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """Run moto's DynamoDB; yield its endpoint."""
    with started(embedded_dynamodb()) as store:
        yield store.url


@contextmanager
def started(store: AbstractContextManager[EmbeddedStore]) -> Iterator[EmbeddedStore]:
    """Run an embedded store without coverage, which makes moto slow."""
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
            running = stack.enter_context(store)
        yield running


@pytest.fixture(scope="session")
def dynamodb_local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run AWS's own DynamoDB Local; yield its endpoint."""
    require("sh", "java")
    log = tmp_path_factory.mktemp("dynamodb-local") / "log"
    port = free_port()
    with running_java(simulator() / "emulator", port, log):
        await_http(port, log)
        yield f"http://127.0.0.1:{port}"


def require(*programs: str) -> None:
    """Skip when a program that DynamoDB Local needs is missing."""
    for program in programs:
        if shutil.which(program) is None:
            skip_or_fail(f"DynamoDB Local needs {program}, which is not installed")


def skip_or_fail(reason: str) -> NoReturn:
    """Skip on a developer's machine; fail if everything must be tested."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def simulator() -> Path:
    """Return the unpacked npm package, fetched once for all runs.

    Two runs may fetch at once: the folder is complete, since it is renamed into place.
    """
    folder = CACHE / SIMULATOR_VERSION
    if folder.exists():
        return folder
    require("npm")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        with tarfile.open(pack_simulator(Path(scratch))) as tarball:
            tarball.extractall(scratch, filter="data")
        try:
            Path(scratch, "package").rename(folder)
        except OSError:
            # Another run was faster.
            if not folder.exists():
                raise
    return folder


def pack_simulator(folder: Path) -> Path:
    """Fetch the tarball with npm and verify its digest."""
    package = f"{SIMULATOR}@{SIMULATOR_VERSION}"
    command = ["npm", "pack", package, "--ignore-scripts", "--pack-destination", "."]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        skip_or_fail(f"DynamoDB Local could not be fetched: {done.stderr}")
    tarball = folder / f"{SIMULATOR}-{SIMULATOR_VERSION}.tgz"
    assert hashlib.sha256(tarball.read_bytes()).hexdigest() == SIMULATOR_SHA256
    return tarball


@contextmanager
def running_java(emulator: Path, port: int, log: Path) -> Iterator[None]:
    """Run DynamoDB Local, in memory, until the end of the block."""
    # One compiler instead of two halves the start time; no concurrent collector runs.
    java = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    java += [f"-Djava.io.tmpdir={log.parent}"]
    library = f"-Djava.library.path={emulator / 'DynamoDBLocal_lib'}"
    jar = ["-jar", str(emulator / "DynamoDBLocal.jar")]
    # Without a network, the start would wait for the telemetry.
    options = ["-inMemory", "-sharedDb", "-disableTelemetry", "-port", str(port)]
    with (
        log.open("w") as output,
        subprocess.Popen(
            ["sh", "-c", WITH_PARENT, "sh", *java, library, *jar, *options],
            cwd=log.parent,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ),
    ):
        yield


def free_port() -> int:
    """Return an unused port; DynamoDB Local refuses 0.

    It is below the ephemeral ports: the system could give one of those to a connection
    before a program that starts slowly listens on it.
    """
    while True:
        port = secrets.choice(range(20_000, 32_000))
        with suppress(OSError), closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", port))
            return port


def await_http(port: int, log: Path) -> None:
    """Wait until the port gives any answer."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with (
            suppress(OSError, http.client.HTTPException),
            closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as local,
        ):
            local.request("GET", "/")
            local.getresponse().read()
            return
        time.sleep(0.1)
    pytest.fail(f"DynamoDB Local did not answer:\n{log.read_text()}")


@pytest.fixture(params=["moto", "dynamodb-local"])
def endpoint(request: pytest.FixtureRequest) -> str:
    """Return the endpoint of each DynamoDB in turn."""
    fixtures = {"moto": "moto_endpoint", "dynamodb-local": "dynamodb_local"}
    url: str = request.getfixturevalue(fixtures[request.param])
    return url


@pytest.fixture
def table_name() -> str:
    """Return a table name that no other test uses."""
    return f"Test-{uuid.uuid4().hex}"


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Return a port of this machine that refuses connections."""
    with closing(socket.socket()) as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
