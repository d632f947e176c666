"""``enterprises serve`` as a process: refusals, start and stop."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing

import httpx
import pytest
from psycopg2.extensions import get_wait_callback
from typer.testing import CliRunner

from flows.api import server
from flows.cli.app import app
from flows.settings import Settings
from tests.conftest import free_port
from tests.support.fault_proxy import FaultProxy
from tests.support.faults import delay
from tests.support.served import SECONDS, environment, served
from tests.support.serving import item_of, put_items

PATH = "/api/enterprises"
FRAMES = {"prefect", "great_expectations", "pandas", "pyarrow", "numpy", "validation"}


@pytest.mark.parametrize(
    ("variables", "options", "named"),
    [
        ({}, ["--host", "0.0.0.0"], "API_TOKEN"),  # noqa: S104
        ({}, ["--host", "::"], "API_TOKEN"),
        ({"API_TOKEN": ""}, ["--host", "localhost.example"], "API_TOKEN"),
        ({}, ["--workers", "2"], "API_CURSOR_KEY"),
        ({"STORAGE_MODE": "dynamo"}, [], "STORAGE_MODE"),
        ({"STORAGE_MODE": ""}, [], "STORAGE_MODE"),
        ({"STORAGE_MODE": "DYNAMODB"}, [], "STORAGE_MODE"),
        ({"CORS_ORIGINS": "app.example.com"}, [], "CORS_ORIGINS"),
        ({"STORAGE_MODE": "postgres", "DATABASE_URL": ""}, [], "DATABASE_URL"),
        ({"AWS_REGION": "", "DYNAMODB_ENDPOINT": ""}, [], "AWS_REGION"),
        ({"DYNAMODB_ENDPOINT": "http://db.example"}, [], "--allow-insecure-endpoint"),
    ],
    ids=range(11),
)
def test_what_is_unsafe_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
    table_settings: Settings,
    variables: dict[str, str],
    options: list[str],
    named: str,
) -> None:
    """It must exit with 2 before it listens, and name the setting; COPY still works."""
    for name, value in (environment(table_settings) | variables).items():
        monkeypatch.setenv(name, value)

    result = CliRunner().invoke(app, ["serve", "--json", *options])

    assert result.exit_code == 2, result.output
    error = json.loads(result.stdout)["error"]
    assert named in error["message"] + error["remedy"]
    assert get_wait_callback() is None


def test_a_port_in_use_is_named(
    monkeypatch: pytest.MonkeyPatch, table_settings: Settings
) -> None:
    """The error must name the port if another program uses it."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        for name, value in environment(table_settings, PORT=port).items():
            monkeypatch.setenv(name, value)

        result = CliRunner().invoke(app, ["serve", "--json"])

    assert result.exit_code == 2
    assert port in json.loads(result.stdout)["error"]["message"]


def test_the_port_may_be_given(table_settings: Settings) -> None:
    """`--port` must win over PORT, and over `--set`."""
    port = free_port()
    options = ("--set", f"PORT={free_port()}", "--port", str(port))
    with served(environment(table_settings), *options) as service:
        assert service.started["url"] == f"http://127.0.0.1:{port}"
        assert service.client.get("/health").status_code == 200


@pytest.mark.parametrize("port", ["0", "65536", "http"])
def test_a_port_that_cannot_be_is_refused(port: str) -> None:
    """The error must name the option."""
    result = CliRunner().invoke(app, ["serve", "--json", "--port", port])

    assert result.exit_code == 2
    assert "--port" in json.loads(result.stdout)["error"]["message"]


