"""The enterprises in DynamoDB, for the service.

Every change is conditioned on the item that was read just before, so that it is safe
to send again after a lost answer: it is not applied twice, nor over another edit.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from uuid import NAMESPACE_URL, uuid4, uuid5

from flows.api.ids import is_opaque
from flows.api.items import as_enterprise, new_item, renamed
from flows.api.store import (
    Changed,
    Conflict,
    Enterprise,
    Matches,
    Page,
    Position,
    Unsorted,
    ValueRefused,
    next_stamp,
)
from flows.errors import (
    Ambiguous,
    ConditionFailed,
    ItemRejected,
    TargetError,
)
from flows.models import KEY_PREFIX, SORT_KEY, Item, is_enterprise
from flows.stores.dynamodb.backoff import Backoff
from flows.stores.dynamodb.faults import translating_answers
from flows.stores.dynamodb.indexes import (
    ITEM_TYPES,
    longest_name,
    read_indexes,
    require_fitting,
)
from flows.stores.dynamodb.schema import require_keys
from flows.stores.dynamodb.table import ENTERPRISES_ONLY, EnterpriseTable
from flows.stores.dynamodb.wire import from_wire, to_wire, typed

# Long enough for a throttle to pass, short enough for a waiting client.
RETRY_SECONDS = 2.0
# Short pauses give each of many concurrent changes of one item enough retries.
LONGEST_PAUSE = 0.2
SHOWN_ITEMS = 10
# An id derived from an Idempotency-Key is never that of a migrated row.
KEY_NAMESPACE = uuid5(NAMESPACE_URL, "urn:enterprises:idempotency-key")
KEY_RECORD = "IDEMPOTENCY_KEY"
OF_THIS_NAME = " AND (#name = :name OR (attribute_not_exists(#name) AND #long = :name))"

T = TypeVar("T")


class DynamoStore:
    """An ``EnterpriseStore`` over the table that the migration fills.

    Reads are eventually consistent unless *consistent* or the call says otherwise.
    """

    def __init__(self, table: EnterpriseTable, *, consistent: bool = False) -> None:
        self._table = table
        self._consistent = consistent

    def check(self) -> None:
        """Check that the table exists, is active and has the required keys."""
        description = self._description()
        require_keys(self._table, description)
        status = description["TableStatus"]
        if status not in {"ACTIVE", "UPDATING"}:
            message = f"The table is {status}: {self._table.where}."
            raise TargetError(message, "Wait until it is ACTIVE.")

    def close(self) -> None:
        """Close the connections."""
        self._table.client.close()

    def find(
        self, *, name: str | None = None, consistent: bool | None = None
    ) -> list[Enterprise]:
        """Return all enterprises, or those of exactly this name."""
        request = ENTERPRISES_ONLY if name is None else _only_named(name)
        pages = self._scan(request, consistent=consistent)
        return [as_enterprise(from_wire(wire)) for page in pages for wire in page]

    def read_page(
        self,
        limit: int,
        after: Position | None,
        *,
        by_name: bool = False,
        consistent: bool | None = None,
    ) -> Page:
        """Return up to *limit* enterprises in the table's own order."""
        if by_name:
            message = "DynamoDB cannot sort pages: its key is the id, not the name."
            remedy = "Omit limit and cursor for the whole list, sorted, or omit sort."
            raise Unsorted(message, remedy)
        request = ENTERPRISES_ONLY | {"Limit": max(limit + 1, 100)}
        if after is not None:
            request["ExclusiveStartKey"] = to_wire({"PK": str(after), "SK": SORT_KEY})
        found = self._first(limit + 1, request, consistent=consistent)
        items = [from_wire(wire) for wire in found[:limit]]
        end = str(items[-1]["PK"]) if len(found) > limit else None
        return Page([as_enterprise(item) for item in items], end)

    def get(
        self, enterprise_id: str, *, consistent: bool | None = None
    ) -> Enterprise | None:
        """Return the enterprise of this id, if there is one."""
        item = self._item(enterprise_id, consistent=consistent)
        return None if item is None else as_enterprise(item)

    def create(self, name: str, key: str | None = None) -> Enterprise:
        """Create an enterprise, with a random id or one derived from *key*.

        A record of what *key* created outlives its renaming and deletion.
        """
        new_id = str(uuid4() if key is None else uuid5(KEY_NAMESPACE, key))
        item = new_item(new_id, name)

        def attempt() -> Enterprise:
            try:
                if key is None:
                    self._table.create(item)
                else:
                    self._create_with_record(item)
            except ConditionFailed:
                # It exists already, after a lost answer or a repeated request.
                made = self._recorded(new_id) or self.get(new_id, consistent=True)
                if made is None:
                    raise
                if made.name != name:
                    message = "This Idempotency-Key was used for another enterprise."
                    raise Conflict(message) from None
                return made
            return as_enterprise(item)

        return self._write(attempt, name)

    def _create_with_record(self, item: Item) -> None:
        record = item | {"SK": KEY_RECORD, "entity_type": "idempotency_key"}
        puts = [
            {
                "Put": {
                    "TableName": self._table.name,
                    "Item": to_wire(each),
                    "ConditionExpression": "attribute_not_exists(PK)",
                }
            }
            for each in (item, record)
        ]
        self._table.request("TransactWriteItems", TransactItems=puts)

    def _recorded(self, enterprise_id: str) -> Enterprise | None:
        record = self._get(enterprise_id, KEY_RECORD, consistent=True)
        return as_enterprise(record) if record else None

    def replace(
        self, enterprise_id: str, name: str, matches: Matches
    ) -> Enterprise | None:
        """Rename an enterprise with a later timestamp; return None if there is none."""
        sent: list[Enterprise] = []

        def attempt() -> Enterprise | None:
            seen = self._item(enterprise_id, consistent=True)
            if seen is None:
                return None
            there = as_enterprise(seen)
            if there in sent:
                # An earlier attempt changed it, but its answer was lost.
                return there
            _require_match(there, matches)
            changed = renamed(seen, name, next_stamp(there.updated_at))
            after = as_enterprise(seen | changed)
            try:
                self._table.update(changed, seen)
            except Ambiguous:
                sent.append(after)
                raise
            return after

        return self._write(attempt, name)

    def delete(self, enterprise_id: str, matches: Matches) -> bool:
        """Delete an enterprise and nothing else in its partition."""
        sent = False

        def attempt() -> bool:
            nonlocal sent
            seen = self._item(enterprise_id, consistent=True)
            if seen is None:
                return sent
            _require_match(as_enterprise(seen), matches)
            try:
                self._table.delete(seen, list(new_item("", "")))
            except Ambiguous:
                sent = True
                raise
            return True

        return _insist(attempt)

    def describe(self) -> dict[str, Any]:
        """Return what the table holds: counts by key prefix, and the first items."""
        request = {"ProjectionExpression": "PK, SK, entity_type"}
        prefixes: Counter[str] = Counter()
        enterprises = 0
        for page in self._scan(request):
            for item in map(from_wire, page):
                prefix, hash_sign, _ = str(item["PK"]).partition("#")
                prefixes[prefix + "#" if hash_sign else "(no prefix)"] += 1
                enterprises += is_enterprise(item)
        shown = self._first(SHOWN_ITEMS, ENTERPRISES_ONLY | {"Limit": 100})
        return {
            "tableName": self._table.name,
            "tableStatus": self._description()["TableStatus"],
            "consistency": "strong" if self._consistent else "eventual",
            "totalItems": prefixes.total(),
            "enterprises": enterprises,
            "keyPrefixes": dict(sorted(prefixes.items())),
            "items": [from_wire(wire) for wire in shown],
            "itemStructure": {n: next(iter(v)) for w in shown for n, v in w.items()},
        }

    def _item(self, enterprise_id: str, *, consistent: bool | None) -> Item | None:
        if not is_opaque(enterprise_id):
            return None
        item = self._get(enterprise_id, SORT_KEY, consistent=consistent)
        return item if is_enterprise(item) else None

    def _get(
        self, enterprise_id: str, sort_key: str, *, consistent: bool | None
    ) -> Item:
        answer = self._read(
            "GetItem",
            TableName=self._table.name,
            Key=to_wire({"PK": KEY_PREFIX + enterprise_id, "SK": sort_key}),
            ConsistentRead=self._consistent if consistent is None else consistent,
        )
        return from_wire(answer.get("Item", {}))

    def _first(
        self, count: int, request: Mapping[str, Any], *, consistent: bool | None = None
    ) -> list[Any]:
        found: list[Any] = []
        for page in self._scan(request, consistent=consistent):
            found += page
            if len(found) >= count:
                break
        return found[:count]

    def _scan(
        self, request: Mapping[str, Any], *, consistent: bool | None = None
    ) -> Iterator[list[Any]]:
        strong = self._consistent if consistent is None else consistent
        asked = dict(request) | {"ConsistentRead": strong}
        while True:
            answer = self._read("Scan", TableName=self._table.name, **asked)
            yield answer["Items"]
            # An empty page need not be the last: only its key shows that.
            if "LastEvaluatedKey" not in answer:
                return
            asked["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def _read(self, operation: str, **arguments: Any) -> Any:
        return _insist(lambda: self._table.request(operation, **arguments))

    def _write(self, attempt: Callable[[], T], name: str) -> T:
        """Attempt a write of this *name*; report why an item is rejected.

        Raises:
            ValueRefused: the name is too long for an index.
            TargetError: an index refuses every item.
        """
        try:
            return _insist(attempt)
        except ItemRejected:
            indexes = read_indexes(self._description())
            require_fitting(self._table, indexes, ITEM_TYPES)
            most = longest_name(indexes)
            if most is None or len(name.encode()) <= most:
                raise
        message = f"The name has more than {most:,} bytes, and is the key of an index."
        raise ValueRefused(message, "Use a shorter name.")

    def _description(self) -> Any:
        with translating_answers(self._table.where):
            return self._table.client.describe_table(TableName=self._table.name)[
                "Table"
            ]


def _insist(attempt: Callable[[], T]) -> T:
    """Retry an attempt for as long as a client may be kept waiting."""
    backoff = Backoff(longest=LONGEST_PAUSE, patience=RETRY_SECONDS)
    for each in backoff.attempts(ConditionFailed):
        with each:
            done = attempt()
    return done


def _require_match(there: Enterprise, matches: Matches) -> None:
    if not matches(there):
        raise Changed(f"The enterprise {there.id} was changed meanwhile.")


def _only_named(name: str) -> dict[str, Any]:
    names = {"#name": "name", "#long": "enterprise_name"}
    values = {":name": typed(name)}
    return {
        "FilterExpression": ENTERPRISES_ONLY["FilterExpression"] + OF_THIS_NAME,
        "ExpressionAttributeNames": ENTERPRISES_ONLY["ExpressionAttributeNames"]
        | names,
        "ExpressionAttributeValues": ENTERPRISES_ONLY["ExpressionAttributeValues"]
        | values,
    }
