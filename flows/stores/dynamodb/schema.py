"""The target table as a whole: its keys and its creation."""

import time
from typing import Any, cast

from flows.errors import (
    ItemRejected,
    StoreFault,
    TargetError,
    Throttled,
)
from flows.stores.dynamodb.faults import TableExists, TableMissing, translating_answers
from flows.stores.dynamodb.table import EnterpriseTable

KEY_SCHEMA = (("PK", "HASH", "S"), ("SK", "RANGE", "S"))
ACTIVE_SECONDS = 60.0
MAX_TRIES = 4


def require_table(table: EnterpriseTable, *, making: bool = False) -> Any:
    """Check that the table exists, is active, and has the keys of the items.

    Returns its description. Waits for a table that is being created; while *making* it,
    also for one that is not visible yet.

    Raises:
        TargetError: the table is missing, has other keys, is being deleted, or cannot
            be described.
    """
    description = describe_active(table, making=making)
    require_keys(table, description)
    return description


def require_keys(table: EnterpriseTable, description: Any) -> None:
    """Raise unless the table has the keys of the items.

    Raises:
        TargetError: the table has other keys.
    """
    types = {
        a["AttributeName"]: a["AttributeType"]
        for a in description["AttributeDefinitions"]
    }
    found = tuple(
        (key["AttributeName"], key["KeyType"], types[key["AttributeName"]])
        for key in description["KeySchema"]
    )
    if found != KEY_SCHEMA:
        keys = ", ".join(" ".join(key) for key in found)
        message = f"The keys are {keys}, not PK HASH S, SK RANGE S: {table.where}."
        raise TargetError(
            message,
            "Set DYNAMODB_ENTERPRISE_TABLE to another name, and create that table:"
            " enterprises create-table",
        )


def account_of(description: Any) -> str:
    """Return the account of a described table from its ARN; empty without one."""
    parts = str(description.get("TableArn", "")).split(":")
    return parts[4] if len(parts) > 4 else ""  # noqa: PLR2004 - ARN's fifth part


def create_table(table: EnterpriseTable) -> bool:
    """Create the table, on-demand, and wait for it; return False if it existed.

    Raises:
        TargetError: the table exists with other keys, or cannot be created.
    """
    definition: Any = {
        "KeySchema": [{"AttributeName": n, "KeyType": k} for n, k, _ in KEY_SCHEMA],
        "AttributeDefinitions": [
            {"AttributeName": n, "AttributeType": t} for n, _, t in KEY_SCHEMA
        ],
    }
    try:
        with translating_answers(table.where):
            table.client.create_table(
                TableName=table.name, BillingMode="PAY_PER_REQUEST", **definition
            )
    except TableExists:
        require_table(table)
        return False
    except StoreFault as fault:
        remedy = fault.remedy or "Check DYNAMODB_ENTERPRISE_TABLE, then run it again."
        raise TargetError(fault.message, remedy) from None
    require_table(table, making=True)
    return True


def describe_active(table: EnterpriseTable, *, making: bool = False) -> Any:
    """Return the table's description once the table is active.

    Raises:
        TableMissing: the table does not exist, or does not appear while *making* it.
        TargetError: the table is being deleted, or cannot be described.
    """
    backoff = table.backoff()
    tries, end = 0, time.monotonic() + ACTIVE_SECONDS
    while True:
        try:
            with translating_answers(table.where):
                answer = table.client.describe_table(TableName=table.name)
        except TableMissing:
            if not making or time.monotonic() > end:
                raise
        except StoreFault as fault:
            # Throttles pass; other faults are raised within seconds.
            tries += not isinstance(fault, Throttled)
            late = tries == MAX_TRIES or time.monotonic() > end
            if late or isinstance(fault, ItemRejected):
                remedy = fault.remedy or "Check DYNAMODB_ENTERPRISE_TABLE."
                raise TargetError(fault.message, remedy) from None
        else:
            description = cast("Any", answer["Table"])
            status = description.get("TableStatus")
            if status in {"ACTIVE", "UPDATING"}:
                return description
            if status != "CREATING" or time.monotonic() > end:
                message = f"The table is {status}: {table.where}."
                raise TargetError(message, "Wait until it is ACTIVE, or name another.")
        backoff.wait()