def test_answers_do_not_wait_for_the_clients_ack() -> None:
    """Every connection must inherit TCP_NODELAY, or each answer takes 40 ms more."""
    with (
        server._bind("127.0.0.1", free_port()) as listening,
        socket.create_connection(listening.getsockname()),
    ):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_it_starts_without_what_only_the_pipeline_needs(
    table_settings: Settings, postgres_settings: Settings
) -> None:
    """Both stores must be served without Prefect, Great Expectations and pandas."""
    code = (
        "import sys\n"
        "from flows.api import app, dynamodb_store, postgres_store, server\n"
        "from flows.settings import load_settings\n"
        "app.create_app(load_settings()).openapi()\n"
        f"print(*{FRAMES!r} & set(sys.modules))"
    )
    url = postgres_settings.database_url
    assert url is not None
    for variables in (
        environment(table_settings),
        {"STORAGE_MODE": "postgres", "DATABASE_URL": url.get_secret_value()},
    ):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | variables,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_requests_be_answered(
    moto_endpoint: str, table_settings: Settings, number: signal.Signals
) -> None:
    """Active requests must be answered, no more accepted, and the exit code be 0."""
    put_items(table_settings, item_of("1", "Acme"))
    with FaultProxy(moto_endpoint) as proxy:
        proxy.add(delay(1.5), operation="GetItem")
        variables = environment(table_settings, DYNAMODB_ENDPOINT=proxy.url)
        with served(variables) as service:
            answers: list[httpx.Response] = []
            ask: Callable[[], None] = lambda: answers.append(  # noqa: E731
                service.client.get(f"{PATH}/1")
            )
            asking = threading.Thread(target=ask)
            asking.start()
            await_call(proxy)
            service.process.send_signal(number)
            asking.join()
            assert service.process.wait(SECONDS) == 0
            log = service.log.read_text("utf-8")

    assert [answer.status_code for answer in answers] == [200]
    assert "Traceback" not in log


def await_call(proxy: FaultProxy) -> None:
    """Wait until the request has reached the store."""
    deadline = time.monotonic() + SECONDS
    while not proxy.calls_of("GetItem"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_several_workers_know_each_others_cursors(table_settings: Settings) -> None:
    """Any worker must accept the cursor of a page from another worker."""
    put_items(table_settings, *(item_of(str(n), f"name {n}") for n in range(12)))
    variables = environment(table_settings, API_CURSOR_KEY="of-this-test")
    with served(variables, "--workers", "2") as service:
        met = []
        for _ in range(4):
            path = f"{PATH}?limit=2"
            while path:
                # A separate connection may reach either worker.
                headers = {"Connection": "close"}
                page = service.client.get(path, headers=headers)
                assert page.status_code == 200, page.text
                met += [e["id"] for e in page.json()]
                path = page.links.get("next", {}).get("url", "")
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(SECONDS) == 0

    assert sorted(met) == sorted([str(n) for n in range(12)] * 4)


def test_a_store_that_is_down_is_no_reason_not_to_start(
    table_settings: Settings,
) -> None:
    """The service must start, and `/ready` must be 503 until the store is back."""
    endpoint = f"http://127.0.0.1:{free_port()}"
    with served(environment(table_settings, DYNAMODB_ENDPOINT=endpoint)) as service:
        assert service.started["store"] == "dynamodb"
        ready = service.client.get("/ready")

    assert ready.status_code == 503
    assert endpoint not in ready.text


def test_off_loopback_a_token_opens(table_settings: Settings) -> None:
    """With a token any address may be bound, and only the token gives access."""
    variables = environment(table_settings, API_TOKEN="of-this-test")
    with served(variables, "--host", "0.0.0.0") as service:  # noqa: S104
        assert service.client.get(PATH).status_code == 401
        headers = {"Authorization": "Bearer of-this-test"}
        assert service.client.get(PATH, headers=headers).status_code == 200


def test_anonymous_off_loopback_is_said_aloud(table_settings: Settings) -> None:
    """Only the explicit option may open the service to everyone."""
    options = ("--host", "0.0.0.0", "--allow-anonymous")  # noqa: S104
    with served(environment(table_settings), *options) as service:
        headers = {"Host": "enterprises.example"}
        assert service.client.get(PATH, headers=headers).status_code == 200
