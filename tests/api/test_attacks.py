"""The service while its clients or its store delay it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from typing import Any, cast

import httpx
import psycopg2
import pytest

from flows.api.connections import LimitedConnection
from flows.api.store import Enterprise, EnterpriseStore
from flows.api.turns import TURNS
from flows.settings import Settings
from flows.stores.embedded import embedded_postgres
from tests.support.fault_proxy import FaultProxy
from tests.support.faults import delay
from tests.support.frozen import frozen
from tests.support.served import SECONDS, WITH_FILES, Served, environment, served
from tests.support.serving import SCHEMA, STAMP, item_of, put_items, serving
from tests.support.source_database import SourceDatabase

PATH = "/api/enterprises"
HALF_SENT = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Half: "
HALF_BODY = (
    b"POST /api/enterprises HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
)
SERVER_PID = """
SELECT (string_to_array(pg_read_file('postmaster.pid'), chr(10)))[1]::int
"""


class Impatient(LimitedConnection):
    """A connection with a client limit of half a second."""

    client_seconds = 0.5


class HangingStore:
    """A store that answers only when released."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.asked = 0

    def get(self, *_: object, **__: object) -> Enterprise:
        """Answer when released."""
        self.asked += 1
        assert self.may.wait(SECONDS)
        return Enterprise("1", "x" * 1000, STAMP, STAMP)

    def find(self, **_: object) -> list[Enterprise]:
        """Return more than fits into the buffers of a connection."""
        return [Enterprise(str(n), "x" * 1000, STAMP, STAMP) for n in range(20_000)]

    def close(self) -> None:
        """Close nothing."""


@pytest.fixture
def store() -> Iterator[HangingStore]:
    """Return a store that hangs no longer than the test."""
    hanging = HangingStore()
    yield hanging
    hanging.may.set()


@pytest.fixture
def impatient(store: HangingStore) -> Iterator[httpx.Client]:
    """Serve clients with a limit of half a second."""
    any_store = cast("EnterpriseStore", cast("Any", store))
    with serving(Settings.isolated(), any_store, http=Impatient) as client:
        yield client


def connect(client: httpx.Client, receiving: int | None = None) -> socket.socket:
    """Open a connection to a service."""
    connection = socket.socket()
    if receiving is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receiving)
    connection.settimeout(SECONDS)
    connection.connect((client.base_url.host, client.base_url.port))
    return connection


def read_to_end(connection: socket.socket) -> bytes:
    """Read until the other side closes."""
    parts = []
    with suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(
    ("sent", "answer"),
    [(b"", b""), (HALF_SENT, b"HTTP/1.1 408 "), (HALF_BODY, b"HTTP/1.1 408 ")],
    ids=["idle", "half a head", "half a body"],
)
def test_a_request_that_does_not_come_is_given_up(
    impatient: httpx.Client, sent: bytes, answer: bytes
) -> None:
    """Silence or half a request must not keep a connection open."""
    with closing(connect(impatient)) as connection:
        connection.sendall(sent)

        assert read_to_end(connection)[:13] == answer


def test_a_request_that_comes_in_drops_is_given_up(impatient: httpx.Client) -> None:
    """Single bytes must not extend the time limit of the whole request."""
    answered = b""
    with closing(connect(impatient)) as connection:
        connection.sendall(HALF_SENT)
        deadline = time.monotonic() + SECONDS
        connection.settimeout(0.1)
        while not answered and time.monotonic() < deadline:
            connection.sendall(b"x")
            try:
                answered = connection.recv(13)
            except TimeoutError:
                continue

    assert answered == b"HTTP/1.1 408 "


def test_a_second_request_has_a_time_as_the_first(impatient: httpx.Client) -> None:
    """A whole request must be answered, and half a request after it given up."""
    with closing(connect(impatient)) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 200"
        connection.sendall(HALF_SENT)

        assert b"HTTP/1.1 408 " in read_to_end(connection)


def test_an_answer_that_nobody_reads_is_given_up(impatient: httpx.Client) -> None:
    """A client that reads nothing must lose the connection; a slow one must not."""
    request = f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with ExitStack() as stack:
        slow, stopped = (
            stack.enter_context(closing(connect(impatient, receiving=65_536)))
            for _ in range(2)
        )
        for connection in (slow, stopped):
            connection.sendall(request.encode())
        read = 0
        for _ in range(8):
            time.sleep(0.2)
            read += len(slow.recv(400_000, socket.MSG_WAITALL))
        whole = read + len(read_to_end(slow))
        part = len(read_to_end(stopped))

    assert part < 20_000_000 < whole


