"""Turns: how many requests use the store at once, and when others are refused."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

from flows.api.problems import AFTER_THROTTLING, Problem

# As many as a store has connections; more would wait there.
TURNS = 32
# How long all requests wait while no turn is released, before the store is given up.
STALL_SECONDS = 1.0
# How long one request waits while others get their turns.
WAIT_SECONDS = 5.0
# A pause of this process is one slice, however long, and no stall of the store.
SLICES = 4
# With more, the wait would be longer than even a healthy store needs.
MOST_WAITING = 256


class Turns:
    """Gives requests their turn at the store.

    A store that hangs keeps its turns. Once no turn was released for as long as a
    stall may take, all who wait are refused, and others at once, until one is released.
    """

    def __init__(self, count: int = TURNS) -> None:
        self._free = asyncio.Semaphore(count)
        self._waiting = 0
        self._released = 0
        self._stalled = False

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Hold one turn for the duration of a block.

        Raises:
            Problem: 503, the store does not keep up.
        """
        await self._take()
        try:
            yield
        finally:
            self._released += 1
            self._stalled = False
            self._free.release()

    async def _take(self) -> None:
        if self._free.locked() and (self._stalled or self._waiting >= MOST_WAITING):
            raise _busy()
        self._waiting += 1
        try:
            await self._wait()
        except TimeoutError:
            raise _busy() from None
        finally:
            self._waiting -= 1

    async def _wait(self) -> None:
        end = time.monotonic() + WAIT_SECONDS
        quiet = 0
        while quiet < SLICES and time.monotonic() < end:
            released = self._released
            with suppress(TimeoutError):
                async with asyncio.timeout(STALL_SECONDS / SLICES):
                    await self._free.acquire()
                return
            quiet = quiet + 1 if self._released == released else 0
        self._stalled = quiet == SLICES
        raise TimeoutError


def _busy() -> Problem:
    detail = "The store does not keep up with the requests."
    headers = {"Retry-After": AFTER_THROTTLING}
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers)
