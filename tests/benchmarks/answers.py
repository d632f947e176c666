"""Answers of the benchmarks' endpoint: parts of items, their costs, errors."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import orjson

from tests.benchmarks.expressions import is_met
from tests.benchmarks.memory_table import read_units

Json: TypeAlias = dict[str, Any]


class AnswerError(Exception):
    """Raised for an error answer of DynamoDB, with its code and extra values."""

    def __init__(self, code: str, message: str = "", **more: object) -> None:
        super().__init__(code, message)
        self.body = {"__type": code, "message": message, **more}


def selected(item: bytes, request: Json, wanted: frozenset[str] | None) -> Any:
    """Return an item of a scan for the answer, or None if the filter excludes it."""
    if wanted is None and "FilterExpression" not in request:
        return orjson.Fragment(item)
    parsed = orjson.loads(item)
    if not is_met(parsed, request, "FilterExpression"):
        return None
    if wanted is None or wanted.issuperset(parsed):
        return orjson.Fragment(item)
    return {name: value for name, value in parsed.items() if name in wanted}


def projected(item: bytes, wanted: frozenset[str] | None) -> Any:
    """Return an item with only its wanted attributes."""
    if wanted is None:
        return orjson.Fragment(item)
    parsed = orjson.loads(item)
    return {name: value for name, value in parsed.items() if name in wanted}


def read_cost(request: Mapping[str, Any]) -> Callable[[int], float]:
    """Return a function for the cost of a read of that many bytes in the request."""
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
    """Return the answer to a write without available units."""
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
    """Return the description of the table in a CreateTable request."""
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
