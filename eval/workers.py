"""Runs a function over chunks of items in processes that are killed when they take too long.

An item that hangs in C code, crashes or eats the memory can't take the others with it: it is tried
alone, and then given up. Knows nothing of queries.
"""

import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.synchronize import Semaphore
from typing import TypeVar

from pebble import ProcessExpired, ProcessPool

from eval.task.cores import num_cores

# Address space of one worker: an item that asks for more is lost, not the machine.
WORKER_BYTES = 4 << 30
# How often a worker looks whether its parent is still there.
PARENT_SECONDS = 1.0
# How long the pool's end waits for a worker that has not started.
START_SECONDS = 5.0

T = TypeVar("T")
R = TypeVar("R")
Tick = Callable[[int], None]
Function = Callable[[list[T]], list[R]]


class WorkersError(RuntimeError):
    """Worker processes can't start, or die without a task; the message says what to look at."""


@dataclass(frozen=True, slots=True)
class Lost:
    """What came of a task that has no result."""

    reason: str


def run_chunks(
    function: Function[T, R],
    chunks: Sequence[list[T]],
    on_lost: Callable[[T, str], R],
    *,
    seconds_per_item: float,
    tick: Tick = lambda _: None,
    worker_bytes: int = WORKER_BYTES,
) -> list[list[R]]:
    """`function` of each chunk, in order, one process a core; `tick` hears of items done.

    A chunk that takes over `seconds_per_item`, dies or runs out of memory is tried again item by
    item, each with as many seconds; an item that is lost again becomes `on_lost(item, reason)`.
    `function` must be picklable: a module's own function, or a `partial` of one. What it raises is
    raised here and ends the rest.

    Raises:
        WorkersError: worker processes can't start, or die without a task.
    """
    if not chunks:
        return []
    with _pool(min(num_cores(), len(chunks)), worker_bytes, function) as pool:
        whole = _run(pool, function, chunks, seconds_per_item, tick)
        alone = [
            [item]
            for chunk, found in zip(chunks, whole, strict=True)
            if isinstance(found, Lost)
            for item in chunk
        ]
        single = _run(pool, function, alone, seconds_per_item, tick)
    retried = (
        on_lost(item, found.reason) if isinstance(found, Lost) else found[0]
        for [item], found in zip(alone, single, strict=True)
    )
    tick(sum(isinstance(found, Lost) for found in single))
    return [
        [next(retried) for _ in chunk] if isinstance(found, Lost) else found
        for chunk, found in zip(chunks, whole, strict=True)
    ]


def _run(
    pool: ProcessPool,
    function: Function[T, R],
    chunks: Sequence[list[T]],
    seconds: float,
    tick: Tick,
) -> list[list[R] | Lost]:
    futures: dict[Future[list[R]], int] = {
        pool.schedule(function, (chunk,), timeout=seconds): place
        for place, chunk in enumerate(chunks)
    }
    found: dict[int, list[R] | Lost] = {}
    for future in as_completed(futures):
        result = found[futures[future]] = _result(future, seconds)
        tick(len(result) if isinstance(result, list) else 0)
    return [found[place] for place in range(len(chunks))]


def _result(future: Future[list[R]], seconds: float) -> list[R] | Lost:
    try:
        return future.result()
    except TimeoutError:
        return Lost(f"over {seconds:g} s, its process was killed")
    except ProcessExpired as error:
        return Lost(f"its process died, exit code {error.exitcode}")
    except MemoryError:
        return Lost("out of memory")
    except BrokenProcessPool as error:
        raise WorkersError(
            "worker processes do not start, or die without a task: is there enough memory?"
        ) from error


@contextmanager
def _pool(size: int, worker_bytes: int, function: Function[T, R]) -> Iterator[ProcessPool]:
    # Spawned, because a fork of a process with threads may hang.
    spawn = multiprocessing.get_context("spawn")
    started = spawn.Semaphore(0)
    # Workers get the function at the start too, so that they import its modules side by side.
    initargs = (worker_bytes, started, function)
    with ProcessPool(size, initializer=_start, initargs=initargs, context=spawn) as pool:
        try:
            yield pool
        except BaseException:
            pool.stop()
            raise
        # A worker that still starts while the pool closes would print a traceback.
        for _ in range(size):
            started.acquire(timeout=START_SECONDS)


def _start(worker_bytes: int, started: Semaphore, _: object) -> None:
    started.release()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # ends C code too, which Python's handlers don't
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    with suppress(ValueError, OSError):  # not every system has the limit
        resource.setrlimit(resource.RLIMIT_AS, (worker_bytes, worker_bytes))


def _leave_with(parent: int) -> None:
    """End this process once its parent was killed: a query in C code would go on without it."""
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(1)
