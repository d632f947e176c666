"""What identifies the server of a session, as far as its role may see it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.errors import MigrationError
from flows.stores.postgres.session import translating_errors

logger = logging.getLogger(__name__)

# Null where the function does not exist.
MAY_READ_IDENTIFIER = """
SELECT has_function_privilege(to_regprocedure('pg_control_system()'), 'EXECUTE')
"""
READ_IDENTIFIER = "SELECT system_identifier::text FROM pg_control_system()"


@contextmanager
def attempting(connection: Connection) -> Iterator[None]:
    """Run optional statements in the block; undo and log them if they fail.

    The transaction and its snapshot can be used afterwards.
    """
    try:
        with translating_errors(), connection.cursor() as cursor:
            cursor.execute("SAVEPOINT attempt")
            try:
                yield
            except (psycopg2.Error, MigrationError):
                cursor.execute("ROLLBACK TO SAVEPOINT attempt")
                raise
    except MigrationError as error:
        logger.info("not in the report: %s", error.message)


def describe_server(connection: Connection) -> str:
    """Return version and system identifier of the server, or version and address.

    Copies of a server have its identifier: standbys, and those made from its backup.
    """
    version, identifier = "PostgreSQL", ""
    with attempting(connection), connection.cursor() as cursor:
        version += f" {connection.get_parameter_status('server_version')}"
        cursor.execute(MAY_READ_IDENTIFIER)
        if cursor.fetchone() == (True,):
            cursor.execute(READ_IDENTIFIER)
            (identifier,) = cursor.fetchone() or ("",)
    if identifier:
        return f"{version}, system identifier {identifier}"
    place = locate(connection)
    return f"{version} at {place['host']}, port {place['port']}" if place else version


def locate(connection: Connection) -> dict[str, str]:
    """Return host, port and name of a session's database; empty if it has ended."""
    if connection.closed:
        return {}
    info = connection.info
    return {"host": info.host, "port": str(info.port), "dbname": info.dbname}
