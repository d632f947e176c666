"""Loading of items into DynamoDB, and the outcome of each.

An unconditional put is sent in a batch only if its key was never sent before, or was
returned as unprocessed. Everything else (a table that holds enterprises, a retry, an
answer that was lost) is read, compared, and written on the condition that nothing
changed since it was read.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import pandas as pd

from flows.errors import Ambiguous, ConditionFailed, ItemRejected, NotApplied
from flows.models import (
    Decision,
    Item,
    Key,
    LastWrite,
    Outcome,
    Report,
    WriteHistory,
    decide,
    key_of,
)
from flows.stores.dynamodb.backoff import Backoff
from flows.stores.dynamodb.capacity_units import put_units
from flows.stores.dynamodb.faults import without_values
from flows.stores.dynamodb.table import BATCH_ITEMS, READ_KEYS, EnterpriseTable
from flows.stores.dynamodb.wire import encode_puts
from flows.timing import Progress, require_time

logger = logging.getLogger(__name__)

# A request may have 16 MB; the rest of the request takes less than the difference.
BATCH_BYTES = 15_000_000
CONFLICT_LIMIT = 20


@dataclass(frozen=True, repr=False)
class LoadReport(Report):
    """The outcome of each item: ``outcomes`` by source id.

    ``cpu`` is the CPU time of the senders in seconds, without that of the caller.
    ``refusals`` has the store's reason for each item whose content it refused.
    """

    outcomes: Mapping[str, Outcome]
    cpu: float = 0.0
    refusals: Mapping[str, str] = field(default_factory=dict)

    def count(self, outcome: Outcome) -> int:
        """Count the items with this outcome."""
        return Counter(self.outcomes.values())[outcome]

    @property
    def refused(self) -> dict[str, str | None]:
        """Return the items whose content the store refused, with its reasons."""
        refused = (i for i, out in self.outcomes.items() if out is Outcome.REFUSED)
        return {source_id: self.refusals.get(source_id) for source_id in refused}

    def asdict(self) -> dict[str, Any]:
        """Return the counts by outcome."""
        return {outcome.value: self.count(outcome) for outcome in Outcome}

    def tables(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the counts as one table."""
        return [("Load", self.asdict())]


def load_items(  # noqa: PLR0913 - each is independent
    items: pd.DataFrame,
    table: EnterpriseTable,
    *,
    table_was_empty: bool = False,
    known: WriteHistory | None = None,
    after_cutover: bool = False,
    concurrency: int = 1,
    progress: Progress | None = None,
) -> LoadReport:
    """Load the items into the table, and return the outcome of each.

    *table_was_empty* promises that no item's key was ever sent and that the table has
    no item at any enterprise's key: only then are unconditional batches used. *known*
    returns what earlier runs left of some ids. An edit whose time cannot be read is
    kept if they left another item. With *after_cutover*, every item that was edited or
    deleted in the target since is kept. *concurrency* is the number of concurrent
    requests. *progress* counts the items that have an outcome. Transient faults are
    retried until the table's deadline.

    Raises:
        ValueError: two items have the same key.
        Incomplete: the deadline passed, or the store is unreachable.
        TargetError: the store refuses the requests, whatever their items are.
    """
    loading = _Loading(
        table, items, known, after_cutover=after_cutover, concurrency=concurrency
    )
    loading.advance = progress.advance if progress else loading.advance
    doubtful = loading.put_in_batches() if table_was_empty else loading.keys
    loading.write_conditionally(doubtful)
    source_ids = items["source_id"].tolist()
    outcomes = (loading.outcomes[key] for key in loading.keys)
    ids = dict(zip(loading.keys, source_ids, strict=True))
    return LoadReport(
        dict(zip(source_ids, outcomes, strict=True)),
        loading.cpu,
        {ids[key]: reason for key, reason in loading.refusals.items()},
    )


