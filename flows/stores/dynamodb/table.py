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
from flows.models import (
    ENTERPRISE_TABLE,
    Attribute,
    Item,
    Key,
    SourceTable,
    key_of,
)
from flows.settings import Settings
from flows.stores.dynamodb.capacity_units import change_units, units_of
from flows.stores.dynamodb.changes import make_condition, make_update
from flows.stores.dynamodb.client import make_client
from flows.stores.dynamodb.filters import OWN_PARTITION, at_keys_of, filter_of
from flows.stores.dynamodb.rate_limiter import Pages
from flows.stores.dynamodb.session import checking_settings
from flows.stores.dynamodb.single_requests import TableRequests
from flows.stores.dynamodb.wire import encode, from_wire, to_wire

logger = logging.getLogger(__name__)

__all__ = [
    "BATCH_ITEMS",
    "ENTERPRISES_ONLY",
    "OWN_PARTITION",
    "READ_KEYS",
    "EnterpriseTable",
    "at_keys_of",
    "filter_of",
    "open_table",
]

BATCH_ITEMS = 25
READ_KEYS = 100
# Largest factor for the timeout of a slow page; see QUIET_SECONDS.
LONGEST_WAIT = 4
ENTERPRISES_ONLY = filter_of(ENTERPRISE_TABLE)


class EnterpriseTable(TableRequests):
    """The target table, and the requests to it."""

    def put_batch(self, puts: Sequence[bytes], units: float | None = None) -> list[Key]:
        """Put up to 25 items, encoded by ``encode_puts``, without condition.

        They are expected to consume *units*, or one each. Returns the keys of
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
        return [_key_of(request["PutRequest"]["Item"]) for request in left]

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

        An attribute that is None in *item* is removed. Attributes that are not in
        *item* are kept.

        Raises:
            ConditionFailed: one of our attributes is no longer as seen.
        """
        self._write_one(
            "UpdateItem",
            self._units(seen, {**seen, **item}),
            TableName=self.name,
            Key=to_wire({"PK": item["PK"], "SK": item["SK"]}),
            **make_update(item, seen),
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
            **make_condition(own, seen),
        )

    def read(self, keys: Sequence[Key]) -> dict[Key, Item]:
        """Read the items at some keys, each given once, strongly consistent.

        Sends requests of up to 100 keys; returns existing items by key.
        """
        found: dict[Key, Item] = {}
        pending = [to_wire({"PK": pk, "SK": sk}) for pk, sk in keys]
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
                item = from_wire(wire)
                found[key_of(item)] = item
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
        """Scan the whole table, strongly consistent; yield each page's items.

        These are the items that pass a filter, such as those of an entity: see
        ``filter_of``. A page may be empty.
        """
        request: dict[str, Any] = {"ConsistentRead": True, **only}
        pages = Pages(self.read_limiter)
        if attributes is not None:
            named = {f"#p{i}": name for i, name in enumerate(attributes)}
            request["ProjectionExpression"] = ", ".join(named)
            names = request.get("ExpressionAttributeNames", {})
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

    def is_taken(self, sources: Sequence[SourceTable] = (ENTERPRISE_TABLE,)) -> bool:
        """Return whether an item of any kind exists at a key of one of the entities.

        It may belong to another program, and must not be overwritten unread.
        """
        return any(self.scan(["PK"], at_keys_of(sources)))

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


def _key_of(wire: Mapping[str, Any]) -> Key:
    """Return the key of an item in DynamoDB's typed form."""
    return wire["PK"]["S"], wire["SK"]["S"]
