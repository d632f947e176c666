"""Bodies: size limits and invalid JSON. They are refused before any store is used."""

import json
import socket
from collections.abc import Iterator

import httpx
import pytest

from tests.support.serving import Service

PATH = "/api/enterprises"
CANARY = "c4nary-secret"
JSON = {"Content-Type": "application/json"}


def post(service: Service, body: bytes, **headers: str) -> httpx.Response:
    """Send a body as it is."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return service.client.post(PATH, content=body, headers=JSON | named)


def assert_refused(service: Service, answer: httpx.Response, status: int) -> None:
    """Assert that a body was refused as a problem, not repeated, and had no effect."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert CANARY not in answer.text
    assert CANARY not in str(answer.headers)
    assert service.listed() == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"name=x",
        b'{"name": "x"} y',
        b'{"name": "c4nary-secret\\u0000"}',
        b'{"name": "c4nary-secret\\ud800"}',
        b'{"name": "\\udc00\\ud800"}',
        b'{"a\\u0000": "c4nary-secret", "name": "x"}',
        b'{"name": "x", "deep": [{"a": ["\\udfff"]}]}',
        b'{"name": NaN}',
        b'{"name": "x", "n": -Infinity}',
        b'{"name": "c4nary-secret", "name": "y"}',
        b'{"name": "\xff"}',
        b'\xef\xbb\xbf{"name": "c4nary-secret"}',
        '{"name": "c4nary-secret"}'.encode("utf-16"),
        '{"name": "c4nary-secret"}'.encode("utf-32-le"),
        b'{"name": "raw \x00"}',
        b"[" * 60_000,
        b'{"n": ' + b"9" * 60_000 + b"}",
    ],
    ids=range(20),
)
def test_what_is_no_plain_json_is_refused(any_service: Service, body: bytes) -> None:
    """A body with several readings, or that no store can hold, must be refused."""
    assert_refused(any_service, post(any_service, body), 400)


@pytest.mark.parametrize(
    "content",
    [
        [],
        None,
        CANARY,
        7,
        {},
        {"name": None},
        {"name": 7},
        {"name": True},
        {"name": [CANARY]},
        {"name": {"$ne": CANARY}},
        {"name": "x", CANARY: 1},
        {"name": "x", "id": CANARY},
        {"name": "x", "is_admin": True, "password": CANARY},
        {"Name": CANARY},
    ],
    ids=range(14),
)
def test_a_body_of_another_shape_is_refused(
    any_service: Service, content: object
) -> None:
    """The error must name the place, and repeat neither value nor unknown key."""
    answer = post(any_service, json.dumps(content).encode())

    assert_refused(any_service, answer, 422)
    assert all(e["pointer"].startswith("#") for e in answer.json()["errors"])


def test_an_id_in_a_body_is_a_text_or_an_integer(any_service: Service) -> None:
    """Values of other types must be refused as ids."""
    for wrong in (1.0, 1e3, True, None, [], {"S": "1"}):
        answer = any_service.client.put(PATH, json={"id": wrong, "name": "x"})
        assert_refused(any_service, answer, 422)


def test_a_body_of_64_kb_is_read_and_a_larger_one_is_not(any_service: Service) -> None:
    """The limit itself is allowed; counted bytes decide, not the stated length."""
    room = 65_536 - len('{"name": ""}')

    over = json.dumps({"name": "x" * (room + 1)}).encode()
    assert_refused(any_service, post(any_service, over), 413)

    def chunks() -> Iterator[bytes]:
        yield b'{"name": "'
        for _ in range(room // 1000 + 1):
            yield b"x" * 1000

    unsaid = any_service.client.post(PATH, content=chunks(), headers=JSON)
    assert_refused(any_service, unsaid, 413)
    fits = post(any_service, json.dumps({"name": "x" * room}).encode())
    assert fits.status_code == 201


def test_a_body_without_end_is_not_read_to_its_end(any_service: Service) -> None:
    """Twenty megabytes must be refused after the first 64 KB."""
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(20_000):
            sent += 1000
            yield b"x" * 1000

    try:
        answer = any_service.client.post(PATH, content=endless(), headers=JSON)
        assert answer.status_code == 413
    except httpx.WriteError:
        # The service closed the connection while the client was sending.
        pass

    assert sent < 20_000_000
    assert any_service.client.get("/health").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": ""},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": "application/json, text/plain"},
        {"Content-Encoding": "gzip"},
    ],
    ids=range(6),
)
def test_another_media_type_is_refused(
    any_service: Service, headers: dict[str, str]
) -> None:
    """Another site could send a form without a preflight: it must be refused."""
    body = b'{"name": "c4nary-secret"}'
    answer = any_service.client.post(PATH, content=body, headers=JSON | headers)

    assert_refused(any_service, answer, 415)


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", 'APPLICATION/JSON;charset="UTF-8"']
)
def test_utf_8_may_be_said(any_service: Service, kind: str) -> None:
    """UTF-8 is the encoding of JSON: naming it must be allowed."""
    answer = post(any_service, b'{"name": "x"}', Content_Type=kind)

    assert answer.status_code == 201


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        (PATH, "GET, HEAD, POST, PUT"),
        (f"{PATH}/1", "DELETE, GET, HEAD, PUT"),
        (f"{PATH}/debug/dynamodb", "GET, HEAD"),
        ("/health", "GET, HEAD"),
        ("/", "GET, HEAD"),
    ],
)
def test_another_method_is_told_those_of_the_path(
    any_service: Service, path: str, methods: str
) -> None:
    """405 must name every method of the path, even if several routes share it."""
    answer = any_service.client.patch(path)

    assert_refused(any_service, answer, 405)
    assert answer.headers["allow"] == methods


@pytest.mark.parametrize(
    "path",
    [
        "/index.html",
        "/api",
        f"{PATH}/",
        f"{PATH}/1/",
        "/debug",
        "/env",
        "/redoc",
        "/.env",
    ],
)
def test_another_path_is_nothing(any_service: Service, path: str) -> None:
    """An unknown path must be 404, without redirects or default pages."""
    assert_refused(any_service, any_service.client.get(path), 404)


BODY = b'{"name": "x"}'
AMBIGUOUS = [
    ["Content-Length: 13", "Transfer-Encoding: chunked"],
    ["Transfer-Encoding: chunked", "Content-Length: 0"],
    ["Content-Length: 13", "Content-Type: text/plain"],
    ["Content-Length: 13", "Idempotency-Key: a", "Idempotency-Key: b"],
]


@pytest.mark.parametrize("lines", AMBIGUOUS, ids=range(4))
def test_a_request_with_two_readings_is_refused(
    any_service: Service, lines: list[str]
) -> None:
    """An ambiguous request must be refused, and its connection closed."""
    url = any_service.client.base_url
    head = [f"POST {PATH} HTTP/1.1", "Host: localhost"]
    head += ["Content-Type: application/json", *lines, "", ""]
    with socket.create_connection((url.host, url.port or 0), timeout=60) as connection:
        connection.sendall("\r\n".join(head).encode() + BODY)
        answer = b""
        while part := connection.recv(4096):
            answer += part

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in answer.lower()
    assert any_service.listed() == []
