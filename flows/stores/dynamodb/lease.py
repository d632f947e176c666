"""The lease of a run, and the cutover marker: who may write to the table.

Both are this program's own items in the target table, since nothing else is visible to
every machine that may write to it. Taking the lease and checking that no cutover is
declared is one transaction.

A batch carries no condition, so the lease cannot be checked by the store with each
write. Instead no write starts unless the lease outlasts the longest request, by a clock
that keeps running while the machine or the process sleeps.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from flows.errors import (
    ConditionFailed,
    CutoverDeclared,
    Incomplete,
    LeaseHeld,
    MigrationError,
)
from flows.models import Item
from flows.stores.dynamodb.capacity_units import Capacity
from flows.stores.dynamodb.client import REQUEST_SECONDS
from flows.stores.dynamodb.table import OWN_PARTITION, EnterpriseTable
from flows.stores.dynamodb.wire import to_wire

logger = logging.getLogger(__name__)

LEASE = "LEASE"
CUTOVER = "CUTOVER"
# The longest request, and one second between the check and the sending.
MARGIN_SECONDS = REQUEST_SECONDS + 1.0
RELEASE_SECONDS = 3.0


def elapsed() -> float:
    """Return seconds of a clock that counts suspended time, if the system has one."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class Lease:
    """A run's right to write, held by *owner* until it is released or expires."""

    def __init__(self, table: EnterpriseTable, owner: str, seconds: int) -> None:
        # Its requests are neither fenced nor counted as costs of the migration.
        self._table = replace(table, capacity=Capacity(), fence=lambda: None)
        self._fenced = table
        self._seconds = seconds
        self._until = 0.0
        self._left = False
        self.owner = owner

    def acquire(self, *, after_cutover: bool = False, resumed: str = "") -> bool:
        """Acquire the lease; return whether a former holder had not released it.

        For a *resumed* run, wait until the lease of its dead process expires.

        Raises:
            LeaseHeld: another run holds the lease.
            CutoverDeclared: the cutover is declared, and *after_cutover* is false.
            TargetError: the table refuses the lease permanently.
        """
        taken_over = False
        # If another run was faster, the holder and the marker are read again.
        for attempt in self._table.attempts(ConditionFailed):
            held = self._await_free(resumed)
            with attempt:
                if held is not None and held["owner"] == self.owner:
                    # Our own request succeeded, and its answer was lost.
                    self.renew()
                    continue
                taken_over = held is not None
                if not after_cutover:
                    require_no_cutover(self._table)
                begun = elapsed()
                self._put(held, after_cutover=after_cutover)
                self._until = begun + self._seconds
        return taken_over

    def renew(self) -> None:
        """Extend the lease, counted from now.

        Raises:
            ConditionFailed: the lease is no longer ours.
            StoreFault: the store did not confirm the extension.
        """
        begun = elapsed()
        with self._table.writing_own():
            self._table.request(
                "UpdateItem",
                TableName=self._table.name,
                Key=to_wire({"PK": OWN_PARTITION, "SK": LEASE}),
                UpdateExpression="SET #e = :e",
                ConditionExpression="#o = :o",
                ExpressionAttributeNames={"#e": "expires", "#o": "owner"},
                ExpressionAttributeValues=to_wire(
                    {":e": _epoch(self._seconds), ":o": self.owner}
                ),
            )
        self._until = begun + self._seconds

    def release(self) -> None:
        """Release the lease; if that fails, it expires by itself."""
        self._until = 0.0
        if self._left:
            return
        # This request is also sent after the deadline.
        self._table.deadline = None
        # A failure here, such as lost access, must not hide how the run ended.
        with suppress(MigrationError):
            self._table.request(
                "DeleteItem",
                RELEASE_SECONDS,
                TableName=self._table.name,
                Key=to_wire({"PK": OWN_PARTITION, "SK": LEASE}),
                ConditionExpression="#o = :o",
                ExpressionAttributeNames={"#o": "owner"},
                ExpressionAttributeValues=to_wire({":o": self.owner}),
            )

    def abandon(self) -> None:
        """Let the lease expire instead of releasing it.

        Another process may still write under it: the next holder writes on condition.
        """
        self._left = True

    def require(self) -> None:
        """Raise unless the lease outlasts a request that starts now.

        A lease that does not, since heartbeats were throttled or the process slept, is
        extended first. This succeeds only if no other run has taken it over meanwhile.

        Raises:
            Incomplete: another run holds the lease, or the deadline has passed.
        """
        if self._until - elapsed() < MARGIN_SECONDS:
            self._extend()

    @contextmanager
    def heartbeat(self) -> Iterator[None]:
        """Renew the lease in the background, and fence every write with it."""
        if self._until == 0.0:
            # Another process of the same run acquired the lease.
            self._extend()
        stop = threading.Event()
        beats = threading.Thread(target=self._beat, args=[stop], daemon=True)
        beats.start()
        self._fenced.fence = self.require
        try:
            yield
        finally:
            stop.set()
            beats.join(REQUEST_SECONDS)

    def _extend(self) -> None:
        """Extend the lease, and retry until the store confirms it.

        Raises:
            Incomplete: the run no longer holds the lease, or the deadline has passed.
        """
        try:
            for attempt in self._table.attempts():
                with attempt:
                    self.renew()
        except ConditionFailed:
            message = f"The lease of {self.owner} has expired: its writes are stopped."
            raise Incomplete(message) from None

    def _await_free(self, resumed: str) -> Item | None:
        """Return the lease if it has expired or is ours, None if there is none."""
        first = self._table.get_own(LEASE)
        held = first
        while held is not None and held["owner"] != self.owner:
            left = float(int(held["expires"]) - time.time())
            if left <= 0:
                return held
            own = resumed and str(held["owner"]).startswith(f"{resumed}@")
            # A lease that was renewed meanwhile belongs to a live process.
            if not own or held != first:
                raise _make_held_error(held)
            logger.info("the lease of %s expires in %.0f s", resumed, left)
            time.sleep(min(left, 1.0))
            held = self._table.get_own(LEASE)
        return held

    def _beat(self, stop: threading.Event) -> None:
        pause = max(0.2, (self._seconds - MARGIN_SECONDS) / 4)
        while not stop.wait(pause):
            try:
                self.renew()
            except ConditionFailed:
                logger.warning("the lease of run %s was taken over", self.owner)
                self._until = 0.0
                return
            except Exception as error:  # noqa: BLE001
                # If the error persists, the fence stops the writes.
                logger.warning("the lease was not renewed: %s", type(error).__name__)

    def _put(self, held: Item | None, *, after_cutover: bool) -> None:
        number = int(held.get("number", 0)) + 1 if held else 1
        lease: dict[str, Any] = {
            "PK": OWN_PARTITION,
            "SK": LEASE,
            "owner": self.owner,
            "expires": _epoch(self._seconds),
            "number": number,
            "taken_at": utc_now(),
        }
        put: dict[str, Any] = {"TableName": self._table.name, "Item": to_wire(lease)}
        if held is None:
            put["ConditionExpression"] = "attribute_not_exists(PK)"
        else:
            # Only as it was read: a holder that wakes up meanwhile renews it.
            put["ConditionExpression"] = "#o = :o AND #e = :e"
            put["ExpressionAttributeNames"] = {"#o": "owner", "#e": "expires"}
            put["ExpressionAttributeValues"] = to_wire(
                {":o": held["owner"], ":e": held["expires"]}
            )
        actions: list[dict[str, Any]] = [{"Put": put}]
        if not after_cutover:
            check = {
                "TableName": self._table.name,
                "Key": to_wire({"PK": OWN_PARTITION, "SK": CUTOVER}),
                "ConditionExpression": "attribute_not_exists(PK)",
            }
            actions.append({"ConditionCheck": check})
        with self._table.writing_own():
            self._table.request("TransactWriteItems", TransactItems=actions)


