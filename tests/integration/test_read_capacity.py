"""Reading under a cap, and from a throttled table: paced, and complete."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from flows import pipeline
from flows.load import load_items
from flows.models import ENTERPRISE_TABLE, MigrateOptions
from flows.run.context import RunContext
from flows.stores.dynamodb.parallel_scan import scan_segments
from flows.stores.dynamodb.rate_limiter import (
    RateLimiter,
    make_read_limiter,
)
from flows.stores.dynamodb.table import EnterpriseTable
from tests.support.clock import TestClock
from tests.support.faults import error, passing, read_part
from tests.support.target_table import keys_of, numbered, put, through_proxy

ROWS = 600
DAY = "2024-02-29 00:00:00+00"

pytestmark = pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)


@pytest.fixture
def clock() -> TestClock:
    """Return the clock of the pauses."""
    return TestClock()


@pytest.fixture
def filled(table: EnterpriseTable) -> EnterpriseTable:
    """Fill the table with items of some 4 KB per dozen."""
    load_items(numbered(ROWS), table, table_was_empty=True)
    return table


def scan(table: EnterpriseTable, segments: int = 1) -> list[str]:
    """Scan the table; return the keys."""
    pages = scan_segments(table, ENTERPRISE_TABLE.letters, segments)
    return [key for page in pages for key in page["PK"].to_pylist()]


def test_no_second_reads_more_than_the_cap(
    filled: EnterpriseTable, clock: TestClock
) -> None:
    """A table whose pages each cost more than the cap must be read in smaller ones."""
    moments: list[float] = []
    with through_proxy(filled) as (table, proxy):
        proxy.add(passing(lambda: moments.append(clock.now)), operation="Scan")
        table.clock = clock
        table.read_limiter = RateLimiter(10, clock=clock)
        keys = scan(table)

    assert sorted(keys) == sorted(numbered(ROWS)["PK"])
    assert len(moments) > 8
    units = table.capacity.read_units
    assert units / (moments[-1] - moments[0]) <= 10 * 1.3
    assert table.capacity.paused > 0


def test_keys_are_read_under_the_cap(filled: EnterpriseTable, clock: TestClock) -> None:
    """Each looked-up item costs a unit, and no request exceeds the cap."""
    with through_proxy(filled) as (table, proxy):
        table.clock = clock
        table.read_limiter = RateLimiter(30, clock=clock)
        found = table.read(keys_of(numbered(100)))
        asked = [
            len(call.request.json["RequestItems"][table.name]["Keys"])
            for call in proxy.calls_of("BatchGetItem")
        ]

    assert len(found) == 100
    assert asked == [30, 30, 30, 10]
    assert clock.now - 1_000 >= 2.9


def test_a_throttled_scan_backs_off_and_misses_nothing(
    filled: EnterpriseTable, clock: TestClock
) -> None:
    """Each refusal must cause a pause, slow the reading down, and lose no page."""
    with through_proxy(filled) as (table, proxy):
        for code in ("ProvisionedThroughputExceededException", "ThrottlingException"):
            proxy.add(error(code), operation="Scan", times=3)
        table.clock = clock
        table.read_limiter = make_read_limiter(None, clock)
        before = table.read_limiter._rate.value
        keys = scan(table, 4)
        calls = proxy.calls_of("Scan")

    assert sorted(keys) == sorted(numbered(ROWS)["PK"])
    # One request per refusal: no retry without a pause.
    assert len(calls) == 6 + 4
    assert (table.capacity.throttles, table.capacity.retries) == (6, 6)
    assert table.read_limiter._rate.value < before
    assert clock.now > 1_000


def test_keys_that_are_left_unread_are_asked_for_again(
    filled: EnterpriseTable, clock: TestClock
) -> None:
    """Keys that a throttled table omits must be read later, and count as throttles."""
    keys = keys_of(numbered(100))
    with through_proxy(filled) as (table, proxy):
        proxy.add(read_part(7), operation="BatchGetItem", times=2)
        table.clock = clock
        table.read_limiter = make_read_limiter(None, clock)
        found = table.read(keys)

    assert set(found) == set(keys)
    assert table.capacity.throttles == 2
    assert clock.now > 1_000


def test_the_programs_own_items_wait_for_nothing(table: EnterpriseTable) -> None:
    """A lease must be readable even if the reads of the run are stopped."""
    context = RunContext()
    own = context.open_table()
    context.stop()
    own_item = {"PK": "MIGRATION#enterprises", "SK": "CUTOVER", "declared_at": "now"}
    put(table, own_item)

    assert own.get_own("CUTOVER") == own_item


@pytest.mark.usefixtures("source", "table")
def test_both_commands_read_under_their_cap(
    insert: Callable[[Iterable[Any]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Migrating and reconciling must limit their reads, and report the consumption."""
    made: list[RateLimiter] = []

    def limited(cap: float | None) -> RateLimiter:
        made.append(make_read_limiter(cap))
        return made[-1]

    monkeypatch.setattr(pipeline, "make_read_limiter", limited)
    insert((n, f"Enterprise {n}", DAY, DAY) for n in range(100, 200))
    migrated = pipeline.migrate(MigrateOptions(max_read_units=200))
    compared = pipeline.reconcile(max_read_units=300)

    assert (migrated.status, compared.status) == ("proven", "clean")
    assert [one.cap for one in made] == [200, 300]
    assert migrated.capacity["read_units"] > 0
    assert compared.capacity["read_units"] > 0
    assert ("Capacity", dict(compared.capacity)) in compared.tables()
