"""Checks of ``doctor`` on the settings and on PostgreSQL."""

from flows.doctor.diagnosis import CheckContext, Finding, fail, ok, warn
from flows.errors import MigrationError, SourceLocked
from flows.mapping import load_mapping
from flows.models import describe_left_behind
from flows.settings import load_settings
from flows.settings.libpq import is_remote
from flows.settings.project import describe_origin as described
from flows.stores.dynamodb.table import open_table
from flows.stores.postgres.locks import make_locked_error
from flows.stores.postgres.schema import describe_sources, hides_rows
from flows.stores.postgres.session import (
    open_source,
    split_table_name,
    translating_errors,
)
from flows.stores.postgres.session_limits import DRIVERS, require_sessions
from flows.stores.postgres.snapshots import hold_tables

# The doctor must not wait as long as the server waits for a lock.
LOCK_SECONDS = 2
LIMIT = f"SET statement_timeout = '8s'; SET lock_timeout = '{LOCK_SECONDS}s'"
IS_STANDBY = "SELECT pg_is_in_recovery()"


def check_settings(context: CheckContext) -> Finding:
    """Read all settings; those missing for one store do not affect the other."""
    settings = load_settings()
    # A fault of the file is a fault of the settings.
    load_mapping(settings)
    context.settings = settings
    source, target = settings.source_table, settings.dynamodb_enterprise_table
    served = settings.storage_mode if context.purpose == "serve" else None
    if served != "postgres":
        context.aws = True
        try:
            context.table = open_table(settings)
        except MigrationError as error:
            # The check of credentials, region or endpoint reports it.
            context.unanswered = error
    if served == "dynamodb":
        return ok(
            f"complete: {target} is served, PostgreSQL is not read; {described()}"
        )
    split_table_name(source)
    context.arguments = settings.source_arguments()
    if served == "postgres":
        return ok(f"complete: {source} is served, DynamoDB is not read; {described()}")
    return ok(f"complete: {source} to {target}; {described()}")


def check_postgresql(context: CheckContext) -> Finding:
    """Connect; report the server and the encryption of the connection."""
    session = open_source(context.settings)
    connection = context.opened.enter_context(session)
    with connection.cursor() as cursor:
        cursor.execute(LIMIT)
        cursor.execute(IS_STANDBY)
        (standby,) = cursor.fetchone() or (False,)
    connection.commit()
    if context.purpose == "migrate":
        # The minimum of a run: the sessions of its driver, and one that reads.
        require_sessions(context.settings, connection, DRIVERS, there=1)
    context.connection = connection
    info = connection.info
    version = connection.get_parameter_status("server_version")
    protocol = info.ssl_attribute("protocol") if info.ssl_in_use else None
    kind = "standby" if standby else "primary"
    tls = f"{protocol}, sslmode {_mode(context)}" if protocol else "no TLS"
    found = f"PostgreSQL {version}, {kind}, {tls}, user {info.user}"
    if not protocol and is_remote(info.dsn_parameters):
        return warn(f"{found}: rows are sent in clear", "Set PGSSLMODE=verify-full.")
    if standby:
        remedy = "Read from the primary, or set hot_standby_feedback=on there."
        return warn(f"{found}: replay may end the snapshot of a run", remedy)
    return ok(found)


def check_table(context: CheckContext) -> Finding:
    """Find the table, its columns and their types."""
    connection = context.connection
    connection.rollback()
    with translating_errors():
        mapping = load_mapping(context.settings)
        sources = describe_sources(connection, context.settings, mapping, whole=False)
    context.sources = sources
    found = "; ".join(
        f"{one.name}: {', '.join(one.attributes)}; {one.id_kind} ids" for one in sources
    )
    if left := describe_left_behind(sources):
        remedy = f"Carry them: {left.pop('to carry them')}."
        parts = "; ".join(f"{name} {those}" for name, those in left.items())
        return warn(f"{found}; left behind: {parts}", remedy)
    return ok(found)


def check_row_security(context: CheckContext) -> Finding:
    """Check whether row-level security hides rows from this role."""
    for source in context.sources:
        if hides_rows(context.connection, source):
            found = f"Row-level security hides rows of {source.name} from this role."
            return fail(found, "Use a role with BYPASSRLS, or the table's owner.")
    return ok("hides no row from this role")


def check_locks(context: CheckContext) -> Finding:
    """Lock the table for reading, as a run does, and release it at once."""
    connection = context.connection
    for source in context.sources:
        name = (source.schema, source.table)
        try:
            hold_tables(connection, [name])
            locked = False
        except SourceLocked:
            locked = True
        connection.rollback()
        if locked:
            raise make_locked_error(connection, *name, LOCK_SECONDS)
    return ok("no session blocks a run from reading the table")


def _mode(context: CheckContext) -> str:
    arguments = context.arguments or {}
    return str(arguments.get("sslmode", "prefer"))
