"""A target table in memory that records how items are written."""

import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

from flows.errors import ConditionFailed, ItemRejected, StoreFault, TargetError
from flows.models import Attribute, Item, Key, key_of
from flows.stores.dynamodb.table import EnterpriseTable
from flows.stores.dynamodb.wire import from_wire
from tests.support.clock import TestClock


class FakeTable(EnterpriseTable):
    """A table in memory: ``asked`` has each request, ``script`` the planned faults.

    The next request plays a scripted step: it raises the fault, after the request
    is applied if ``applied`` is set, and after ``then`` is called.
    """

    def __init__(self, deadline: float | None = None) -> None:
        super().__init__(cast("Any", None), "Fake", "nowhere", "fake", deadline)
        self.items: dict[Key, Item] = {}
        self.asked: list[tuple[str, list[Key]]] = []
        # A clock that only pauses advance, and its time at each request.
        self.clock = self.paused = TestClock(time.time())
        self.times: list[float] = []
        self.script: deque[
            tuple[StoreFault | TargetError | None, bool, Callable[[], object] | None]
        ] = deque()
        self.unprocessed: deque[int] = deque()
        self.refuses: set[Key] = set()

    @property
    def pauses(self) -> list[float]:
        """Return the pauses between the requests."""
        waits = (later - earlier for earlier, later in pairwise(self.times))
        return [round(wait, 6) for wait in waits if wait]

    def plan(
        self,
        fault: StoreFault | TargetError | None,
        *,
        applied: bool = False,
        then: Callable[[], object] | None = None,
    ) -> None:
        """Add a step to the script of writes."""
        self.script.append((fault, applied, then))

    def put_batch(self, puts: Sequence[bytes], units: float | None = None) -> list[Key]:
        """Put items, except the number to leave unprocessed."""
        assert units is not None
        wires = (json.loads(put)["PutRequest"]["Item"] for put in puts)
        items = [from_wire(wire) for wire in wires]
        keys = [key_of(item) for item in items]
        left = self.unprocessed.popleft() if self.unprocessed else 0
        taken = len(items) - left

        def apply() -> None:
            if self.refuses.intersection(keys):
                raise ItemRejected("one of them")
            self.items |= dict(zip(keys[:taken], items, strict=False))

        self._play("batch", keys, apply)
        return keys[taken:]

    def create(self, item: Item) -> None:
        """Put an item unless one exists."""
        key = key_of(item)

        def apply() -> None:
            if key in self.refuses:
                raise ItemRejected("this one")
            if key in self.items:
                raise ConditionFailed("there is one")
            self.items[key] = {n: v for n, v in item.items() if v is not None}

        self._play("create", [key], apply)

    def update(self, item: Item, seen: Mapping[str, Attribute]) -> None:
        """Change an item if it is still as seen."""
        key = key_of(item)

        def apply() -> None:
            there = self.items.get(key, {})
            if any(there.get(name) != seen.get(name) for name in item):
                raise ConditionFailed("it is another")
            changed = (there | item).items()
            self.items[key] = {n: value for n, value in changed if value is not None}

        self._play("update", [key], apply)

    def read(self, keys: Sequence[Key]) -> dict[Key, Item]:
        """Read items by key."""
        self.asked.append(("read", list(keys)))
        self.times.append(self.paused.now)
        return {key: self.items[key] for key in keys if key in self.items}

    def _play(self, operation: str, keys: list[Key], apply: Callable[[], None]) -> None:
        self.asked.append((operation, keys))
        self.times.append(self.paused.now)
        fault, applied, then = self.script.popleft() if self.script else (None, 0, None)
        if fault is None or applied:
            apply()
        if then is not None:
            then()
        if fault is not None:
            raise fault

    def operations(self) -> list[str]:
        """Return the requests' names, in their order."""
        return [operation for operation, _ in self.asked]

    def sent(self, operation: str) -> list[list[Key]]:
        """Return the keys of each request of one kind."""
        return [keys for name, keys in self.asked if name == operation]
