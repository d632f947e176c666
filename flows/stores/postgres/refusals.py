"""Reasons for which PostgreSQL refuses a connection, and their remedies."""

import re
from collections.abc import Mapping
from typing import Any

from flows.settings.libpq import describe_server, quote_name

_QUOTED = re.compile(r'"([^"]*)"')
# Words of libpq, PostgreSQL and PgBouncer; before a session there is no SQLSTATE. The
# first match decides.
_REMEDIES = {
    r"invalid [\w ]*value|invalid connection option": "Correct this parameter in"
    " {variable}, or the variable of libpq that sets it.",
    r"authentication failed|no password supplied": "Check the user and the password in"
    " {variable}.",
    r"startup parameter": "Remove options from {variable} and PGOPTIONS, or add this"
    " parameter, which PgBouncer refuses, to ignore_startup_parameters in"
    " pgbouncer.ini.",
    r"pg_hba\.conf": "Add a line for this user, database and address to pg_hba.conf, or"
    " connect from an address that has one.",
    r"does not support SSL": "Switch ssl on at the server, or choose another mode with"
    " sslmode= in {variable} or PGSSLMODE.",
    r"SSL|certificate": "Give sslrootcert=FILE in {variable}, since TLS is verified off"
    " loopback, or choose another mode with sslmode= or PGSSLMODE.",
    r"too many connections for role": "ALTER ROLE {user} CONNECTION LIMIT -1; or give"
    " fewer --workers.",
    r"too many connections for database": "ALTER DATABASE {dbname} CONNECTION LIMIT -1;"
    " or give fewer --workers.",
    r"too many clients|connection slots|no more connections": "Raise max_connections,"
    " end other sessions, or give fewer --workers.",
    r"not permitted to log in": "ALTER ROLE {user} LOGIN;",
    r"permission denied for database": "GRANT CONNECT ON DATABASE {dbname} TO {user};",
    r"does not exist": "Check the database and the user in {variable}.",
    r"definition of service|service file": "Check the service in {variable} or"
    " PGSERVICE, and libpq's pg_service.conf.",
}
_DEFAULT = "Check the host and the port in {variable}, and that the server is up."
_OF_A_SERVICE = "Check its host and port in libpq's pg_service.conf, and that it is up."


def explain_refusal(
    arguments: Mapping[str, Any], error: Exception, variable: str
) -> tuple[str, str]:
    """Return message and remedy for a connection that could not be opened.

    The arguments are those of ``psycopg2.connect``, from the setting *variable*.
    """
    reason = " ".join(str(error).split()) or type(error).__name__
    shown = hide_password(reason, arguments)
    message = f"{describe_server(arguments)}, cannot be reached: {shown}"
    names = {
        name: quote_name(str(arguments.get(name) or name))
        for name in ("user", "dbname")
    }
    # Names in quotes may contain the same words.
    words = _QUOTED.sub("", reason)
    found = (
        remedy for pattern, remedy in _REMEDIES.items() if re.search(pattern, words)
    )
    other = _OF_A_SERVICE if arguments.get("service") else _DEFAULT
    return message, next(found, other).format(variable=variable, **names)


def hide_password(reason: str, arguments: Mapping[str, Any]) -> str:
    """Return a message with the password masked where it is a value.

    A word of the message may have the same letters, and so may another argument.
    """
    password = str(arguments.get("password") or "")
    others = {str(value) for name, value in arguments.items() if name != "password"}
    if not password or password in others:
        return reason
    value = re.compile(rf"(?<![\w./-]){re.escape(password)}(?![\w./-])")
    if not password.isalpha():
        return value.sub("***", reason)
    return _QUOTED.sub(lambda quoted: value.sub("***", quoted[0]), reason)
