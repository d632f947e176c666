"""Checks of ``doctor`` on AWS: identity, endpoint, table and permissions."""

import time
from collections.abc import Mapping, Sequence

from flows.doctor.diagnosis import Check, CheckContext, Finding, fail, ok, skipped, warn
from flows.errors import MigrationError, SettingsError, StoreFault, TargetError
from flows.mapping import load_mapping
from flows.models import ENTERPRISE_TABLE
from flows.models.sources import ENTERPRISE_KEY
from flows.settings import Settings
from flows.stores.dynamodb.iam import Purpose, grants_of
from flows.stores.dynamodb.indexes import (
    ITEM_TYPES,
    read_indexes,
    require_fitting,
    written_types,
)
from flows.stores.dynamodb.permission_probes import (
    describe_once,
    forbidden,
    greet,
    has_backups,
    try_action,
)
from flows.stores.dynamodb.schema import require_keys
from flows.stores.dynamodb.session import (
    checking_settings,
    has_account,
    make_session,
    open_session,
    who_am_i,
)
from flows.stores.dynamodb.table import EnterpriseTable
from flows.stores.dynamodb.throughput import read_throughput

# DynamoDB refuses signatures five minutes off; leases need a clock exact to seconds.
REFUSED_SKEW, DOUBTFUL_SKEW = 300.0, 5.0
# Below this rate, a million items take most of an hour.
FEW_WRITES = 500
ASK_SECONDS = 10.0
SET_CLOCK = "Set this machine's clock, e.g. by NTP."


def check_clock(context: CheckContext) -> Finding:
    """Compare this machine's clock with the one in the endpoint's answer."""
    if context.table is None:
        return skipped("no request can be made: see the lines below")
    try:
        context.greeting = greet(context.table)
    except MigrationError as error:
        context.unanswered = error
        return skipped("no answer came: see endpoint")
    skew = context.greeting["skew"]
    if skew is None:
        return skipped("the endpoint does not report its time")
    found = f"{abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'} of the endpoint's"
    if abs(skew) >= REFUSED_SKEW:
        return fail(f"{found}: AWS refuses the signatures", SET_CLOCK)
    if abs(skew) >= DOUBTFUL_SKEW:
        return warn(f"{found}: leases depend on it", SET_CLOCK)
    return ok("agrees with the endpoint's")


def check_credentials(context: CheckContext) -> Finding:
    """Check the credentials, and report their identity at AWS."""
    settings = context.settings
    try:
        with checking_settings():
            session = make_session(settings)
            if credentials := session.get_credentials():
                credentials.get_frozen_credentials()
        if not has_account(settings):
            return ok(f"none are needed at {settings.dynamodb_endpoint}")
        if session.region_name is None:
            return skipped("AWS cannot be asked without a region: see region")
        caller = who_am_i(settings)
    except StoreFault as fault:
        remedy = "Ignore this if DynamoDB answers; see endpoint."
        return warn(fault.message, remedy)
    return ok(f"{caller.arn}, account {caller.account}")


def check_region(context: CheckContext) -> Finding:
    """Check the region of the table."""
    with checking_settings():
        try:
            _, region = open_session(context.settings)
        except SettingsError as error:
            if "AWS_REGION" in error.message:
                raise
            return skipped("not checked: see credentials")
    return ok(region)


def check_endpoint(context: CheckContext) -> Finding:
    """Check that the endpoint answers; the address of AWS contains the region."""
    context.settings.require_safe_endpoint()
    if context.greeting is None:
        if context.table is None:
            return skipped("not checked: see credentials and region")
        error = context.unanswered or TargetError("The endpoint did not answer.")
        remedy = error.remedy or "Check DYNAMODB_ENDPOINT, AWS_REGION, the network."
        return fail(error.message, remedy)
    return ok(f"{context.table.endpoint} answers")


