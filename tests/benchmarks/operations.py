"""The operations of DynamoDB for the benchmarks, on tables in memory.

They accept and return DynamoDB's JSON. Items stay bytes from the request to the answer
if a request only stores or fetches them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from tests.benchmarks.answers import (
    AnswerError,
    Json,
    condition_failed,
    consumed_by,
    describe,
    projected,
    read_cost,
    selected,
    throttled,
    wire_key,
)
from tests.benchmarks.consumption import Consumption, TokenBucket
from tests.benchmarks.expressions import (
    BadExpressionError,
    changed,
    is_met,
    projection,
)
from tests.benchmarks.memory_table import (
    BadItemError,
    Key,
    MemoryTable,
    encode,
    item_size,
    key_of,
    write_units,
)

BATCH_ITEMS = 25
READ_KEYS = 100


class Operations:
    """All tables of an endpoint; ``write_units`` throttles each of them, if given."""

    def __init__(self, write_units: float | None = None) -> None:
        self.consumption = Consumption()
        self._write_units = write_units
        self._tables: dict[str, MemoryTable] = {}
        self._buckets: dict[str, TokenBucket] = {}
        self._known: dict[str, Callable[[Json], Json]] = {
            "BatchGetItem": self.batch_get_item,
            "BatchWriteItem": self.batch_write_item,
            "CreateTable": self.create_table,
            "DeleteItem": self.write_item,
            "DeleteTable": self.delete_table,
            "DescribeTable": self.describe_table,
            "GetItem": self.get_item,
            "PutItem": self.write_item,
            "Scan": self.scan,
            "TransactWriteItems": self.transact_write_items,
            "UpdateItem": self.write_item,
        }

    def answer(self, operation: str, body: bytes) -> bytes:
        """Execute a request, and return the answer's body.

        Raises:
            AnswerError: the answer is an error.
        """
        known = self._known.get(operation)
        if known is None:
            raise AnswerError("UnknownOperationException", operation)
        self.consumption.add(**{operation: 1})
        try:
            return orjson.dumps(known(orjson.loads(body)))
        except (BadItemError, BadExpressionError, KeyError) as error:
            raise AnswerError("ValidationException", str(error)) from None
        except orjson.JSONDecodeError as error:
            raise AnswerError("SerializationException", str(error)) from None

    def create_table(self, request: Json) -> Json:
        """Create a table, which is active at once; its keys must be PK and SK."""
        name = request["TableName"]
        if name in self._tables:
            raise AnswerError("ResourceInUseException", f"Table exists: {name}")
        if [k["AttributeName"] for k in request["KeySchema"]] != ["PK", "SK"]:
            message = "the endpoint has only tables with the keys PK and SK"
            raise AnswerError("ValidationException", message)
        table = MemoryTable(describe(request))
        self._tables[name] = table
        provisioned = request.get("ProvisionedThroughput", {}).get("WriteCapacityUnits")
        limits = [r for r in (provisioned, self._write_units) if r]
        self._buckets[name] = TokenBucket(min(limits, default=None))
        return {"TableDescription": table.description}

    def delete_table(self, request: Json) -> Json:
        """Delete a table at once."""
        description = self._table(request["TableName"]).description
        del self._tables[request["TableName"]]
        return {"TableDescription": description | {"TableStatus": "DELETING"}}

    def describe_table(self, request: Json) -> Json:
        """Describe a table; its count of items is live, while AWS's is hours old."""
        table = self._table(request["TableName"])
        return {"Table": table.description | {"ItemCount": len(table)}}

    def batch_write_item(self, request: Json) -> Json:
        """Put and delete up to 25 items; return throttled ones as unprocessed."""
        writes = [
            (name, *_batch_write(write), write)
            for name, requests in request["RequestItems"].items()
            for write in requests
        ]
        _require_distinct([write[:2] for write in writes], BATCH_ITEMS)
        left: dict[str, list[Json]] = {}
        units: dict[str, float] = {}
        for name, key, item, write in writes:
            table = self._table(name)
            cost = write_units(item, table.get(key))
            if name not in left and self._buckets[name].take(cost):
                table.put(key, item)
                units[name] = units.get(name, 0.0) + cost
            else:
                left.setdefault(name, []).append(write)
        if not units:
            self.consumption.add(throttled=1)
            raise throttled()
        unprocessed = sum(map(len, left.values()))
        self.consumption.add(write_units=sum(units.values()), unprocessed=unprocessed)
        return {"UnprocessedItems": left} | consumed_by(request, units, batch=True)

    def batch_get_item(self, request: Json) -> Json:
        """Return the items of up to 100 keys, all of them regardless of size."""
        wanted = request["RequestItems"]
        keys = [(n, key_of(key)) for n, part in wanted.items() for key in part["Keys"]]
        _require_distinct(keys, READ_KEYS)
        found: dict[str, list[Any]] = {}
        units: dict[str, float] = {}
        for name, part in wanted.items():
            table = self._table(name)
            items = [table.get(key_of(key)) for key in part["Keys"]]
            sizes = [item_size(item) if item else 0 for item in items]
            units[name] = sum(map(read_cost(part), sizes))
            found[name] = [projected(i, projection(part)) for i in items if i]
        self.consumption.add(read_units=sum(units.values()))
        answer = {"Responses": found, "UnprocessedKeys": {}}
        return answer | consumed_by(request, units, batch=True)

    def get_item(self, request: Json) -> Json:
        """Return an item, if it exists."""
        found = self._table(request["TableName"]).get(key_of(request["Key"]))
        cost = read_cost(request)(item_size(found) if found else 0)
        self.consumption.add(read_units=cost)
        answer = {"Item": projected(found, projection(request))} if found else {}
        return answer | consumed_by(request, {request["TableName"]: cost})

    def write_item(self, request: Json) -> Json:
        """Put, change or delete an item, optionally on a condition."""
        name = request["TableName"]
        table = self._table(name)
        key, old, new = _write(table, request)
        cost = write_units(new, old)
        if not self._buckets[name].take(cost):
            self.consumption.add(throttled=1)
            raise throttled()
        # A write whose condition is not met costs its units as well.
        self.consumption.add(write_units=cost)
        if not is_met(orjson.loads(old) if old else {}, request):
            raise condition_failed(request, old)
        table.put(key, new)
        attributes = {}
        if old and request.get("ReturnValues") == "ALL_OLD":
            attributes = {"Attributes": orjson.Fragment(old)}
        return attributes | consumed_by(request, {name: cost})

    def transact_write_items(self, request: Json) -> Json:
        """Execute all of some writes and checks, or none of them, at twice their cost.

        They are never throttled, and no ClientRequestToken is recognised.
        """
        actions = [one for action in request["TransactItems"] for one in action.items()]
        writes: list[tuple[str, Key, bytes | None]] = []
        reasons: list[Json] = []
        units: dict[str, float] = {}
        for kind, action in actions:
            name = action["TableName"]
            table = self._table(name)
            key, old, new = _write(table, action)
            met = is_met(orjson.loads(old) if old else {}, action)
            reasons.append({"Code": "None" if met else "ConditionalCheckFailed"})
            if kind != "ConditionCheck":
                writes.append((name, key, new))
            units[name] = units.get(name, 0.0) + 2.0 * write_units(new, old)
        self.consumption.add(write_units=sum(units.values()))
        if any(reason["Code"] != "None" for reason in reasons):
            code = "TransactionCanceledException"
            raise AnswerError(code, "cancelled", CancellationReasons=reasons)
        for name, key, new in writes:
            self._tables[name].put(key, new)
        return consumed_by(request, units, batch=True)

    def scan(self, request: Json) -> Json:
        """Return a page of the items that match the filter, and the next key."""
        name = request["TableName"]
        start = request.get("ExclusiveStartKey")
        page = self._table(name).scan(
            request.get("Segment", 0),
            request.get("TotalSegments", 1),
            key_of(start) if start else None,
            request.get("Limit", 0),
        )
        wanted = projection(request)
        items = [selected(item, request, wanted) for item in page.items]
        found = [item for item in items if item is not None]
        cost = read_cost(request)(page.size)
        self.consumption.add(read_units=cost)
        answer: Json = {"Count": len(found), "ScannedCount": len(page.items)}
        if request.get("Select") != "COUNT":
            answer["Items"] = found
        if page.last:
            answer["LastEvaluatedKey"] = wire_key(page.last)
        return answer | consumed_by(request, {name: cost})

    def _table(self, name: str) -> MemoryTable:
        if name not in self._tables:
            message = f"Requested resource not found: Table: {name}"
            raise AnswerError("ResourceNotFoundException", message)
        return self._tables[name]


def _batch_write(write: Json) -> tuple[Key, bytes | None]:
    put = write.get("PutRequest")
    if put is None:
        return key_of(write["DeleteRequest"]["Key"]), None
    return key_of(put["Item"]), encode(put["Item"])


def _write(table: MemoryTable, request: Json) -> tuple[Key, bytes | None, bytes | None]:
    """Return the key of a write, the existing item, and the new one."""
    if "Item" in request:
        key = key_of(request["Item"])
        return key, table.get(key), encode(request["Item"])
    key = key_of(request["Key"])
    old = table.get(key)
    if "UpdateExpression" not in request:
        return key, old, None
    return key, old, encode(changed(orjson.loads(old) if old else {}, request))


def _require_distinct(keys: Sequence[object], most: int) -> None:
    if not 0 < len(keys) <= most:
        message = f"1 to {most} items are allowed"
        raise AnswerError("ValidationException", message)
    if len(set(keys)) < len(keys):
        message = "Provided list of item keys contains duplicates"
        raise AnswerError("ValidationException", message)
