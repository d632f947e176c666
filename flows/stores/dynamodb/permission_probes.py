"""Requests that change nothing, and show whether AWS allows an action."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError

from flows.errors import ConditionFailed, TargetError
from flows.models import SORT_KEY
from flows.stores.dynamodb.faults import translating_answers
from flows.stores.dynamodb.table import OWN_PARTITION, EnterpriseTable
from flows.stores.dynamodb.wire import to_wire

# No item meets it, so nothing is ever written: the refusal shows the permission.
IMPOSSIBLE = {
    "ConditionExpression": "attribute_exists(PK) AND attribute_not_exists(PK)"
}
_UNKNOWN = {"UnknownOperationException", "UnknownOperation", "NotImplemented"}


def greet(table: EnterpriseTable) -> dict[str, Any]:
    """Send an unsigned GET to the endpoint; return the difference of the clocks.

    ``skew`` is in seconds, positive if this machine is ahead; None if it is unknown.

    Raises:
        StoreFault: the endpoint gave no answer.
        TargetError: the endpoint's certificate is not trusted.
    """
    session: Any = table.client._endpoint.http_session  # type: ignore[attr-defined] # noqa: SLF001
    request = AWSRequest("GET", table.endpoint.rstrip("/") + "/").prepare()
    with translating_answers(table.where):
        answer = session.send(request)
    now = datetime.now(UTC)
    try:
        theirs = parsedate_to_datetime(answer.headers.get("date", ""))
    except ValueError:
        return {"skew": None}
    return {"skew": (now - theirs).total_seconds()}


def describe_once(table: EnterpriseTable) -> Any:
    """Return the table's description without waiting.

    Raises:
        TargetError: the table does not exist, or describing it is not permitted.
        StoreFault: the store gave no clear answer.
    """
    with translating_answers(table.where):
        return table.client.describe_table(TableName=table.name)["Table"]


def has_backups(table: EnterpriseTable) -> bool | None:
    """Return whether point-in-time recovery is on; None if it is unknown to the store.

    Raises:
        TargetError: the request is not permitted.
        StoreFault: the store gave no clear answer.
    """
    with translating_answers(table.where):
        try:
            answer = table.client.describe_continuous_backups(TableName=table.name)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in _UNKNOWN:
                return None
            raise
    described = answer["ContinuousBackupsDescription"]
    recovery = described.get("PointInTimeRecoveryDescription", {})
    return bool(recovery.get("PointInTimeRecoveryStatus") == "ENABLED")


def try_action(table: EnterpriseTable, action: str, partition: str) -> bool:
    """Try an action on a partition; return False if it cannot be tried.

    A write is tried under a condition that no item meets.

    Raises:
        TargetError: the action is not permitted.
        StoreFault: the store gave no clear answer.
    """
    order = "DOCTOR" if partition == OWN_PARTITION else SORT_KEY
    request = _requests(table, to_wire({"PK": partition, "SK": order})).get(action)
    if request is None:
        return False
    call, arguments = request
    try:
        with translating_answers(table.where):
            call(**arguments)
    except ConditionFailed:
        # DynamoDB checks the condition only if the write is permitted.
        return True
    return True


def forbidden(error: TargetError) -> bool:
    """Return whether a permission was missing."""
    return "AccessDenied" in error.message


def _requests(
    table: EnterpriseTable, key: Mapping[str, Any]
) -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    client, name = table.client, {"TableName": table.name}
    own = {**name, "Key": key, **IMPOSSIBLE}
    change = {
        "UpdateExpression": "SET #d = :d",
        "ExpressionAttributeNames": {"#d": "doctor"},
        "ExpressionAttributeValues": {":d": {"S": "doctor"}},
    }
    keys = {"RequestItems": {table.name: {"Keys": [key], "ConsistentRead": True}}}
    check = {"TransactItems": [{"ConditionCheck": own}]}
    return {
        "DescribeTable": (client.describe_table, name),
        "Scan": (client.scan, {**name, "Limit": 1, "ConsistentRead": True}),
        "GetItem": (client.get_item, {**name, "Key": key}),
        "BatchGetItem": (client.batch_get_item, keys),
        "PutItem": (client.put_item, {**name, "Item": key, **IMPOSSIBLE}),
        "UpdateItem": (client.update_item, own | change),
        "DeleteItem": (client.delete_item, own),
        "ConditionCheckItem": (client.transact_write_items, check),
    }
