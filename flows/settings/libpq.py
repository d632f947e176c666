"""Connection parameters of PostgreSQL, as libpq reads them: URL, service, environment.

Nothing connects here. libpq takes what a URL omits from a service and then from the
environment, so all three decide where a connection leads.
"""

import os
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from itertools import zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flows.errors import SettingsError

# Parameters that decide about TLS, and the variables from which libpq takes them.
VARIABLES = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
}
# Where the libpq of psycopg2's wheels and of Debian looks, unless PGSYSCONFDIR is set.
SYSTEM_FOLDER = "/etc/postgresql-common"

_SCHEME = re.compile(r"(?:postgres|postgresql|postgresql\+psycopg2)://(.*)", re.DOTALL)
# User and password, the address with the path, the parameters. An @ in a parameter that
# an address may follow is refused: it may be the end of a password.
_PARTS = re.compile(
    r"(?:([^/?#@:]*)(:[^@]*)?@)?([^?@]*)((?:\?[^@]*(?:@[^@/]*)*)?)", re.DOTALL
)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")
_PORTS = re.compile(r"[0-9,]*")
_UNKNOWN_PARAMETER = re.compile(r'invalid URI query parameter: "(\w+)"')
_URL_REMEDY = (
    "Write it as postgresql://user:password@host:5432/database, and percent-encode"
    " special characters of the password (@ is %40, / is %2F, % is %25)."
)
_PARAMETER_REMEDIES = {
    "schema": "Remove it. SOURCE_TABLE names the schema, e.g. public.enterprises.",
    "ssl": "Write sslmode=verify-full, or another sslmode of libpq.",
}


def parse_postgres_url(text: str, variable: str) -> dict[str, Any]:
    """Return the parameters in a URL as keyword arguments of ``psycopg2.connect``.

    Raises:
        SettingsError: the URL cannot be read. The message names the *variable* and
            contains no part of the password.
    """
    # Imported here: the settings alone must load quickly.
    import psycopg2
    from psycopg2.extensions import parse_dsn

    match = _SCHEME.fullmatch(text)
    if match is None:
        message = f"{variable} is not a PostgreSQL URL."
        raise SettingsError(message, _URL_REMEDY)
    parts = _PARTS.fullmatch(match[1])
    if parts is None or _BAD_ESCAPE.search(text):
        message = f"{variable} is ambiguous: cannot separate user, password and host."
        raise SettingsError(message, _URL_REMEDY)
    user, password, address, query = parts.groups()
    # Escapes raw characters that libpq would take for the end of the password.
    who = "" if user is None else f"{user}{quote(password or '', safe=':%')}@"
    reason = ""
    try:
        arguments: dict[str, Any] = parse_dsn(f"postgresql://{who}{address}{query}")
    except (psycopg2.ProgrammingError, UnicodeDecodeError) as error:
        # The parser's own message may quote a part of the password.
        reason = str(error) if "@" not in query else "ambiguous"
    if unknown := _UNKNOWN_PARAMETER.search(reason):
        raise _make_parameter_error(variable, unknown[1]) from None
    if reason or not _PORTS.fullmatch(arguments.get("port", "")):
        message = f"{variable} is not a PostgreSQL URL."
        raise SettingsError(message, _URL_REMEDY) from None
    if re.search(r"[?&]password=", query):
        message = f"{variable} has its password in the query, where logs show it."
        raise SettingsError(message, _URL_REMEDY)
    # A migration is identified by its port as it was written.
    if arguments.get("port", "").isdigit() and not re.search(r"[?&]port=", query):
        arguments["port"] = int(arguments["port"])
    return arguments


def _make_parameter_error(variable: str, name: str) -> SettingsError:
    message = f"{variable} has the parameter {name}, which libpq does not know."
    remedy = "Remove it, or write the parameter as libpq's documentation names it."
    return SettingsError(message, _PARAMETER_REMEDIES.get(name, remedy))


def with_tls(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments, with verify-full unless TLS is set or the server is local.

    Parameters that libpq adds count, too: a service, then the environment.
    """
    service = read_service(arguments)
    libpq = {name: os.environ.get(variable) for name, variable in VARIABLES.items()}
    known = {name: value for name, value in libpq.items() if value}
    known |= (service or {}) | dict(arguments)
    # A service that only libpq finds may lead anywhere.
    remote = service is None or is_remote(known)
    if not remote or "sslmode" in known:
        return dict(arguments)
    # libpq's default, prefer, silently falls back to clear text.
    authority = {} if "sslrootcert" in known else {"sslrootcert": "system"}
    return dict(arguments) | authority | {"sslmode": "verify-full"}


def is_remote(parameters: Mapping[str, Any]) -> bool:
    """Return whether one of the servers may be on another machine.

    An address wins over the name beside it, as in libpq. Without either, libpq uses a
    socket of this machine.
    """
    names, addresses = (
        str(parameters.get(name) or "").split(",") for name in ("host", "hostaddr")
    )
    hosts = zip_longest(names, addresses, fillvalue="")
    return not all(_is_here(address or name) for name, address in hosts)


def _is_here(host: str) -> bool:
    if not host or host.startswith(("/", "@")):
        return True
    with suppress(ValueError):
        return ip_address(host).is_loopback
    if host.lower() != "localhost":
        return False
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return False
    return all(ip_address(address[0]).is_loopback for *_, address in found)


def read_service(arguments: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the parameters of the service in force; {} if there is none.

    Return None if the service is in none of the known files of libpq.
    """
    service = arguments.get("service") or os.environ.get("PGSERVICE")
    if not service:
        return {}
    own = arguments.get("servicefile") or os.environ.get("PGSERVICEFILE")
    folder = os.environ.get("PGSYSCONFDIR", SYSTEM_FOLDER)
    files = [
        Path(own) if own else Path("~/.pg_service.conf").expanduser(),
        Path(folder) / "pg_service.conf",
    ]
    for file in files:
        with suppress(OSError):
            lines = file.read_bytes().decode(errors="replace").split("\n")
            if (found := _find_section(lines, str(service))) is not None:
                return found
    return None


def _find_section(lines: list[str], name: str) -> dict[str, str] | None:
    found: dict[str, str] | None = None
    for line in (each.strip() for each in lines):
        if line.startswith("["):
            if found is not None:
                break
            found = {} if line.startswith(f"[{name}]") else None
        elif found is not None and line.startswith("ldap"):
            # The directory server that it names decides, and is not queried here.
            return None
        elif found is not None and line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, value)
    return found


def describe_server(arguments: Mapping[str, Any]) -> str:
    """Return the server, database and user of a connection, for messages."""
    return f"{describe_database(arguments)}, user {arguments.get('user', '(default)')}"


def describe_database(arguments: Mapping[str, Any]) -> str:
    """Return the server and the database of a connection, for display."""
    service = arguments.get("service")
    default = f"service {service}" if service else "the default host"
    host = arguments.get("host") or arguments.get("hostaddr") or default
    named = "the default port" if service else 5432
    return (
        f"PostgreSQL at {host}:{arguments.get('port', named)}, database"
        f" {arguments.get('dbname', '(default)')}"
    )


def quote_name(name: str) -> str:
    """Return a name as SQL that can be pasted, in quotes, since keywords need them."""
    return '"' + name.replace('"', '""') + '"'
