"""The lease of a run: which of several concurrent runs acquires it."""

import time
from functools import partial
from threading import Event
from typing import Any

import pytest

from flows.errors import CutoverDeclared, Incomplete, LeaseHeld, TargetError
from flows.models import key_of
from flows.stores.dynamodb import lease
from flows.stores.dynamodb.cutover_marker import declare_cutover
from flows.stores.dynamodb.lease import CUTOVER, LEASE, MARGIN_SECONDS, Lease, elapsed
from flows.stores.dynamodb.origin import record_origin
from flows.stores.dynamodb.rate_limiter import RateLimiter
from flows.stores.dynamodb.table import OWN_PARTITION, EnterpriseTable
from tests.support.fault_proxy import Answer, Exchange, error_answer
from tests.support.faults import error, passing
from tests.support.target_table import put, through_proxy

pytestmark = pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)

MARKER = {"PK": OWN_PARTITION, "SK": CUTOVER, "declared_at": "2026-01-31T08:00:00.000Z"}


def lease_of(owner: str, seconds: int) -> dict[str, Any]:
    """Return the item of a lease that expires in that many seconds."""
    expires = int(time.time()) + seconds
    names = {"PK": OWN_PARTITION, "SK": LEASE, "owner": owner}
    return names | {"expires": expires, "number": 7}


def test_of_two_runs_that_begin_at_once_one_is_refused(table: EnterpriseTable) -> None:
    """A lease that was free when read, but is no longer free, must not be taken."""
    other = Lease(table, "other@host:1", 30)
    with through_proxy(table) as (behind, proxy):
        proxy.add(passing(other.acquire), operation="TransactWriteItems", times=1)
        with pytest.raises(LeaseHeld, match="Run other@host:1 holds"):
            Lease(behind, "mine@host:2", 30).acquire()

    held = table.get_own(LEASE)
    assert held is not None
    assert held["owner"] == "other@host:1"


def test_a_holder_that_comes_back_to_life_keeps_its_lease(
    table: EnterpriseTable,
) -> None:
    """A lease that has expired but is renewed before the takeover must stay."""
    put(table, lease_of("sleeper@host:1", -5))
    renewed = lease_of("sleeper@host:1", 30)
    with through_proxy(table) as (behind, proxy):
        renew = passing(lambda: put(table, renewed))
        proxy.add(renew, operation="TransactWriteItems", times=1)
        with pytest.raises(LeaseHeld, match="Run sleeper@host:1 holds"):
            Lease(behind, "mine@host:2", 30).acquire()

    assert table.get_own(LEASE) == renewed


def test_a_resume_waits_for_a_dead_process_and_not_for_one_that_lives(
    table: EnterpriseTable,
) -> None:
    """A resume waits for the lease of the same run, unless it is renewed meanwhile."""
    resumed = Lease(table, "run-1@host:2", 30)
    put(table, lease_of("run-1@host:1", 1))
    taken_over = resumed.acquire(resumed="run-1")
    alive = lease_of("run-1@host:1", 60)
    put(table, lease_of("run-1@host:1", 30))
    with through_proxy(table) as (behind, proxy):
        renew = passing(lambda: put(table, alive))
        proxy.add(renew, operation="GetItem", first=2, times=1)
        with pytest.raises(LeaseHeld, match="Run run-1@host:1 holds"):
            Lease(behind, "run-1@host:3", 30).acquire(resumed="run-1")

    assert taken_over
    assert table.get_own(LEASE) == alive


def test_a_lease_that_was_taken_over_is_not_given_back(table: EnterpriseTable) -> None:
    """A run that has lost its lease must not release that of the new holder."""
    mine = Lease(table, "mine@host:1", 30)
    mine.acquire()
    theirs = lease_of("other@host:2", 30)
    put(table, theirs)
    mine.release()

    assert table.get_own(LEASE) == theirs


def test_a_cutover_that_is_declared_while_a_run_begins_is_seen(
    table: EnterpriseTable,
) -> None:
    """Checking the marker and taking the lease must be one step."""
    with through_proxy(table) as (behind, proxy):
        declare = passing(lambda: put(table, MARKER))
        proxy.add(declare, operation="TransactWriteItems", times=1)
        with pytest.raises(CutoverDeclared, match="2026-01-31T08:00:00"):
            Lease(behind, "mine@host:1", 30).acquire()
        refused = table.get_own(LEASE)
        Lease(behind, "mine@host:1", 30).acquire(after_cutover=True)

    assert refused is None
    assert table.get_own(LEASE) is not None


def test_no_cutover_is_declared_while_a_run_is_under_way(
    table: EnterpriseTable,
) -> None:
    """The application does not own items during a run; the error names the holder."""
    Lease(table, "nightly@host:1", 30).acquire()

    with pytest.raises(LeaseHeld, match="Run nightly@host:1 holds"):
        declare_cutover(table, Lease(table, "cutover", 30))

    assert table.get_own(CUTOVER) is None


