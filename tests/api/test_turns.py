"""Who waits for a turn at the store, and who is refused."""

import asyncio
import time

import pytest

from flows.api.problems import Problem
from flows.api.turns import STALL_SECONDS, WAIT_SECONDS, Turns


async def hold(turns: Turns, seconds: float) -> float:
    """Hold one turn; return how long it was waited for."""
    begun = time.monotonic()
    async with turns.one():
        waited = time.monotonic() - begun
        await asyncio.sleep(seconds)
    return waited


def test_who_waits_long_while_others_get_turns_is_served() -> None:
    """A wait longer than a stall must be served while turns are released."""
    turns = Turns(1)

    async def several() -> list[float]:
        return await asyncio.gather(*(hold(turns, 0.2) for _ in range(8)))

    assert max(asyncio.run(several())) > STALL_SECONDS


def test_nobody_waits_without_end() -> None:
    """A store that is slow but moves must refuse a request after its whole wait."""
    turns = Turns(1)

    async def slow() -> list[float | BaseException]:
        each = (hold(turns, STALL_SECONDS * 0.9) for _ in range(9))
        return await asyncio.gather(*each, return_exceptions=True)

    answers = asyncio.run(slow())

    refused = [each for each in answers if isinstance(each, Problem)]
    assert 0 < len(refused) < len(answers)
    assert all(each < WAIT_SECONDS + 1 for each in answers if isinstance(each, float))


def test_a_pause_of_the_service_is_no_stall_of_the_store() -> None:
    """If the service itself was paused, neither who waits nor who comes is refused."""
    turns = Turns(1)

    async def paused() -> list[float]:
        holds = [asyncio.create_task(hold(turns, 0.1)) for _ in range(3)]
        await asyncio.sleep(0.05)
        time.sleep(1.5 * STALL_SECONDS)  # noqa: ASYNC251
        return await asyncio.gather(*holds, hold(turns, 0))

    assert len(asyncio.run(paused())) == 4


def test_a_stalled_store_refuses_at_once_until_it_moves() -> None:
    """After one stall, further requests must be refused at once, and served later."""
    turns = Turns(1)

    async def stalled() -> float:
        store = asyncio.Event()

        async def hang() -> None:
            async with turns.one():
                await store.wait()

        hanging = asyncio.create_task(hang())
        await asyncio.sleep(0)
        with pytest.raises(Problem):
            await hold(turns, 0)
        begun = time.monotonic()
        for _ in range(100):
            with pytest.raises(Problem):
                await hold(turns, 0)
        took = time.monotonic() - begun
        store.set()
        await hanging
        await asyncio.gather(hold(turns, 0.1), hold(turns, 0))
        return took

    assert asyncio.run(stalled()) < STALL_SECONDS / 2
