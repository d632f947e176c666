"""Turns: how many requests use the store at once, and when others are refused."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from flows.api.problems import AFTER_THROTTLING, Problem

# As many as a store has connections; more would wait there.
TURNS = 32
# How long a request waits for its turn while others get theirs.
STALL_SECONDS = 1.0
# With more, the wait would be longer than even a healthy store needs.
MOST_WAITING = 256


class Turns:
    """Gives requests their turn at the store.

    A store that hangs keeps its turns. Once no turn was released for as long as a
    request may wait, others are refused at once.
    """

    def __init__(self, count: int = TURNS) -> None:
        self._free = asyncio.Semaphore(count)
        self._waiting = 0
        self._moved = 0.0

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
            self._moved = time.monotonic()
            self._free.release()

    async def _take(self) -> None:
        stalled = time.monotonic() - self._moved > STALL_SECONDS
        if self._free.locked() and (stalled or self._waiting >= MOST_WAITING):
            raise _busy()
        self._waiting += 1
        try:
            async with asyncio.timeout(STALL_SECONDS):
                await self._free.acquire()
        except TimeoutError:
            raise _busy() from None
        finally:
            self._waiting -= 1
        self._moved = time.monotonic()


def _busy() -> Problem:
    detail = "The store does not keep up with the requests."
    headers = {"Retry-After": AFTER_THROTTLING}
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers)