def test_a_cutover_that_has_lost_its_lease_is_not_declared(
    table: EnterpriseTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The marker must not be written if a run began while the marker was throttled."""
    theirs = lease_of("nightly@host:1", 30)
    begun = elapsed()

    def overtake(_: Exchange) -> Answer:
        put(table, theirs)
        monkeypatch.setattr(lease, "elapsed", lambda: begun + 60)
        return error_answer("ThrottlingException", 400)

    with through_proxy(table) as (behind, proxy):
        proxy.add(overtake, operation="PutItem", times=1)
        with pytest.raises(Incomplete, match="cutover has expired"):
            declare_cutover(behind, Lease(behind, "cutover", 30))

    assert table.get_own(CUTOVER) is None
    assert table.get_own(LEASE) == theirs


def test_a_declared_cutover_lets_the_application_write(table: EnterpriseTable) -> None:
    """After the declaration no lease may fence the table that was used for it."""
    declare_cutover(table, Lease(table, "cutover", 30))
    item = {"PK": "ENT#1", "SK": "METADATA", "entity_type": "enterprise"}
    table.create(dict(item))

    assert table.read([key_of(item)]) == {key_of(item): item}
    assert table.get_own(LEASE) is None


class OneBeat(Event):
    """Lets the heartbeat run once."""

    def wait(self, timeout: float | None = None) -> bool:
        """Return whether to stop: false on the first call."""
        assert timeout
        stop, _ = self.is_set(), self.set()
        return stop


def test_a_holder_that_was_robbed_stops_at_its_next_heartbeat(
    table: EnterpriseTable,
) -> None:
    """If another machine's clock is ahead, its run takes over a valid lease."""
    mine = Lease(table, "mine@host:1", 60)
    mine.acquire()
    mine.require()
    theirs = lease_of("other@host:2", 60)
    put(table, theirs)
    mine._beat(OneBeat())

    with pytest.raises(Incomplete, match="mine@host:1 has expired"):
        mine.require()
    assert table.get_own(LEASE) == theirs


@pytest.mark.parametrize(("left", "renewals"), [(MARGIN_SECONDS + 1, 0), (12, 1)])
def test_a_write_needs_a_lease_that_outlasts_it(
    table: EnterpriseTable, monkeypatch: pytest.MonkeyPatch, left: float, renewals: int
) -> None:
    """If a request could outlast the lease, the lease must be renewed first."""
    with through_proxy(table) as (behind, proxy):
        held = Lease(behind, "mine@host:1", 60)
        held.acquire()
        behind.fence = held.require
        begun = elapsed()
        monkeypatch.setattr(lease, "elapsed", lambda: begun + 60 - left)
        behind.create({"PK": "ENT#1", "SK": "METADATA"})
        operations = [call.operation for call in proxy.calls[-1 - renewals :]]

    assert operations == ["UpdateItem"] * renewals + ["PutItem"]
    assert len(proxy.calls_of("UpdateItem")) == renewals


def test_the_lease_is_looked_at_last(table: EnterpriseTable) -> None:
    """The lease may expire while a write waits for the rate: that wait comes first."""
    steps: list[str] = []

    class Waiting(RateLimiter):
        def take(self, units: float, deadline: float | None = None) -> float:
            steps.append("rate")
            return super().take(units, deadline)

    table.write_limiter = Waiting()
    table.fence = lambda: steps.append("lease")
    table.create({"PK": "ENT#1", "SK": "METADATA"})

    assert steps == ["rate", "lease"]


@pytest.mark.parametrize("reason", ["ValidationError", "SomethingNew"])
def test_a_lease_that_can_never_be_taken_is_not_waited_for(
    table: EnterpriseTable, reason: str
) -> None:
    """The first refusal must end the run before any write, with its reason."""
    reasons = [{"Code": reason, "Message": "Type mismatch"}, {"Code": "None"}]
    answer = error_answer(
        "TransactionCanceledException", 400, CancellationReasons=reasons
    )
    with through_proxy(table, time.time() + 20) as (behind, proxy):
        proxy.add(lambda _: answer, operation="TransactWriteItems")
        with pytest.raises(TargetError, match=r"Type mismatch|SomethingNew"):
            Lease(behind, "mine@host:1", 30).acquire()
        with pytest.raises(TargetError, match=r"Type mismatch|SomethingNew"):
            declare_cutover(behind, Lease(behind, "cutover", 30))
        tried = len(proxy.calls_of("TransactWriteItems"))

    assert tried == 2
    assert table.get_own(LEASE) is None


@pytest.mark.parametrize("operation", ["PutItem", "UpdateItem"])
def test_a_refusal_after_the_lease_was_taken_ends_the_command(
    table: EnterpriseTable, operation: str
) -> None:
    """A refused origin, marker or renewal must end it and release the lease."""
    with through_proxy(table, time.time() + 20) as (behind, proxy):
        proxy.add(error("ValidationException"), operation=operation)
        held = Lease(behind, "mine@host:1", 30)
        held.acquire()
        origin: dict[str, Any] = {"PK": OWN_PARTITION, "SK": "ORIGIN"}
        record = partial(record_origin, behind, origin)
        write = record if operation == "PutItem" else held._extend
        with pytest.raises(TargetError, match="refuses an item of the run"):
            write()
        held.release()
        if operation == "PutItem":
            with pytest.raises(Incomplete, match="refuses an item of the run"):
                declare_cutover(behind, Lease(behind, "cutover", 30))

    assert table.get_own(LEASE) is None


def test_a_cutover_that_is_declared_twice_at_once_is_declared(
    table: EnterpriseTable,
) -> None:
    """The second caller must get the marker of the first, without an error."""
    with through_proxy(table) as (behind, proxy):
        first = passing(lambda: put(table, MARKER))
        proxy.add(first, operation="PutItem", times=1)
        declared = declare_cutover(behind, Lease(behind, "cutover", 30))

    assert declared == MARKER
