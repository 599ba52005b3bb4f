"""Work on a disk that may never answer, without waiting for it for ever."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar

from server.adapters.refusal import Refusal

MAX_STUCK = 8

P = ParamSpec("P")
T = TypeVar("T")


class Deadline:
    """Runs functions in threads of their own and gives each `seconds`.

    A thread that a disk holds can't be ended: it is left behind, `MAX_STUCK` of them at most, and
    keeps neither other work nor the process's end waiting.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._running = 0

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work(*args, **kwargs)` returns or raises.

        Raises:
            Refusal: it took too long, or too many before it still hang.
        """
        if self._running >= MAX_STUCK:
            raise Refusal("timeout", f"{MAX_STUCK} reads of the store hang; is its disk mounted?")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def finish(settle: Callable[[], None]) -> None:
            self._running -= 1
            if not done.done():  # else nobody waits any more
                settle()

        def call() -> None:
            settle: Callable[[], None]
            try:
                settle = partial(done.set_result, work(*args, **kwargs))
            except Exception as error:
                settle = partial(done.set_exception, error)
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(finish, settle)

        self._running += 1
        threading.Thread(target=call, name="store", daemon=True).start()
        try:
            async with asyncio.timeout(self.seconds) as deadline:
                return await done
        except TimeoutError as error:
            if not deadline.expired():
                raise  # the work's own
            message = f"reading took over {self.seconds:g} s; raise SQLWRIGHT_ADAPTER_SECONDS"
            raise Refusal("timeout", message) from error