def test_a_request_under_way_may_take_its_time(
    impatient: httpx.Client, store: HangingStore
) -> None:
    """The client's limit must not apply to the store: a whole request must wait."""
    threading.Timer(1.5, store.may.set).start()

    assert impatient.get(f"{PATH}/1").status_code == 200


def test_a_store_that_hangs_is_asked_no_more(store: HangingStore) -> None:
    """Further requests must be refused at once with Retry-After, and served later."""
    any_store = cast("EnterpriseStore", cast("Any", store))
    with serving(Settings.isolated(), any_store) as client:
        ask: Callable[[int], httpx.Response] = lambda _: client.get(f"{PATH}/1")  # noqa: E731
        with ThreadPoolExecutor(TURNS) as pool:
            hanging = [pool.submit(ask, n) for n in range(TURNS)]
            await_that(lambda: store.asked == TURNS)
            refused = [ask(n) for n in range(20)]
            ready, health = client.get("/ready"), client.get("/health")
            page = client.get("/docs/swagger-ui.css")
            store.may.set()
            answered = [each.result() for each in hanging]
        after = ask(0)

    assert {(r.status_code, r.headers["retry-after"]) for r in refused} == {(503, "1")}
    assert refused[0].headers["content-type"] == "application/problem+json"
    assert [r.status_code for r in (ready, health, page, after)] == [503, 200, 200, 200]
    assert {r.status_code for r in answered} == {200}
    assert store.asked == TURNS + 1


def test_many_at_once_are_served_by_a_store_that_is_well(
    table_settings: Settings,
) -> None:
    """If there are more requests than turns, they must wait, and none be refused."""
    put_items(table_settings, item_of("1", "Acme"))
    with serving(table_settings) as client, ThreadPoolExecutor(2 * TURNS) as pool:
        # A new connection for each: an idle one may be closed meanwhile.
        client.headers["Connection"] = "close"
        statuses = Counter(
            pool.map(lambda _: client.get(f"{PATH}/1").status_code, range(10 * TURNS))
        )

    assert statuses == {200: 10 * TURNS}


