"""When requests are sent: closed loop (so many clients) or open loop (Poisson arrivals).

In the open loop a request's times start at its intended send, whether or not the client was late:
a stall then shows in every request that it delayed (no coordinated omission). Knows no HTTP.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from typing import Protocol

from benchmarks.measures import Block, Outcome
from benchmarks.plan import Plan
from benchmarks.workload import Question

Send = Callable[[Question, float], Awaitable[Outcome]]


class Clock(Protocol):
    """What tells the time; tests bring their own."""

    def now(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class MonotonicClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.perf_counter()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def run_plan(
    plan: Plan, questions: Iterator[Question], send: Send, clock: Clock
) -> list[Block]:
    """Warm up, then measure `plan.blocks` blocks back to back; questions go on, never restart."""
    if plan.warmup:
        clients = min(plan.concurrency or 1, plan.warmup)
        await closed_loop(send, questions, clock, clients=clients, tickets=iter(range(plan.warmup)))
    arrivals = random.Random(plan.seed)
    return [await _block(plan, questions, send, clock, arrivals) for _ in range(plan.blocks)]


async def _block(
    plan: Plan, questions: Iterator[Question], send: Send, clock: Clock, arrivals: random.Random
) -> Block:
    started = clock.now()
    if plan.rate is not None:
        offsets = poisson_offsets(plan, plan.rate, arrivals)
        outcomes = await open_loop(send, questions, clock, offsets=offsets)
    else:
        clients = plan.concurrency or 1
        tickets = _tickets(plan, clock)
        outcomes = await closed_loop(send, questions, clock, clients=clients, tickets=tickets)
    return Block(tuple(outcomes), clock.now() - started)


def _tickets(plan: Plan, clock: Clock) -> Iterator[int]:
    """One for each request that may still be sent; requests under way at the end are awaited."""
    started = clock.now()
    for number in count():
        if plan.requests is not None and number >= plan.requests:
            return
        if plan.seconds is not None and clock.now() - started >= plan.seconds:
            return
        yield number


def poisson_offsets(plan: Plan, rate: float, arrivals: random.Random) -> Iterator[float]:
    """Seconds from a block's start to each intended send; the gaps are exponential."""
    offset = 0.0
    for number in count():
        offset += arrivals.expovariate(rate)
        if plan.requests is not None and number >= plan.requests:
            return
        if plan.seconds is not None and offset >= plan.seconds:
            return
        yield offset


async def closed_loop(
    send: Send, questions: Iterator[Question], clock: Clock, *, clients: int, tickets: Iterator[int]
) -> list[Outcome]:
    """Each of `clients` sends its next request when its last was answered, while tickets last."""
    outcomes: list[Outcome] = []

    async def client() -> None:
        for _ in tickets:
            outcomes.append(await send(next(questions), clock.now()))

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return outcomes


async def open_loop(
    send: Send, questions: Iterator[Question], clock: Clock, *, offsets: Iterator[float]
) -> list[Outcome]:
    """Send at each of `offsets`, however many requests are under way."""
    started = clock.now()
    tasks = []
    async with asyncio.TaskGroup() as group:
        for offset in offsets:
            intended = started + offset
            # Also where that is over: it lets the requests under way go on.
            await clock.sleep(max(0.0, intended - clock.now()))
            tasks.append(group.create_task(_awaited(send(next(questions), intended))))
    return [task.result() for task in tasks]


async def _awaited(outcome: Awaitable[Outcome]) -> Outcome:
    return await outcome
