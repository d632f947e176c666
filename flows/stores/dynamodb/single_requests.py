"""Single requests to one table: within its rates, under a lease, and counted.

Every write is one request, sent once. The loader decides whether to send it again,
since a client that sends again by itself after a lost answer would overwrite an edit
made in between. Reads change nothing and are retried here.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flows.errors import Ambiguous, NotApplied, StoreFault, Throttled
from flows.stores.dynamodb.backoff import Attempt, Backoff
from flows.stores.dynamodb.capacity_units import Capacity, units_of
from flows.stores.dynamodb.faults import CredentialsExpired, translating_answers
from flows.stores.dynamodb.rate_limiter import RateLimiter
from flows.stores.dynamodb.wire import Wire, encode
from flows.timing import SYSTEM_CLOCK, Clock

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from flows.models import Index


@dataclass
class TableRequests:
    """Single requests to one table: limited, fenced and counted.

    ``deadline`` limits the reads, in seconds since the epoch.
    """

    client: "DynamoDBClient"
    name: str
    region: str
    endpoint: str
    deadline: float | None = None
    capacity: Capacity = field(default_factory=Capacity)
    # Called before each write; raises when the run's lease has expired.
    fence: Callable[[], None] = lambda: None
    # Creates a new client when the credentials have expired.
    renew: Callable[[], "DynamoDBClient"] | None = None
    write_limiter: RateLimiter = field(default_factory=RateLimiter)
    # If None, reads are not rate-limited.
    read_limiter: RateLimiter | None = None
    # The known indexes; writes are expected to consume units in them too.
    indexes: "tuple[Index, ...]" = ()
    # Between tries it is waited for by this clock.
    clock: Clock = SYSTEM_CLOCK
    _wired: "tuple[DynamoDBClient, Wire] | None" = field(default=None, init=False)

    @property
    def where(self) -> str:
        """Return name, region and endpoint of the table, for messages."""
        return f"table {self.name}, region {self.region}, endpoint {self.endpoint}"

    def backoff(self) -> Backoff:
        """Create a backoff that ends at the deadline or when the run is stopped."""
        stopped = self.write_limiter.raise_if_stopped
        return Backoff(self.deadline, stopped, clock=self.clock)

    def attempts(self, *passing: type[StoreFault]) -> Iterator[Attempt]:
        """Yield attempts of a request until one succeeds, as ``Backoff.attempts``."""
        return self.backoff().attempts(*passing)

    def request(
        self, operation: str, seconds: float | None = None, **arguments: Any
    ) -> Any:
        """Send one request, once, and count its cost.

        Wait for the answer for boto3's read timeout, or for *seconds*, but not beyond
        the deadline.
        """
        return self._send_and_count(self.prepare(operation, seconds, **arguments))

    def send_write(self, send: Callable[[], Any], *, units: float) -> Any:
        """Send a write, once, at the rate for its *units* and under the lease.

        Raises:
            NotApplied: the write was not applied, and may be sent again.
            Ambiguous: the write may have been applied.
        """
        self.capacity.add(paused=self.write_limiter.take(units, self.deadline))
        # Last, since the lease may expire during the wait for the rate.
        self.fence()
        try:
            answer = self._send_and_count(send)
        except Throttled:
            self.write_limiter.slow_down()
            raise
        if answer.get("UnprocessedItems"):
            self.write_limiter.slow_down(units_of(answer))
        else:
            self.write_limiter.correct(units, units_of(answer))
        return answer

    def _send_and_count(self, send: Callable[[], Any]) -> Any:
        try:
            answer = self._send(send)
        except (NotApplied, Ambiguous) as fault:
            self.capacity.add(throttles=isinstance(fault, Throttled), retries=1)
            raise
        self.capacity.add(write_units=units_of(answer))
        return answer

    def send_read(self, send: Callable[[], Any], *, units: float = 0.0) -> Any:
        """Send a read until it is answered; without *units* it is not rate-limited."""
        limiter = self.read_limiter if units else None
        for attempt in self.attempts():
            with attempt:
                if limiter:
                    self.capacity.add(paused=limiter.take(units, self.deadline))
                try:
                    answer = self._send(send)
                except (NotApplied, Ambiguous) as fault:
                    self.capacity.add(throttles=isinstance(fault, Throttled), retries=1)
                    if limiter and isinstance(fault, Throttled):
                        limiter.slow_down()
                    raise
        consumed = units_of(answer)
        self.capacity.add(read_units=consumed)
        if limiter and answer.get("UnprocessedKeys"):
            limiter.slow_down(consumed)
        elif limiter:
            limiter.correct(units, consumed)
        return answer

    def _send(self, send: Callable[[], Any]) -> Any:
        try:
            with translating_answers(self.where):
                return send()
        except CredentialsExpired:
            if self.renew is None:
                raise
        # Nothing was applied, and a profile or a role may have newer credentials.
        self.client = self.renew()
        with translating_answers(self.where):
            return send()

    def seconds_left(self, seconds: float | None = None) -> float:
        """Return how long to wait for an answer, at least one second.

        This is boto3's read timeout, or *seconds*, but not beyond the deadline.
        """
        limits: Any = self.client.meta.config
        longest = float(limits.read_timeout) if seconds is None else seconds
        if self.deadline is None:
            return longest
        return max(1.0, min(longest, round(self.deadline - time.time(), 1)))

    def prepare(
        self, operation: str, seconds: float | None = None, **arguments: Any
    ) -> Callable[[], Any]:
        """Return a function that sends a request and waits as ``request`` does."""
        body = encode({"ReturnConsumedCapacity": "TOTAL", **arguments})
        return lambda: self.wire().send(
            operation, body, seconds=self.seconds_left(seconds)
        )

    def wire(self) -> Wire:
        """Return the sender of JSON requests through the current client."""
        if self._wired is None or self._wired[0] is not self.client:
            self._wired = (self.client, Wire(self.client))
        return self._wired[1]
