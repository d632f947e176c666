"""DynamoDB, the target: reads and writes of the table."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ReadTimeoutError

from flows.errors import (
    ItemRejected,
    TargetError,
)
from flows.models import ENTITY_TYPE, KEY_PREFIX, SORT_KEY, Attribute, Item
from flows.settings import Settings
from flows.stores.dynamodb.capacity_units import change_units, units_of
from flows.stores.dynamodb.client import make_client
from flows.stores.dynamodb.rate_limiter import Pages
from flows.stores.dynamodb.session import checking_settings
from flows.stores.dynamodb.single_requests import TableRequests
from flows.stores.dynamodb.wire import encode, from_wire, to_wire, typed

logger = logging.getLogger(__name__)

BATCH_ITEMS = 25
READ_KEYS = 100
# Largest factor for the timeout of a slow page; see QUIET_SECONDS.
LONGEST_WAIT = 4
OWN_PARTITION = "MIGRATION#enterprises"

# Items of any kind at the keys of enterprises.
AT_OUR_KEYS: dict[str, Any] = {
    "FilterExpression": "begins_with(#pk, :pk) AND #sk = :sk",
    "ExpressionAttributeNames": {"#pk": "PK", "#sk": "SK"},
    "ExpressionAttributeValues": {":pk": {"S": KEY_PREFIX}, ":sk": {"S": SORT_KEY}},
}
# All three distinguish an enterprise from the other kinds of item in the table.
ENTERPRISES_ONLY: dict[str, Any] = {
    "FilterExpression": AT_OUR_KEYS["FilterExpression"] + " AND #type = :type",
    "ExpressionAttributeNames": AT_OUR_KEYS["ExpressionAttributeNames"]
    | {"#type": "entity_type"},
    "ExpressionAttributeValues": AT_OUR_KEYS["ExpressionAttributeValues"]
    | {":type": {"S": ENTITY_TYPE}},
}


class EnterpriseTable(TableRequests):
    """The target table, and the requests to it."""

    def put_batch(self, puts: Sequence[bytes], units: float | None = None) -> list[str]:
        """Put up to 25 items, encoded by ``encode_puts``, without condition.

        They are expected to consume *units*, or one each. Returns the partition keys of
        unprocessed items.
        """
        body = b'{"RequestItems":{%b:[%b]},"ReturnConsumedCapacity":"TOTAL"}'
        body %= encode(self.name), b",".join(puts)
        answer = self.send_write(
            lambda: self.wire().send(
                "BatchWriteItem", body, seconds=self.seconds_left()
            ),
            units=len(puts) if units is None else units,
        )
        left = answer.get("UnprocessedItems", {}).get(self.name, [])
        return [request["PutRequest"]["Item"]["PK"]["S"] for request in left]

    def create(self, item: Item) -> None:
        """Put an item unless its key exists.

        Raises:
            ConditionFailed: an item with this key exists.
        """
        self._write_one(
            "PutItem",
            self._units(None, item),
            TableName=self.name,
            Item=to_wire(item),
            ConditionExpression="attribute_not_exists(PK)",
        )

    def update(self, item: Item, seen: Mapping[str, Attribute]) -> None:
        """Update our attributes of an item, if they are as they were *seen*.

        Attributes that are not in *item* are kept.

        Raises:
            ConditionFailed: one of our attributes is no longer as seen.
        """
        own = [name for name in item if name not in {"PK", "SK"}]
        condition = _as_seen(own, seen)
        changes = ", ".join(f"#a{i} = :n{i}" for i in range(len(own)))
        new = {f":n{i}": typed(item[name]) for i, name in enumerate(own)}
        condition["ExpressionAttributeValues"] |= new
        self._write_one(
            "UpdateItem",
            self._units(seen, {**seen, **item}),
            TableName=self.name,
            Key=to_wire({"PK": item["PK"], "SK": item["SK"]}),
            UpdateExpression=f"SET {changes}",
            **condition,
        )

    def delete(self, seen: Mapping[str, Attribute], own: Sequence[str]) -> None:
        """Delete an item, if our *own* attributes of it are as they were *seen*.

        Raises:
            ConditionFailed: one of our attributes is no longer as seen.
        """
        self._write_one(
            "DeleteItem",
            self._units(seen, None),
            TableName=self.name,
            Key=to_wire({"PK": seen["PK"], "SK": seen["SK"]}),
            **_as_seen([name for name in own if name not in {"PK", "SK"}], seen),
        )

    def read(self, keys: Sequence[str]) -> dict[str, Item]:
        """Read the items of some partition keys, strongly consistent.

        Sends requests of up to 100 keys; returns existing items by partition key.
        """
        found: dict[str, Item] = {}
        pending = [to_wire({"PK": key, "SK": SORT_KEY}) for key in keys]
        # A key costs at least one unit: a cap limits a request to one second's units.
        most = (
            int(min(READ_KEYS, self.read_limiter.cap))
            if self.read_limiter
            else READ_KEYS
        )
        backoff = self.backoff()
        while pending:
            wanted, pending = pending[:most], pending[most:]
            asked = {self.name: {"Keys": wanted, "ConsistentRead": True}}
            send = self.prepare("BatchGetItem", RequestItems=asked)
            answer = self.send_read(send, units=len(wanted))
            for wire in answer["Responses"].get(self.name, []):
                found[wire["PK"]["S"]] = from_wire(wire)
            left = answer.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])
            if left:
                pending = left + pending
                self.capacity.add(throttles=1)
                backoff.wait()
        return found

    def scan(
        self,
        attributes: Sequence[str] | None = None,
        only: Mapping[str, Any] = ENTERPRISES_ONLY,
    ) -> Iterator[list[Item]]:
        """Scan the whole table, strongly consistent; yield each page's enterprises.

        Other kinds of item are left out; a page may be empty.
        """
        request: dict[str, Any] = {"ConsistentRead": True, **only}
        pages = Pages(self.read_limiter)
        if attributes is not None:
            named = {f"#p{i}": name for i, name in enumerate(attributes)}
            request["ProjectionExpression"] = ", ".join(named)
            names = request["ExpressionAttributeNames"]
            request["ExpressionAttributeNames"] = names | named
        while True:
            answer = self.read_page(pages, request)
            pages.learn(answer["ScannedCount"], units_of(answer))
            yield [from_wire(wire) for wire in answer["Items"]]
            # Only a missing key marks the last page: others may be empty.
            if "LastEvaluatedKey" not in answer:
                return
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def read_page(
        self,
        pages: Pages,
        request: Mapping[str, Any],
        parse: Callable[[bytes], Any] | None = None,
    ) -> Any:
        """Request a page of a scan until it is answered, and *parse* the answer.

        A page that times out is requested again at half its size, with a longer
        timeout.

        Raises:
            Incomplete: the deadline has passed, or no page came for five minutes.
        """
        limits: Any = self.client.meta.config
        usual = float(limits.read_timeout)
        asked = {"TableName": self.name, "ReturnConsumedCapacity": "TOTAL", **request}

        def send() -> Any:
            step, limit = pages.step, pages.limit
            body = encode(asked if limit is None else asked | {"Limit": limit})
            seconds = self.seconds_left(min(usual * 2**step, usual * LONGEST_WAIT))
            begun = time.monotonic()
            try:
                answer = self.wire().send("Scan", body, parse, seconds)
            except ReadTimeoutError:
                pages.shrink(step)
                logger.warning(
                    "a page of the scan did not arrive within %g s; requesting pages of"
                    " at most %s items",
                    seconds,
                    pages.limit,
                )
                raise
            if time.monotonic() - begun < usual / 4:
                pages.grow(step)
            return answer

        return self.send_read(send, units=pages.units)

    def is_taken(self) -> bool:
        """Return whether an item of any kind exists at a key of an enterprise.

        It may belong to another program, and must not be overwritten unread.
        """
        return any(self.scan(["PK"], AT_OUR_KEYS))

    def get_own(self, sort_key: str) -> Item | None:
        """Read one of this program's own items, strongly consistent."""
        send = self.prepare(
            "GetItem",
            TableName=self.name,
            Key=to_wire({"PK": OWN_PARTITION, "SK": sort_key}),
            ConsistentRead=True,
        )
        answer = self.send_read(send)
        return from_wire(answer["Item"]) if "Item" in answer else None

    @contextmanager
    def writing_own(self) -> Iterator[None]:
        """Write one of this program's own items in the block.

        Raises:
            TargetError: the table refuses the item, regardless of its values.
        """
        try:
            yield
        except ItemRejected as fault:
            message = f"The table refuses an item of the run ({fault.reason}):"
            remedy = "Check the table's indexes: enterprises doctor"
            raise TargetError(f"{message} {self.where}.", remedy) from None

    def _units(
        self,
        before: Mapping[str, Attribute] | None,
        after: Mapping[str, Attribute] | None,
    ) -> int:
        return sum(change_units(before, after, self.indexes).values())

    def _write_one(self, operation: str, units: float, **arguments: Any) -> None:
        self.send_write(self.prepare(operation, **arguments), units=units)


def open_table(settings: Settings, deadline: float | None = None) -> EnterpriseTable:
    """Open the target table; send nothing yet.

    Raises:
        SettingsError: the region or half of the access key is missing, the endpoint is
            not safe, or boto3 refuses a setting.
    """
    settings.require_safe_endpoint()
    with checking_settings():
        client = make_client(settings)
    return EnterpriseTable(
        client,
        name=settings.dynamodb_enterprise_table,
        region=client.meta.region_name,
        endpoint=client.meta.endpoint_url,
        deadline=deadline,
        renew=lambda: make_client(settings),
    )


def _as_seen(own: Sequence[str], seen: Mapping[str, Attribute]) -> dict[str, Any]:
    """Return the condition that an item's own attributes are as they were seen."""
    values = {}
    conditions = ["attribute_exists(PK)"]
    for i, name in enumerate(own):
        if name in seen:
            values[f":s{i}"] = typed(seen[name])
            conditions.append(f"#a{i} = :s{i}")
        else:
            conditions.append(f"attribute_not_exists(#a{i})")
    return {
        "ConditionExpression": " AND ".join(conditions),
        "ExpressionAttributeNames": {f"#a{i}": name for i, name in enumerate(own)},
        "ExpressionAttributeValues": values,
    }