def await_that(is_so: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("sent", [b"", HALF_SENT, HALF_BODY], ids=range(3))
def test_connections_that_wait_do_not_take_the_service_away(
    table_settings: Settings, sent: bytes
) -> None:
    """With more connections than files, a new client must still get an answer."""
    put_items(table_settings, item_of("1", "Acme"))
    with (
        served(environment(table_settings), files=256) as service,
        ExitStack() as stack,
    ):
        for _ in range(400):
            connection = stack.enter_context(closing(connect(service.client)))
            connection.sendall(sent)
        for _ in range(20):
            answer = httpx.get(
                f"{service.started['url']}{PATH}/1", timeout=SECONDS, trust_env=False
            )
            assert answer.status_code == 200
        log = service.log.read_text("utf-8")

    assert len(log) < 50_000
    assert "Traceback" not in log


def test_too_few_files_for_the_store_are_refused(table_settings: Settings) -> None:
    """If connections would use the store's files, the error must name the limit."""
    command = [sys.executable, "-m", "flows.cli", "serve", "--json"]
    done = subprocess.run(
        ["sh", "-c", WITH_FILES.format(64), "sh", *command],
        env=os.environ | environment(table_settings),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2, done.stderr
    assert "only 64 files (ulimit -n)" in json.loads(done.stdout)["error"]["message"]


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[str]:
    """Run a PostgreSQL that tests may freeze; yield its URL."""
    with embedded_postgres() as store:
        SourceDatabase(store.url).run(SCHEMA)
        yield store.url


def server_of(url: str) -> int:
    """Return the id of the main process of a PostgreSQL."""
    return int(SourceDatabase(url).ask(SERVER_PID))


def of_postgres(url: str) -> dict[str, str]:
    """Return the variables of a service over PostgreSQL."""
    return environment(Settings.isolated(storage_mode="postgres", database_url=url)) | {
        "DATABASE_URL": url
    }


def ask_at_once(service: Served, count: int) -> list[httpx.Response]:
    """Send requests at once; return the answers."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: service.client.get(PATH), range(count)))


def test_a_frozen_database_is_503_and_then_well_again(own_postgres: str) -> None:
    """Requests over open connections must be given up, and new ones be opened."""
    with served(of_postgres(own_postgres)) as service:
        assert service.client.get(PATH).status_code == 200
        with frozen(server_of(own_postgres), children=True):
            answers = ask_at_once(service, 8)
            assert service.client.get("/health").status_code == 200
        assert {each.status_code for each in answers} == {503}
        assert {each.headers["retry-after"] for each in answers} <= {"1", "5"}
        assert service.client.get(PATH).status_code == 200


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Return a port that accepts connections and sends nothing."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=100)) as listening:
        yield listening.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_requests_do_not_queue_for_a_silent_database(
    silent_port: int, workers: int
) -> None:
    """All first requests must be answered in the time of one, and a stop take effect.

    In sequence they would take eight times as long.
    """
    variables = of_postgres(f"postgresql://u@127.0.0.1:{silent_port}/db")
    variables |= {"API_CURSOR_KEY": "of-this-test"}
    with served(variables, "--workers", str(workers)) as service:
        began = time.monotonic()
        answers = ask_at_once(service, 8)
        took = time.monotonic() - began
        asking = threading.Thread(target=ask_at_once_quietly, args=[service, 8])
        asking.start()
        time.sleep(0.5)
        stopped = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(SECONDS) == 0
        stopping = time.monotonic() - stopped
        asking.join()

    assert {each.status_code for each in answers} == {503}
    assert took < 25
    assert stopping < 20


def ask_at_once_quietly(service: Served, count: int) -> None:
    """Send requests that may be cut off."""
    with suppress(httpx.TransportError):
        ask_at_once(service, count)


@pytest.mark.slow
def test_a_stop_does_not_wait_for_a_store_that_hangs(
    moto_endpoint: str, table_settings: Settings
) -> None:
    """The process must end with 0, even with hanging clients."""
    with FaultProxy(moto_endpoint) as proxy:
        proxy.add(delay(12), operation="GetItem")
        variables = environment(table_settings, DYNAMODB_ENDPOINT=proxy.url)
        with served(variables) as service, ExitStack() as stack:
            for sent in (b"", HALF_SENT, HALF_BODY):
                connection = stack.enter_context(closing(connect(service.client)))
                connection.sendall(sent)
            hanging = stack.enter_context(closing(connect(service.client)))
            hanging.sendall(
                f"GET {PATH}/1 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            )
            await_that(lambda: bool(proxy.calls_of("GetItem")))
            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(25) == 0


def test_an_altered_table_is_looked_at_again(postgres_settings: Settings) -> None:
    """A renamed column must be served without a restart."""
    assert postgres_settings.database_url is not None
    source = SourceDatabase(postgres_settings.database_url.get_secret_value())
    with serving(postgres_settings) as client:
        assert client.post(PATH, json={"name": "Acme"}).status_code == 201
        source.run("ALTER TABLE enterprises RENAME name TO enterprise_name")
        statuses = [client.get(PATH).status_code for _ in range(2)]

    assert statuses == [503, 200]


def test_neither_waits_for_the_other_that_alters_the_table(
    postgres_settings: Settings,
) -> None:
    """A held lock must give 503, and the service must hold none that blocks others."""
    assert postgres_settings.database_url is not None
    source = SourceDatabase(postgres_settings.database_url.get_secret_value())
    with serving(postgres_settings) as client:
        assert client.post(PATH, json={"name": "Acme"}).status_code == 201
        assert client.get(PATH).status_code == 200
        source.run(
            "SET lock_timeout = '1s'", "ALTER TABLE enterprises ADD COLUMN note text"
        )
        with closing(psycopg2.connect(source.url)) as other:
            other.cursor().execute("LOCK TABLE enterprises")
            answers = [client.get(PATH), client.post(PATH, json={"name": "B"})]
        after = client.get(PATH)

    assert [each.status_code for each in answers] == [503, 503]
    assert [each["name"] for each in after.json()] == ["Acme"]
