"""What the benchmarks' endpoint answers: parts of items, what they cost, errors."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import orjson

from tests.benchmarks.expressions import is_met
from tests.benchmarks.memory_table import read_units

Json: TypeAlias = dict[str, Any]


class AnswerError(Exception):
    """Raised for what DynamoDB answers with an error: its code, and what it adds."""

    def __init__(self, code: str, message: str = "", **more: object) -> None:
        super().__init__(code, message)
        self.body = {"__type": code, "message": message, **more}


def selected(item: bytes, request: Json, wanted: frozenset[str] | None) -> Any:
    """Return an item of a scan as it is answered, None if the filter leaves it out."""
    if wanted is None and "FilterExpression" not in request:
        return orjson.Fragment(item)
    parsed = orjson.loads(item)
    if not is_met(parsed, request, "FilterExpression"):
        return None
    if wanted is None or wanted.issuperset(parsed):
        return orjson.Fragment(item)
    return {name: value for name, value in parsed.items() if name in wanted}


def projected(item: bytes, wanted: frozenset[str] | None) -> Any:
    """Return an item with its wanted attributes alone."""
    if wanted is None:
        return orjson.Fragment(item)
    parsed = orjson.loads(item)
    return {name: value for name, value in parsed.items() if name in wanted}


def read_cost(request: Mapping[str, Any]) -> Callable[[int], float]:
    """Return what a read of so many bytes costs, as the request asks for it."""
    share = 1.0 if request.get("ConsistentRead") else 0.5
    return lambda size: share * read_units(size)


def consumed_by(
    request: Json, units: Mapping[str, float], *, batch: bool = False
) -> Json:
    """Return the consumed capacity, if the request asks for it."""
    if request.get("ReturnConsumedCapacity", "NONE") == "NONE":
        return {}
    entries = [{"TableName": n, "CapacityUnits": float(u)} for n, u in units.items()]
    return {"ConsumedCapacity": entries if batch else entries[0]}


def wire_key(key: Sequence[str]) -> Json:
    """Return a key in DynamoDB's form."""
    return {"PK": {"S": key[0]}, "SK": {"S": key[1]}}


def throttled() -> AnswerError:
    """Return the answer to a write for which there are no units."""
    message = "The level of configured provisioned throughput was exceeded"
    return AnswerError("ProvisionedThroughputExceededException", message)


def condition_failed(request: Json, old: bytes | None) -> AnswerError:
    """Return the answer to a write whose condition is not met."""
    more = {}
    if old and request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD":
        more = {"Item": orjson.loads(old)}
    code = "ConditionalCheckFailedException"
    return AnswerError(code, "The conditional request failed", **more)


def describe(request: Json) -> Json:
    """Return the description of a table that a CreateTable asks for."""
    name = request["TableName"]
    mode = request.get("BillingMode", "PROVISIONED")
    asked = request.get("ProvisionedThroughput", {})
    units = ("ReadCapacityUnits", "WriteCapacityUnits")
    return {
        "TableName": name,
        "TableStatus": "ACTIVE",
        "TableArn": f"arn:aws:dynamodb:us-east-1:000000000000:table/{name}",
        "CreationDateTime": time.time(),
        "KeySchema": request["KeySchema"],
        "AttributeDefinitions": request["AttributeDefinitions"],
        "BillingModeSummary": {"BillingMode": mode},
        "ProvisionedThroughput": {unit: asked.get(unit, 0) for unit in units},
        "TableSizeBytes": 0,
    }