def read_holder(table: EnterpriseTable) -> dict[str, str] | None:
    """Return which run holds the lease, and since when; None if none does."""
    held = table.get_own(LEASE)
    if held is None or int(held["expires"]) <= time.time():
        return None
    run = str(held["owner"]).partition("@")[0]
    return {"run": run, "since": str(held.get("taken_at", ""))}


def require_no_cutover(table: EnterpriseTable) -> None:
    """Refuse to write once the application owns the table.

    Raises:
        CutoverDeclared: the marker exists.
    """
    marker = table.get_own(CUTOVER)
    if marker is not None:
        message = (
            f"The cutover was declared at {marker.get('declared_at')}: the application"
            f" owns the items now; {table.where}."
        )
        raise CutoverDeclared(
            message,
            "Give --after-cutover to write only items that are new or unchanged"
            " there, or revoke the cutover: enterprises cutover revoke",
        )


def utc_now() -> str:
    """Return the time as ISO 8601 with milliseconds, in UTC."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return now.replace("+00:00", "Z")


def _epoch(seconds: int) -> int:
    return int(time.time() + seconds) + 1


def _make_held_error(held: Item) -> LeaseHeld:
    expires = datetime.fromtimestamp(int(held["expires"]), UTC)
    message = (
        f"Run {held.get('owner')} holds the lease of this table, currently until"
        f" {expires:%Y-%m-%dT%H:%M:%SZ}."
    )
    return LeaseHeld(
        message, "Wait until it ends; if it is dead, the lease expires by itself."
    )