class _Loading:
    """The loading of one partition: the keys that were sent, and the outcome of each.

    Several senders share it: each takes pending keys from the left of a deque, and puts
    back those that must be sent again, so that no two senders have the same key.
    """

    def __init__(
        self,
        table: EnterpriseTable,
        items: pd.DataFrame,
        known: WriteHistory | None,
        *,
        after_cutover: bool,
        concurrency: int,
    ) -> None:
        names = [column for column in items.columns if column != "source_id"]
        self._columns = {name: items[name].tolist() for name in names}
        both = (self._columns[name] for name in ("PK", "SK"))
        self.keys: list[Key] = list(zip(*both, strict=True))
        self._places = {key: place for place, key in enumerate(self.keys)}
        if len(self._places) < len(self.keys):
            message = "two items have the same key; validate the items first"
            raise ValueError(message)
        self._table = table
        self._known = known
        self._after_cutover = after_cutover
        self._history: Mapping[str, LastWrite] | None = None
        self._lock = Lock()
        self._concurrency = concurrency
        self._puts: list[bytes] = []
        self._units: list[int] = []
        self._sent: set[Key] = set()
        self._conflicts: Counter[Key] = Counter()
        self._stopped = False
        self.cpu = 0.0
        self.outcomes: dict[Key, Outcome] = {}
        self.refusals: dict[Key, str] = {}
        self.advance: Callable[[int], None] = lambda _: None

    def put_in_batches(self) -> list[Key]:
        """Put all items in batches; return the keys without a clear answer."""
        doubtful: list[Key] = []
        self._puts = encode_puts(self._columns)
        self._units = put_units(self._columns, self._table.indexes)
        pending = deque(self._batches())
        self._share(len(pending), lambda: self._put_pending(pending, doubtful))
        return doubtful

    def write_conditionally(self, keys: Sequence[Key]) -> None:
        """Read, compare and write each key on condition, until each has an outcome."""
        size = min(READ_KEYS, -(-len(keys) // self._concurrency) or 1)
        pending = deque(
            list(keys[start : start + size]) for start in range(0, len(keys), size)
        )
        self._share(len(pending), lambda: self._write_pending(pending))

    def _share(self, parts: int, work: Callable[[], None]) -> None:
        """Run the senders; the first error stops them all."""
        senders = min(self._concurrency, parts)
        if senders <= 1:
            work()
            return
        with ThreadPoolExecutor(senders) as pool:
            try:
                done = [pool.submit(_cpu_of, work) for _ in range(senders)]
                for future in as_completed(done):
                    self.cpu += future.result()
            finally:
                self._stopped = True
        self._stopped = False

    def _put_pending(self, pending: deque[list[Key]], doubtful: list[Key]) -> None:
        backoff = self._table.backoff()
        while batch := self._next(pending):
            try:
                left = self._put(batch)
            except NotApplied as fault:
                pending.appendleft(batch)
                backoff.wait(fault)
            except Ambiguous:
                doubtful += batch
                backoff.wait()
            except ItemRejected as fault:
                # The store does not name the item: halving the batch finds it.
                pending.extendleft(self._halves(batch, fault))
            else:
                self._after_batch(batch, left, pending, backoff)

    def _write_pending(self, pending: deque[list[Key]]) -> None:
        backoff = self._table.backoff()
        while chunk := self._next(pending):
            there = self._table.read(chunk)
            again = []
            for key in chunk:
                if self._stopped:
                    return
                outcome = self._write_one(key, there.get(key), backoff)
                if outcome is None:
                    again.append(key)
                else:
                    self.outcomes[key] = outcome
            self.advance(len(chunk) - len(again))
            if again:
                pending.append(again)

    def _next(self, pending: deque[list[Key]]) -> list[Key]:
        """Take the next keys to send; none once an error has stopped the senders.

        Raises:
            Incomplete: the deadline passed.
        """
        require_time(self._table.deadline)
        try:
            return [] if self._stopped else pending.popleft()
        except IndexError:
            return []

    def _put(self, batch: Sequence[Key]) -> list[Key]:
        self._sent.update(batch)
        places = [self._places[key] for key in batch]
        units = sum(self._units[place] for place in places)
        return self._table.put_batch([self._puts[place] for place in places], units)

    def _after_batch(
        self,
        batch: Sequence[Key],
        left: list[Key],
        pending: deque[list[Key]],
        backoff: Backoff,
    ) -> None:
        done = set(batch).difference(left)
        self.outcomes |= dict.fromkeys(done, Outcome.WRITTEN)
        self.advance(len(done))
        if left:
            self._table.capacity.add(throttles=1, retries=1)
            pending.appendleft(left)
        if done:
            backoff.reset()
        if left:
            backoff.wait()

    def _halves(self, batch: list[Key], fault: ItemRejected) -> list[list[Key]]:
        if len(batch) == 1:
            self.outcomes[batch[0]] = self._refuse(batch[0], fault)
            return []
        middle = len(batch) // 2
        return [batch[middle:], batch[:middle]]

    def _refuse(self, key: Key, fault: ItemRejected) -> Outcome:
        reason = without_values(fault.reason, self._item(key))
        logger.warning("one item was refused: %s %s", fault.message, reason)
        self.refusals[key] = reason
        return Outcome.REFUSED

    def _write_one(
        self, key: Key, there: Item | None, backoff: Backoff
    ) -> Outcome | None:
        """Write one key, or leave its item; return None if it must be read again."""
        item = self._item(key)
        decision = decide(
            item, there, self._read_history, after_cutover=self._after_cutover
        )
        if decision is Decision.LEAVE_EQUAL:
            # An earlier write of this run whose answer was lost counts as written.
            return Outcome.WRITTEN if key in self._sent else Outcome.UNCHANGED
        if decision is Decision.LEAVE_FOREIGN:
            logger.warning("an item of another entity_type is at %s, %s", *key)
            return Outcome.FAILED
        if decision is Decision.LEAVE_NEWER:
            return Outcome.KEPT_NEWER
        return self._write(item, there, backoff)

    def _read_history(self) -> Mapping[str, LastWrite]:
        """Return what earlier runs left of the items, read on first use."""
        with self._lock:
            if self._history is None:
                ids = set(self._columns["id"])
                self._history = self._known(ids) if self._known else {}
            return self._history

    def _write(
        self, item: Item, there: Item | None, backoff: Backoff
    ) -> Outcome | None:
        key = key_of(item)
        try:
            if there is None:
                self._table.create(item)
            else:
                self._table.update(item, there)
        except ConditionFailed:
            self._conflicts[key] += 1
            return Outcome.FAILED if self._conflicts[key] > CONFLICT_LIMIT else None
        except Ambiguous:
            self._sent.add(key)
            backoff.wait()
            return None
        except NotApplied as fault:
            backoff.wait(fault)
            return None
        except ItemRejected as fault:
            return self._refuse(key, fault)
        backoff.reset()
        return Outcome.WRITTEN

    def _batches(self) -> Iterator[list[Key]]:
        batch: list[Key] = []
        size = units = 0
        # No batch consumes more than all senders may consume per second.
        cap = self._table.write_limiter.cap
        for key, put, cost in zip(self.keys, self._puts, self._units, strict=True):
            full = size + len(put) > BATCH_BYTES or units + cost > cap
            if batch and (full or len(batch) == BATCH_ITEMS):
                yield batch
                batch, size, units = [], 0, 0
            batch.append(key)
            size += len(put) + 1
            units += cost
        if batch:
            yield batch

    def _item(self, key: Key) -> Item:
        place = self._places[key]
        return {name: column[place] for name, column in self._columns.items()}


def _cpu_of(work: Callable[[], None]) -> float:
    """Do the work; return the CPU time, in seconds, that this thread took for it."""
    begun = time.thread_time()
    work()
    return time.thread_time() - begun