def check_table(context: CheckContext) -> Finding:
    """Check that the table exists with the keys PK and SK, and is active."""
    table = context.table
    description = describe_once(table)
    require_keys(table, description)
    status = description.get("TableStatus")
    if status not in {"ACTIVE", "UPDATING"}:
        found = f"The table is {status}: {table.where}."
        return fail(found, "Wait until it is ACTIVE, or name another.")
    context.description = description
    return ok(f"{table.name}: {status}, keys PK and SK")


def check_indexes(context: CheckContext) -> Finding:
    """Check that the table's indexes accept what a run or the service writes."""
    indexes = read_indexes(context.description)
    if not indexes:
        return ok("none")
    provenance = context.settings.item_provenance
    types: dict[str, Mapping[str, str | None]] = {
        "migrate": written_types(
            context.sources or (ENTERPRISE_TABLE,), provenance=provenance
        ),
        "serve": ITEM_TYPES,
        # It writes nothing.
        "reconcile": {},
    }
    require_fitting(context.table, indexes, types[context.purpose])
    names = ", ".join(index.name for index in indexes)
    return ok(f"{names}; each consumes write units")


def check_backups(context: CheckContext) -> Finding:
    """Check that the table can be restored to its state before a run."""
    try:
        backed_up = has_backups(context.table)
    except TargetError as error:
        if not forbidden(error):
            raise
        return skipped("dynamodb:DescribeContinuousBackups is not permitted")
    except StoreFault as fault:
        return skipped(fault.message)
    if backed_up is None:
        return skipped("the store does not support it")
    if backed_up:
        return ok("on")
    name = context.table.name
    local = context.settings.dynamodb_endpoint
    where = f" --endpoint-url {local}" if local else ""
    return warn(
        "off: overwritten items cannot be restored",
        f"aws dynamodb update-continuous-backups{where} --table-name {name}"
        " --point-in-time-recovery-specification PointInTimeRecoveryEnabled=true",
    )


def check_throughput(context: CheckContext) -> Finding:
    """Report the throughput of the table, and its capacity mode."""
    throughput = read_throughput(context.description)
    rates = (
        f"{throughput.writes:,.0f} writes and {throughput.reads:,.0f} reads per second"
    )
    found = f"{throughput.mode}: {rates}, {throughput.basis}"
    if throughput.mode == "provisioned" and throughput.writes < FEW_WRITES:
        remedy = "Raise it for the load, or make it on-demand: enterprises plan"
        return warn(f"{found}; that is slow", remedy)
    return ok(found)


def permission_checks(purpose: Purpose) -> Sequence[Check]:
    """Return a check for each action that a command needs."""

    def check(action: str) -> Check:
        def examine(context: CheckContext) -> Finding:
            on = _keys_by_action(purpose, context.settings)[action]
            return _try(context.table, action, on, purpose)

        return Check(f"permission {action}", examine, ("aws", "description"))

    return [check(action) for action in sorted(_keys_by_action(purpose))]


def _keys_by_action(
    purpose: Purpose, settings: Settings | None = None
) -> dict[str, list[str]]:
    """Return examples of the partition keys on which each action is needed."""
    mapping = load_mapping(settings) if settings else None
    keys = mapping.partition_keys if mapping else (ENTERPRISE_KEY,)
    partitions: dict[str, list[str]] = {}
    for grant in grants_of(purpose, partition_keys=keys):
        for action in grant.actions:
            partitions.setdefault(action, []).extend(grant.examples)
    return partitions


def _try(
    table: EnterpriseTable, action: str, on: Sequence[str], purpose: Purpose
) -> Finding:
    for partition in on:
        try:
            if not try_action(table, action, partition):
                return skipped("not tried: a try would write")
        except TargetError as error:
            if not forbidden(error):
                raise
            found = f"dynamodb:{action} is not permitted on {partition}"
            remedy = f"Attach the policy: enterprises iam-policy --for {purpose}"
            return fail(found, remedy)
        except StoreFault as fault:
            return warn(fault.message, "Run doctor again when the store is quiet.")
    return ok(f"permitted on {' and '.join(on)}")


def limit_reads(table: EnterpriseTable) -> EnterpriseTable:
    """Limit the next reads of the table to a few seconds."""
    table.deadline = time.time() + ASK_SECONDS
    return table
