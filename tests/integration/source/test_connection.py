"""Failed connections to the source: the cause and the remedy."""

import pickle
import re
import socket
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from flows.errors import SourceError
from flows.settings import Settings
from flows.stores.postgres.session import open_source
from tests.support.source_database import (
    SourceDatabase,
    await_refusal,
    demanding_password,
)
from tests.support.source_table import CANARY, run_as_source


@contextmanager
def listening(answer: bytes) -> Iterator[int]:
    """Listen on a loopback port, and give each caller one answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    caller = server.accept()[0]
                except OSError:
                    return
                with caller:
                    caller.recv(1024)
                    caller.sendall(answer)

        thread = Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def connection_refusal(url: str) -> SourceError:
    """Return the error of a failed connection; it must not reveal the password."""
    settings = Settings.isolated(database_url=url)
    with pytest.raises(SourceError) as refused, open_source(settings):
        pass
    seen = "".join(traceback.format_exception(refused.value))
    assert CANARY not in seen + repr(pickle.dumps(refused.value))
    return refused.value


def test_a_wrong_password_is_told(locked_out: SourceDatabase) -> None:
    """The message names user and database, the remedy the password's setting."""
    error = connection_refusal(locked_out.url)

    assert "password authentication failed" in error.message
    assert "user role_" in error.message
    assert error.remedy == "Check the user and the password in DATABASE_URL."


def test_a_missing_password_is_told(locked_out: SourceDatabase) -> None:
    """If a password is required and none is set, the message must report it."""
    error = connection_refusal(locked_out.url.replace(f":{CANARY}@", "@"))

    assert "no password supplied" in error.message
    assert error.remedy == "Check the user and the password in DATABASE_URL."


def test_a_wrong_database_is_told(database: SourceDatabase) -> None:
    """The message names the database that does not exist."""
    error = connection_refusal(re.sub(r"/test_\w+", "/nowhere", database.url))

    assert 'database "nowhere" does not exist' in error.message
    assert error.remedy == "Check the database and the user in DATABASE_URL."


@pytest.mark.parametrize("password", ["postgres", "does", "exist", "database", "SSL"])
@pytest.mark.parametrize("name", ["nowhere", "SSL", "authentication failed"])
def test_a_password_of_the_messages_letters_hides_no_reason(
    database: SourceDatabase, password: str, name: str
) -> None:
    """The reason is shown even if the password is a word or a name in the message."""
    url = re.sub(r"/test_\w+", f"/{name.replace(' ', '%20')}", database.url)

    with pytest.raises(SourceError) as refused:
        run_as_source(SourceDatabase(url).as_user("postgres", password), "SELECT 1")

    assert f'database "{name}" does not exist' in refused.value.message
    assert refused.value.remedy == "Check the database and the user in DATABASE_URL."


def test_a_password_that_is_the_users_name_hides_no_reason(
    database: SourceDatabase, role: str
) -> None:
    """For `app:app` with another password, the message names the user."""
    with demanding_password(database, role):
        stranger = database.as_user(role, role)
        await_refusal(stranger)
        with pytest.raises(SourceError) as refused:
            run_as_source(stranger, "SELECT 1")

    assert f'authentication failed for user "{role}"' in refused.value.message
    assert refused.value.remedy == "Check the user and the password in DATABASE_URL."


def test_a_wrong_user_is_told(database: SourceDatabase) -> None:
    """The message names the user that does not exist."""
    error = connection_refusal(database.as_user("nobody_here", CANARY).url)

    assert 'role "nobody_here" does not exist' in error.message
    assert error.remedy == "Check the database and the user in DATABASE_URL."


def test_a_wrong_port_is_told() -> None:
    """If nothing listens, the message names host, port and the cause."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    error = connection_refusal(f"postgresql://app:{CANARY}@127.0.0.1:{port}/app")

    assert f"PostgreSQL at 127.0.0.1:{port}, database app, user app" in error.message
    assert "Connection refused" in error.message
    assert "Check the host and the port" in error.remedy


def test_a_wrong_host_is_told() -> None:
    """The message quotes a name that cannot be resolved."""
    error = connection_refusal(f"postgresql://app:{CANARY}@no-such-host.invalid/app")

    assert "no-such-host.invalid" in error.message
    assert "Check the host and the port" in error.remedy


def test_a_wrong_socket_folder_is_told(tmp_path: Path) -> None:
    """The message names a folder without a socket."""
    error = connection_refusal(f"postgresql://app:{CANARY}@/app?host={tmp_path}")

    assert str(tmp_path) in error.message
    assert "Check the host and the port" in error.remedy


def test_a_server_without_tls_is_told() -> None:
    """If TLS is required and refused, the remedy is about TLS."""
    with listening(b"N") as port:
        url = f"postgresql://app:{CANARY}@127.0.0.1:{port}/app?sslmode=require"
        error = connection_refusal(url)

    assert "SSL" in error.message
    assert "sslmode=" in error.remedy
    assert "Off loopback" not in error.remedy


@pytest.mark.parametrize("query", ["sslmode=no-verify", "connect_timeout=abc"])
def test_a_parameter_that_is_wrong_is_told(query: str) -> None:
    """A value that libpq refuses is a fault of the setting, not of the server."""
    error = connection_refusal(f"postgresql://app:{CANARY}@127.0.0.1:1/app?{query}")

    assert query.partition("=")[0] in error.message
    assert "Correct this parameter in DATABASE_URL" in error.remedy


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        (f'role "{CANARY}" is strange', "Check the host and the port"),
        (f"expired: {CANARY}", "Check the host and the port"),
        ("unsupported startup parameter: options", "ignore_startup_parameters"),
        ("unsupported startup parameter in options: geqo", "PGOPTIONS"),
        ('no pg_hba.conf entry for host "x", SSL off', "Add a line"),
        ('role "x" is not permitted to log in', 'ALTER ROLE "My App" LOGIN;'),
        (
            'permission denied for database "app"',
            'GRANT CONNECT ON DATABASE "app" TO "My App";',
        ),
    ],
)
def test_a_refusal_has_its_own_remedy(said: str, remedy: str) -> None:
    """Each message of a server or PgBouncer has a remedy, and shows no password."""
    fields = f"SFATAL\0VFATAL\0C08P01\0M{said}\0\0".encode()
    answer = b"E" + (len(fields) + 4).to_bytes(4, "big") + fields
    with listening(answer) as port:
        url = f"postgresql://My%20App:{CANARY}@127.0.0.1:{port}/app?sslmode=disable"
        error = connection_refusal(url)

    assert said.replace(CANARY, "***") in error.message
    assert remedy in error.remedy


def test_a_server_that_is_no_postgresql_is_told() -> None:
    """Any answer of another kind of server must become one error of the program."""
    with listening(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        url = f"postgresql://app:{CANARY}@127.0.0.1:{port}/app"
        error = connection_refusal(url)

    assert f"127.0.0.1:{port}" in error.message
    assert "\n" not in error.message
