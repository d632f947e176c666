"""Connections: trusted certificates, kept connections, and proxies."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
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

from flows.errors import Ambiguous, TargetError, Unreachable
from flows.settings import Settings
from flows.stores.dynamodb import client
from flows.stores.dynamodb.client import make_client
from flows.stores.dynamodb.faults import translating_answers
from flows.stores.dynamodb.http_pool import Connections, connections_of

HEADERS = {"content-type": "text/plain"}


class Server(ThreadingHTTPServer):
    """Answers each request with its path and body, and records the client's port."""

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
        """Return the port of the server."""
        return int(self.server_address[1])


class Handler(BaseHTTPRequestHandler):
    """One connection to a server."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        """Answer as the server is configured."""
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
        """Log nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    """Run a server without TLS."""
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
    """Create connections as the client of an endpoint does."""
    made = make_client(Settings.isolated(dynamodb_endpoint=url, aws_region="eu-west-1"))
    return connections_of(made, url + "/")


def in_the_clear(server: Server) -> Connections:
    """Create connections to a server."""
    return connect(f"http://127.0.0.1:{server.port}")


def test_a_connection_is_kept_for_the_next_request(server: Server) -> None:
    """A hundred thousand requests must not open as many connections."""
    made = in_the_clear(server)
    answers = [made.post(HEADERS, b"%d" % i) for i in range(3)]

    assert [answer.content for answer in answers] == [b"/ 0", b"/ 1", b"/ 2"]
    assert {answer.status for answer in answers} == {200}
    assert answers[0].headers["content-length"] == "3"
    assert len(set(server.peers)) == 1


def test_requests_of_threads_do_not_share_a_connection(server: Server) -> None:
    """Two requests at once on one connection would receive each other's answers."""
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
    """A batch sent on a closed one would needlessly count as perhaps applied."""
    server.say_close, server.close_unsaid = said, not said
    made = in_the_clear(server)
    for i in range(3):
        assert made.post(HEADERS, b"%d" % i).content == b"/ %d" % i
        assert server.closed.acquire(timeout=10)

    assert len(set(server.peers)) == 3


def test_no_answer_in_time_is_told_from_none_at_all(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sent request may be applied; an unsent one is certainly not."""
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


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Create an authority and its certificate for 127.0.0.1; return both files.

    As in many companies, neither certificate names the authority's key.
    """
    authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    pem = serialization.Encoding.PEM
    issuer = [x509.NameAttribute(NameOID.COMMON_NAME, "authority")]
    now = datetime.now(UTC)

    def certify(key: Any, name: str, extension: x509.ExtensionType) -> bytes:
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name(subject))
            .issuer_name(x509.Name(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(extension, critical=True)
            .sign(authority, hashes.SHA256())
            .public_bytes(pem)
        )

    addresses = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    anybody = x509.BasicConstraints(ca=True, path_length=None)
    private = server.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    certificate, bundle = folder / "server.pem", folder / "authority.pem"
    certificate.write_bytes(certify(server, "test", addresses) + private)
    bundle.write_bytes(certify(authority, "authority", anybody))
    return certificate, bundle


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[Server, Path]]:
    """Run a server with TLS; yield it with its certificate authority."""
    certificate, bundle = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Server() as made:
        made.socket = context.wrap_socket(made.socket, server_side=True)
        with serving(made):
            yield made, bundle


def test_a_certificate_that_nobody_vouches_for_is_refused(
    secure: tuple[Server, Path],
) -> None:
    """Neither items nor the signature may be sent to an unverified server."""
    server, _ = secure
    with pytest.raises(SSLError):
        connect(f"https://127.0.0.1:{server.port}").post(HEADERS, b"1")

    assert server.peers == []


def test_a_certificate_of_the_bundle_is_trusted_for_its_own_name_alone(
    secure: tuple[Server, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS_CA_BUNDLE must work as in boto3, and the name must be verified."""
    server, bundle = secure
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    named = connect(f"https://127.0.0.1:{server.port}")
    for i in range(2):
        assert named.post(HEADERS, b"%d" % i).content == b"/ %d" % i
    assert len(set(server.peers)) == 1

    with pytest.raises(SSLError):
        connect(f"https://localhost:{server.port}").post(HEADERS, b"3")


def test_an_authority_is_trusted_as_by_boto3(
    secure: tuple[Server, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Since Python 3.13 a context is strict by default, unlike that of boto3."""
    server, bundle = secure
    create = ssl.create_default_context

    def create_strict(**options: Any) -> ssl.SSLContext:
        context = create(**options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", create_strict)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))

    answer = connect(f"https://127.0.0.1:{server.port}").post(HEADERS, b"1")

    assert answer.content == b"/ 1"


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_a_bundle_that_cannot_be_used_trusts_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    """A wrong path must be an error of trust, not a fault of the program."""
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_bytes(content)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))

    with pytest.raises(SSLError):
        connect("https://127.0.0.1:1")


@contextmanager
def saying(content: bytes) -> Iterator[int]:
    """Answer any request with *content*, and disconnect; yield the port."""

    def answer() -> None:
        while True:
            asker, _ = listener.accept()
            with asker:
                if not asker.recv(10_000):
                    return
                asker.sendall(content)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            socket.create_connection(listener.getsockname()).close()
            thread.join()


NO_TLS = b"HTTP/1.1 400 Bad Request\r\n\r\n"


@pytest.mark.parametrize(
    ("path", "content", "kind", "said"),
    [
        ("ours", b"", Unreachable, "cannot be reached"),
        # boto3 does not report when the connection was cut: the request may be applied.
        ("boto3's", b"", Ambiguous, "was cut"),
        ("ours", NO_TLS, TargetError, "TLS handshake with"),
        ("boto3's", NO_TLS, TargetError, "TLS handshake with"),
    ],
)
def test_a_handshake_without_end_is_no_matter_of_trust(
    path: str,
    content: bytes,
    kind: type[Exception],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A handshake that was cut must be retried, but not one without TLS."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with saying(content) as port:
        url = f"https://127.0.0.1:{port}"
        settings = Settings.isolated(dynamodb_endpoint=url, aws_region="eu-west-1")
        ways: dict[str, Callable[[], object]] = {
            "ours": lambda: connect(url).post(HEADERS, b"1"),
            "boto3's": make_client(settings).list_tables,
        }
        with pytest.raises(kind, match=said), translating_answers("the table"):
            ways[path]()


def test_the_end_of_an_address_is_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint with an IPv6 address must use the port of its scheme."""
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
    """A configured proxy must get the request, with the whole address."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.port}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    answer = connect("http://dynamodb.invalid:8000").post(HEADERS, b"1")

    assert answer.content == b"http://dynamodb.invalid:8000/ 1"
    assert answer.headers["content-length"] == str(len(answer.content))
