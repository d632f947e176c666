"""The limiter's rate, on a clock that only its own waits move."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from flows.errors import Incomplete
from flows.stores.dynamodb.rate_limiter import (
    FIRST_RATE,
    LEAST_RATE,
    PAGE_UNITS,
    Pages,
    RateLimiter,
)
from tests.support.clock import TestClock


@pytest.fixture
def clock() -> TestClock:
    """Return the clock of the limiters."""
    return TestClock()


def write(
    under: RateLimiter,
    clock: TestClock,
    seconds: int,
    taken: Callable[[float, int], int] = lambda _, units: units,
    units: int = 25,
) -> list[float]:
    """Write batch after batch; return the units consumed in each second.

    *taken* returns how many of the given units the table accepts, by the units
    consumed so far in the second.
    """
    begun, consumed = clock.now, [0.0] * (seconds + 1)
    while (second := int(clock.now - begun)) < seconds:
        under.take(units)
        second = min(int(clock.now - begun), seconds)
        done = taken(consumed[second], units)
        consumed[second] += done
        if done < units:
            under.slow_down(done)
        else:
            under.correct(units, done)
    return consumed[:seconds]


def test_a_cap_holds_in_every_second(clock: TestClock) -> None:
    """No second may exceed the cap by more than a short pause accumulates."""
    consumed = write(RateLimiter(3_000, clock=clock), clock, 10)

    assert consumed[0] <= FIRST_RATE * 1.06 + 25
    assert all(2_900 <= units <= 3_150 for units in consumed[2:])


def test_items_that_cost_more_than_expected_count_in_full(clock: TestClock) -> None:
    """The batches after a batch of large items must wait for its cost."""
    under = RateLimiter(1_000, clock=clock)
    begun, consumed = clock.now, 0.0
    while clock.now - begun < 10:
        under.take(25)
        under.correct(25, 400)
        consumed += 400

    assert consumed <= 1_000 * 10 + 2 * 400


def test_it_begins_gently_and_grows_while_nothing_is_refused(clock: TestClock) -> None:
    """Without a cap the rate must start low and double every second."""
    consumed = write(RateLimiter(clock=clock), clock, 5)

    assert consumed[0] <= FIRST_RATE * 1.06 + 25
    assert all(b > 1.7 * a for a, b in pairwise(consumed))


def test_it_does_not_grow_unused(clock: TestClock) -> None:
    """After a pause of the workers the rate must not be a multiple of before."""
    under = RateLimiter(clock=clock)
    for _ in range(20):
        under.take(25)
        under.correct(25, 25)
        clock.sleep(1)

    assert write(under, clock, 1)[0] <= FIRST_RATE * 1.06 + 25


def test_it_finds_what_a_table_takes(clock: TestClock) -> None:
    """Under a throttle, requests must use most of the table's rate, and little more."""
    asked: list[int] = []

    def table(so_far: float, units: int) -> int:
        asked.append(units)
        return min(units, max(0, int(3_000 - so_far)))

    consumed = write(RateLimiter(clock=clock), clock, 40, table)

    assert sum(consumed[5:]) > 0.85 * 3_000 * 35
    assert sum(asked) < 1.25 * 3_000 * 40


def test_it_asks_seldom_while_all_is_refused_and_recovers(clock: TestClock) -> None:
    """A table that accepts nothing must get few requests, and be used again later."""
    under = RateLimiter(clock=clock)
    write(under, clock, 5)
    asked: list[float] = []

    def nothing(*_: object) -> int:
        asked.append(clock.now)
        return 0

    write(under, clock, 30, nothing, units=1)
    seldom = [time for time in asked if time > clock.now - 25]
    again = write(under, clock, 25)

    # In the first seconds the loader's backoff limits the requests.
    assert len(seldom) <= 25 * LEAST_RATE + 1
    assert again[-1] > FIRST_RATE


def test_a_stopped_run_writes_no_more() -> None:
    """Every holder of a copy must be refused before the request is sent."""
    under = RateLimiter()
    under.take(1)
    under.stop()

    with pytest.raises(Incomplete, match="stopped"):
        under.take(1)


def test_a_deadline_is_not_waited_past() -> None:
    """A wait that would pass the deadline must end the run at once."""
    under = RateLimiter(1)
    under.take(25)

    with pytest.raises(Incomplete, match="deadline"):
        under.take(25, deadline=0.0)


def test_a_cap_holds_after_a_throttle_too(clock: TestClock) -> None:
    """The lowest rate may not exceed the cap."""
    under = RateLimiter(2, clock=clock)
    under.slow_down()
    begun = clock.now
    for _ in range(20):
        under.take(1)

    assert clock.now - begun >= 9


def scan(under: RateLimiter, clock: TestClock, cost: float, items: int) -> list[float]:
    """Read that many items of this cost each; return the units of each second."""
    begun, consumed, pages = clock.now, [0.0], Pages(under)
    while items > 0:
        under.take(pages.units)
        second = int(clock.now - begun)
        consumed += [0.0] * (second + 1 - len(consumed))
        most = int(PAGE_UNITS / cost)
        read = min(items, pages.limit or most, most)
        used = max(1.0, read * cost)
        consumed[second] += used
        under.correct(pages.units, used)
        pages.learn(read, used)
        items -= read
    return consumed


@pytest.mark.parametrize("cost", [0.1, 1.0, 7.0])
def test_pages_keep_below_the_cap(clock: TestClock, cost: float) -> None:
    """No second may exceed the cap by more than a page, for any cost of an item."""
    consumed = scan(RateLimiter(100, clock=clock), clock, cost, int(3_000 / cost))

    # The cost of the first page is unknown in advance.
    assert max(consumed[1:]) <= 160
    assert 20 <= len(consumed) <= 35


def test_without_a_cap_pages_are_whole() -> None:
    """A scan must not be split into small pages without a cap."""
    assert Pages(None).limit is None
    assert Pages(RateLimiter()).limit is None
    assert Pages(RateLimiter(100_000), 4).limit is None
    assert Pages(RateLimiter(100), 4).limit == 12


def test_slow_pages_are_halved_once_for_all_readers() -> None:
    """Four timeouts at once must halve once; fast pages must grow to whole ones."""
    pages = Pages(None, 4)
    pages.learn(1_000, 100.0)
    for _ in range(4):
        pages.shrink(0)
    halved = pages.limit
    pages.shrink(1)
    quartered = pages.limit
    for _ in range(4):
        pages.grow(2)
    pages.grow(1)

    assert (halved, quartered) == (1_280, 640)
    assert pages.limit is None


def test_a_page_has_an_item_at_least() -> None:
    """Halving must end, and growing from there must not take forever."""
    pages = Pages(RateLimiter(100), 4)
    pages.learn(1, 1.0)
    for _ in range(50):
        pages.shrink(pages.step)

    assert pages.limit == 1
    assert pages.step < 10
