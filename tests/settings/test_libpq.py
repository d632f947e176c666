"""How libpq's parameters resolve, and that a remote server is verified."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.settings.libpq import with_tls

VERIFIED = {"sslmode": "verify-full", "sslrootcert": "system"}
SERVICES = """
# Services of an administrator.
[far]
host=db.example.com
[ far]
host=localhost
[socket]
host=/run/pg
 # twice: the first counts
host=db.example.com
[address]
hostaddr = 10.0.0.7
[hidden]
host=localhost
hostaddr=10.0.0.7
[chosen]
host=db.example.com
sslmode=prefer
[authority]
host=db.example.com
sslrootcert=/etc/ca.pem
[directory]
ldap://ldap.example.com/dc=example?uniqueMember?base?(cn=db)
[far]
host=localhost
"""

Services = Callable[..., None]


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a service file and configure libpq to use it."""
    file = tmp_path / "pg_service.conf"
    file.write_text(SERVICES)
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    return file


@pytest.mark.parametrize(
    "arguments",
    [
        {"host": "db.example.com"},
        {"host": "10.0.0.7"},
        {"host": "::ffff:10.0.0.7"},
        {"host": "localhost.example.com"},
        {"host": "localhost,db.example.com"},
        {"host": "/run/pg,db.example.com"},
        {"hostaddr": "10.0.0.7"},
        {"host": "localhost", "hostaddr": "10.0.0.7"},
        {"host": "localhost,localhost", "hostaddr": "127.0.0.1,10.0.0.7"},
        {"host": "localhost,db.example.com", "hostaddr": "127.0.0.1,"},
    ],
)
def test_a_server_elsewhere_is_verified(arguments: dict[str, Any]) -> None:
    """Each way to name a remote server must require its certificate."""
    assert with_tls(arguments) == arguments | VERIFIED


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"host": ""},
        {"host": "/run/pg"},
        {"host": "@abstract"},
        {"host": "localhost"},
        {"host": "LOCALHOST"},
        {"host": "127.0.0.2"},
        {"host": "::1"},
        {"host": "localhost,127.0.0.1,/run/pg"},
        {"host": "db.example.com", "hostaddr": "127.0.0.1"},
    ],
)
def test_a_server_on_this_machine_is_not_verified(arguments: dict[str, Any]) -> None:
    """A socket or loopback rarely has a certificate, and crosses no network."""
    assert with_tls(arguments) == arguments


@pytest.mark.parametrize("service", ["far", "hidden", "directory", "nowhere"])
@pytest.mark.usefixtures("services")
def test_a_service_that_leads_elsewhere_is_verified(service: str) -> None:
    """The host of a service counts, as does a service that only libpq may find."""
    assert with_tls({"service": service}) == {"service": service} | VERIFIED


@pytest.mark.parametrize("where", ["variable", "home", "system"])
def test_a_service_is_found_where_libpq_finds_it(
    services: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The file in the variable, at home or of the system must name the services."""
    if where != "variable":
        monkeypatch.delenv("PGSERVICEFILE")
        monkeypatch.setenv("HOME", str(tmp_path))
    if where == "home":
        services.rename(tmp_path / ".pg_service.conf")
    if where == "system":
        (tmp_path / ".pg_service.conf").write_text("[other]\nhost=localhost\n")
        monkeypatch.setenv("PGSYSCONFDIR", str(tmp_path))

    assert with_tls({"service": "socket"}) == {"service": "socket"}
    assert with_tls({"service": "far"})["sslmode"] == "verify-full"


@pytest.mark.usefixtures("services")
def test_what_a_service_says_of_tls_is_kept() -> None:
    """A mode or an authority that the administrator chose must not be overridden."""
    assert with_tls({"service": "chosen"}) == {"service": "chosen"}
    assert with_tls({"service": "authority"}) == {
        "service": "authority",
        "sslmode": "verify-full",
    }


@pytest.mark.usefixtures("services")
def test_the_service_of_the_environment_fills_what_is_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PGSERVICE may add an address to a loopback name, but a host overrides it."""
    monkeypatch.setenv("PGSERVICE", "hidden")
    assert with_tls({"host": "localhost"})["sslmode"] == "verify-full"

    monkeypatch.setenv("PGSERVICE", "far")
    assert with_tls({"host": "localhost"}) == {"host": "localhost"}


@pytest.mark.parametrize(
    ("variable", "value"), [("PGHOST", "db.example.com"), ("PGHOSTADDR", "10.0.0.7")]
)
@pytest.mark.usefixtures("services")
def test_a_variable_that_leads_elsewhere_is_verified(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """Values that the URL omits must come from the environment, as in libpq."""
    monkeypatch.setenv(variable, value)

    assert with_tls({"dbname": "app"}) == {"dbname": "app"} | VERIFIED
    expected = {"service": "socket"} | (VERIFIED if variable == "PGHOSTADDR" else {})
    assert with_tls({"service": "socket"}) == expected


def test_a_localhost_that_is_another_machine_is_verified(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hosts file may redirect the name: all its addresses must be loopback."""
    here, far = ((2, 1, 6, "", (host, 0)) for host in ("127.0.0.1", "10.0.0.7"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [here, far])

    assert with_tls({"host": "localhost"})["sslmode"] == "verify-full"
