"""Request ids, the log, tokens, hosts and origins."""

import json
import logging
import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from flows.api.log_limit import LINES, WINDOW_SECONDS, LogLimit
from flows.api.middleware import is_loopback
from flows.api.store import EnterpriseStore
from flows.settings import Settings
from tests.support.serving import Service, service_of, serving

PATH = "/api/enterprises"
TOKEN = "t0ken-of-this-test"
CANARY = "c4nary-name"
ORIGIN = "https://app.example.com"


class BrokenStore:
    """A store with an unexpected fault."""

    def get(self, *_: object, **__: object) -> None:
        """Fail with a row's value in the error's text."""
        raise RuntimeError(CANARY)

    def close(self) -> None:
        """Close nothing."""


@pytest.fixture
def with_values(table_settings: Settings) -> Callable[..., Settings]:
    """Return a function that changes the settings of the service."""

    def change(**values: object) -> Settings:
        return Settings.isolated(**table_settings.model_dump() | values)

    return change


def test_a_token_is_demanded_where_one_is_set(
    with_values: Callable[..., Settings],
) -> None:
    """Only the exact token must be accepted; only probes and the page need none."""
    with service_of(with_values(api_token=TOKEN)) as service:
        client = service.client
        wrong = ["", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer", "Bearer ü"]
        for value in wrong:
            headers = {"Authorization": value.encode("latin-1")}
            for method in ("GET", "POST", "PUT", "TRACE"):
                answer = client.request(method, PATH, headers=headers)
                assert answer.status_code == 401, value
                assert answer.headers["www-authenticate"] == "Bearer"
        assert client.get("/unknown").status_code == 401
        open_to_all = ("/health", "/ready", "/docs", "/openapi.json", "/favicon.ico")
        for path in open_to_all:
            assert client.get(path).status_code == 200
        assert client.get("/").status_code == 307
        assert client.head(PATH).status_code == 401
        for scheme in ("Bearer", "bearer"):
            headers = {"Authorization": f"{scheme} {TOKEN}".encode()}
            assert client.get(PATH, headers=headers).status_code == 200
        document = client.get("/openapi.json").json()
        assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


def test_without_a_token_only_this_machines_names_are_served(
    any_service: Service, with_values: Callable[..., Settings]
) -> None:
    """A web page whose name resolves to loopback must not reach the enterprises."""
    for host in ("evil.example", "evil.example:4000", "localhost.evil.example", "0"):
        answer = any_service.client.get(PATH, headers={"Host": host})
        assert answer.status_code == 421, host
        assert answer.headers["content-type"] == "application/problem+json"
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:4000", "127.1.2.3"):
        assert any_service.client.get(PATH, headers={"Host": host}).is_success
    with service_of(with_values(allow_anonymous=True)) as open_to_all:
        headers = {"Host": "enterprises.example"}
        assert open_to_all.client.get(PATH, headers=headers).is_success


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", ""])  # noqa: S104
def test_what_others_reach_is_not_loopback(host: str) -> None:
    """An address of the network must be recognised as one."""
    assert not is_loopback(host)


def test_origins_are_closed_unless_listed(
    any_service: Service, with_values: Callable[..., Settings]
) -> None:
    """A browser must read nothing for another site, unless the settings name it."""
    asks = {"Origin": ORIGIN, "Access-Control-Request-Method": "PUT"}
    asks["Access-Control-Request-Headers"] = "if-match"
    assert any_service.client.options(PATH, headers=asks).status_code == 405
    closed = any_service.client.get(PATH, headers={"Origin": ORIGIN})
    assert "access-control-allow-origin" not in closed.headers

    listed = with_values(cors_origins=f"https://other.example, {ORIGIN}")
    with service_of(listed) as service:
        for method in ("HEAD", "PUT"):
            asks["Access-Control-Request-Method"] = method
            preflight = service.client.options(PATH, headers=asks)
            assert preflight.status_code == 200
            assert preflight.headers["access-control-allow-origin"] == ORIGIN
        other = {"Origin": "https://evil.example"}
        answer = service.client.get(PATH, headers=other)
        assert "access-control-allow-origin" not in answer.headers


def test_every_answer_bears_a_request_id(any_service: Service) -> None:
    """It must be the client's own, if that is a plain word, or else a new one."""
    client = any_service.client
    own = client.get(PATH, headers={"X-Request-ID": "a-1.b_2"})
    assert own.headers["x-request-id"] == "a-1.b_2"

    for forged in ("", "x" * 65, "a b", "a\tb", "ü"):
        headers = {"X-Request-ID": forged.encode()}
        answer = client.get("/unknown", headers=headers)
        assert len(answer.headers["x-request-id"]) == 32
    assert own.headers["x-content-type-options"] == "nosniff"


def test_names_and_tokens_are_never_logged(
    with_values: Callable[..., Settings], caplog: pytest.LogCaptureFixture
) -> None:
    """A line must have id, method, route and status, and no text of a client."""
    caplog.set_level(logging.DEBUG, "flows")
    with service_of(with_values(api_token=TOKEN)) as service:
        client = service.client
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        client.get(PATH, params={"name": CANARY})
        client.post(PATH, json={"name": CANARY})
        client.post(PATH, json={"name": CANARY, CANARY: 1})
        client.get(f"{PATH}/{CANARY}", headers={"X-Request-ID": "mine"})
        client.put(PATH, json={"id": CANARY, "name": CANARY})
        client.get(f"/{CANARY}?{CANARY}")

    lines = [r.getMessage() for r in caplog.records if r.name.startswith("flows")]
    assert len(lines) == 6
    assert any(x.startswith(f"mine GET {PATH}/{{enterprise_id}} 404") for x in lines)
    assert CANARY not in "".join(lines)
    assert TOKEN not in caplog.text


def test_a_line_has_the_beginning_of_the_id(
    any_service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """Requests must be found by the enterprise, wherever its id stands in them."""
    caplog.set_level(logging.INFO, "flows.api")
    client = any_service.client
    made = client.post(PATH, json={"name": "a"}).json()["id"]
    client.get(f"{PATH}/{made}")
    client.head(f"{PATH}/{made}")
    client.put(f"{PATH}/{made}", json={"name": "b"})
    client.put(PATH, json={"id": made, "name": "c"})
    client.delete(f"{PATH}/{made}")
    for text in ("12345678901", "-42", "1001", f"x{made}", "12345678-9", "deadbeef"):
        client.get(f"{PATH}/{text}")
    client.get(PATH)

    end = time.monotonic() + 10
    while len(caplog.messages) < 13 and time.monotonic() < end:
        time.sleep(0.02)
    ends = [line.rpartition(" ms")[2] for line in caplog.messages]
    assert ends[:6] == [f" id={made[:8]}"] * 6
    assert ends[6:] == [" id=12345678", " id=-42", " id=1001", "", "", "", ""]


def test_a_fault_is_told_by_its_request_id_alone(
    table_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """The client must get a problem, the log a trace, and neither the error's text."""
    store = cast("EnterpriseStore", cast("Any", BrokenStore()))
    with serving(table_settings, store) as client:
        answer = client.get(f"{PATH}/1", headers={"X-Request-ID": "broken-1"})

    assert answer.status_code == 500
    assert answer.headers["x-request-id"] == "broken-1"
    assert "broken-1" in answer.json()["detail"]
    assert CANARY not in json.dumps(answer.json()) + caplog.text
    assert "broken-1 RuntimeError" in caplog.text
    assert "in get_enterprise" in caplog.text


def test_the_log_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """Excess lines of one kind must be dropped and counted, and others be kept."""
    limit, log = LogLimit(), logging.getLogger("flows.of-this-test")
    log.addFilter(limit)
    caplog.set_level(logging.INFO, log.name)
    try:
        for n in range(3 * LINES):
            log.warning("refused %d", n)
            log.info("answered %d", n, extra={"served": True})
        log.warning("of another kind")
        for kind in limit._kinds.values():
            kind[0] -= WINDOW_SECONDS
        log.warning("refused %d", -1)
    finally:
        log.removeFilter(limit)

    lines = caplog.messages
    assert len([x for x in lines if x.startswith("refused")]) == LINES + 1
    assert len([x for x in lines if x.startswith("answered")]) == 3 * LINES
    assert "of another kind" in lines
    assert lines[-1] == f"refused -1 ({2 * LINES} similar dropped)"
