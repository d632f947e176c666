"""Connections: whose certificate is trusted, what is kept open, and proxies."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import (
    ConnectionClosedError,
    EndpointConnectionError,
    ReadTimeoutError,
    SSLError,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from flows.settings import Settings
from flows.stores import client
from flows.stores.client import make_client
from flows.stores.connections import Connections, connections_of

HEADERS = {"content-type": "text/plain"}


class Server(ThreadingHTTPServer):
    """Answers each request with its path and body, and records who asked."""

    daemon_threads = True
    say_close = False
    close_unsaid = False
    silent = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.peers: list[int] = []
        self.closed = threading.Semaphore(0)
        self.told_to_close = threading.Event()

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        super().shutdown_request(request)
        self.closed.release()

    @property
    def port(self) -> int:
        """Return where it listens."""
        return int(self.server_address[1])


class Handler(BaseHTTPRequestHandler):
    """One connection to a server."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        """Answer, as the server is told to."""
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.peers.append(self.client_address[1])
        if self.server.silent:
            self.close_connection = self.server.told_to_close.wait(10)
            return
        answer = self.path.encode() + b" " + body
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        if self.server.say_close:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer)
        self.close_connection = self.server.say_close or self.server.close_unsaid

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    """Run a server in the clear."""
    with Server() as made, serving(made):
        yield made


@contextmanager
def serving(server: Server) -> Iterator[None]:
    """Serve during the block."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def connect(url: str) -> Connections:
    """Make connections as the client of an endpoint would."""
    made = make_client(Settings.isolated(dynamodb_endpoint=url, aws_region="eu-west-1"))
    return connections_of(made, url + "/")


def in_the_clear(server: Server) -> Connections:
    """Make connections to a server."""
    return connect(f"http://127.0.0.1:{server.port}")


def test_a_connection_is_kept_for_the_next_request(server: Server) -> None:
    """A hundred thousand requests must not make as many connections."""
    made = in_the_clear(server)
    answers = [made.post(HEADERS, b"%d" % i) for i in range(3)]

    assert [answer.content for answer in answers] == [b"/ 0", b"/ 1", b"/ 2"]
    assert {answer.status for answer in answers} == {200}
    assert answers[0].headers["content-length"] == "3"
    assert len(set(server.peers)) == 1


def test_requests_of_threads_do_not_share_a_connection(server: Server) -> None:
    """Two answers at once on one connection would be each other's."""
    made = in_the_clear(server)
    wrong: list[bytes] = []

    def ask(sender: int) -> None:
        for i in range(50):
            body = b"%d-%d" % (sender, i)
            content = made.post(HEADERS, body).content
            if content != b"/ " + body:
                wrong.append(content)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert len(server.peers) == 200
    assert len(set(server.peers)) <= 4


@pytest.mark.parametrize("said", [True, False])
def test_a_connection_that_was_closed_is_not_used_again(
    server: Server, *, said: bool
) -> None:
    """A batch sent on a closed one would count as perhaps applied, for nothing."""
    server.say_close, server.close_unsaid = said, not said
    made = in_the_clear(server)
    for i in range(3):
        assert made.post(HEADERS, b"%d" % i).content == b"/ %d" % i
        assert server.closed.acquire(timeout=10)

    assert len(set(server.peers)) == 3


def test_no_answer_in_time_is_told_from_none_at_all(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent may be applied; what could not be sent is surely not."""
    monkeypatch.setattr(client, "READ_SECONDS", 0.2)
    server.silent = True
    made = in_the_clear(server)
    with pytest.raises(ReadTimeoutError):
        made.post(HEADERS, b"1")
    monkeypatch.setattr(client, "READ_SECONDS", 10)
    server.told_to_close.set()
    made = in_the_clear(server)
    with pytest.raises(ConnectionClosedError):
        made.post(HEADERS, b"2")

    assert len(set(server.peers)) == 2
    with Server() as gone:
        port = gone.port
    with pytest.raises(EndpointConnectionError):
        connect(f"http://127.0.0.1:{port}").post(HEADERS, b"3")


def make_certificate(folder: Path) -> Path:
    """Make a certificate of 127.0.0.1 by nobody's authority; return its file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "server.pem"
    file.write_bytes(made.public_bytes(pem) + private)
    return file


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[Server, Path]]:
    """Run a server with TLS; yield it with the certificate that vouches for it."""
    certificate = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Server() as made:
        made.socket = context.wrap_socket(made.socket, server_side=True)
        with serving(made):
            yield made, certificate


def test_a_certificate_that_nobody_vouches_for_is_refused(
    secure: tuple[Server, Path],
) -> None:
    """Neither items nor the signature may go to whoever answers."""
    server, _ = secure
    with pytest.raises(SSLError):
        connect(f"https://127.0.0.1:{server.port}").post(HEADERS, b"1")

    assert server.peers == []


def test_a_certificate_of_the_bundle_is_trusted_for_its_own_name_alone(
    secure: tuple[Server, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS_CA_BUNDLE must count as it does for boto3, and the name be looked at."""
    server, certificate = secure
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    named = connect(f"https://127.0.0.1:{server.port}")
    for i in range(2):
        assert named.post(HEADERS, b"%d" % i).content == b"/ %d" % i
    assert len(set(server.peers)) == 1

    with pytest.raises(SSLError):
        connect(f"https://localhost:{server.port}").post(HEADERS, b"3")


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_a_bundle_that_cannot_be_used_trusts_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    """A path that is wrong must be an answer about trust, and no fault of ours."""
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_bytes(content)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))

    with pytest.raises(SSLError):
        connect("https://127.0.0.1:1")


def test_the_end_of_an_address_is_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint by an address of IPv6 must be asked on the port of its scheme."""
    asked: list[tuple[str, int]] = []

    def create_connection(place: tuple[str, int], *_: object) -> None:
        asked.append(place)
        raise OSError

    monkeypatch.setattr(socket, "create_connection", create_connection)
    for url in ("http://[::1]", "https://[::1]", "http://[::1]:8000"):
        with pytest.raises(EndpointConnectionError):
            connect(url).post(HEADERS, b"1")

    assert asked == [("::1", 80), ("::1", 443), ("::1", 8000)]


def test_a_proxy_of_the_environment_is_used(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the way out is a proxy, it must be asked, with the whole address."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.port}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    answer = connect("http://dynamodb.invalid:8000").post(HEADERS, b"1")

    assert answer.content == b"http://dynamodb.invalid:8000/ 1"
    assert answer.headers["content-length"] == str(len(answer.content))
