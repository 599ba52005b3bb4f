"""How many requests may be under way at a time, given what the server says of its load.

As TCP does: a server that asks for a pause gets half as many afterwards, each answer allows a bit
more again. Knows nothing of HTTP.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager


class Throttle:
    """Slots for at most `most` requests, none of them free while a pause lasts."""

    def __init__(self, most: int, sleep: Callable[[float], Awaitable[None]]) -> None:
        self.most = most
        self.limit = float(most)
        self._sleep = sleep
        self._busy = 0
        self._pauses = 0
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a free slot and hold it."""
        while self._pauses or self._busy >= int(self.limit):
            self._changed.clear()
            await self._changed.wait()
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self._changed.set()

    async def pause(self, seconds: float) -> None:
        """Let nothing start for `seconds`, and half as much after that.

        Refusals of requests that were under way at the first one count as one: they say the same.
        """
        if not self._pauses:
            self.limit = max(1.0, self.limit / 2)
        self._pauses += 1
        try:
            await self._sleep(seconds)
        finally:
            self._pauses -= 1
            self._changed.set()

    def answered(self) -> None:
        """A request got its answer: after a round of them one more may be under way."""
        self.limit = min(float(self.most), self.limit + 1 / self.limit)
        self._changed.set()
