"""When requests are sent: on a clock of our own, so that nothing here depends on real time."""

import asyncio
from itertools import cycle, islice, pairwise
from random import Random

import pytest

from benchmarks.load import closed_loop, open_loop, poisson_offsets, run_plan
from benchmarks.measures import Outcome
from benchmarks.plan import BenchError, Plan
from benchmarks.workload import Question

QUESTION = Question("q", "db", "sqlite", "p")


class FakeClock:
    """Time passes only by sleeping; `stalls` (sleep's number: seconds) makes a sleep too long."""

    def __init__(self, stalls: dict[int, float] | None = None) -> None:
        self.time = 100.0
        self.sleeps = 0
        self.stalls = stalls or {}

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds + self.stalls.get(self.sleeps, 0.0)
        self.sleeps += 1
        await asyncio.sleep(0)


class FakeServer:
    """Answers at once, and remembers what each request's times were measured from."""

    def __init__(self, clock: FakeClock, answer_seconds: float = 0.0) -> None:
        self.clock = clock
        self.answer_seconds = answer_seconds
        self.intended: list[float] = []
        self.questions: list[Question] = []

    async def send(self, question: Question, intended: float) -> Outcome:
        self.intended.append(intended)
        self.questions.append(question)
        self.clock.time += self.answer_seconds
        return Outcome(e2el_ms=(self.clock.now() - intended) * 1000)


async def test_a_stall_of_the_client_counts_from_the_intended_time():
    """Measured from the real send, the three requests behind the stall would take no time."""
    clock = FakeClock(stalls={1: 10.0})
    server = FakeServer(clock)
    offsets = iter([1.0, 2.0, 3.0, 4.0])
    outcomes = await open_loop(server.send, cycle([QUESTION]), clock, offsets=offsets)
    assert server.intended == [101.0, 102.0, 103.0, 104.0]
    assert [o.e2el_ms for o in outcomes] == [11_000.0, 10_000.0, 9_000.0, 8_000.0]


async def test_the_closed_loop_counts_from_the_send():
    clock = FakeClock()
    server = FakeServer(clock, answer_seconds=2.0)
    outcomes = await closed_loop(
        server.send, cycle([QUESTION]), clock, clients=1, tickets=iter(range(3))
    )
    assert server.intended == [100.0, 102.0, 104.0]
    assert [o.e2el_ms for o in outcomes] == [2000.0] * 3


async def test_the_open_loop_does_not_wait_for_answers():
    clock = FakeClock()
    release = asyncio.Event()
    started: list[float] = []

    async def send(question: Question, intended: float) -> Outcome:
        started.append(intended)
        if len(started) == 5:
            release.set()
        await release.wait()
        return Outcome(e2el_ms=1.0)

    offsets = iter([1.0, 2.0, 3.0, 4.0, 5.0])
    async with asyncio.timeout(30):
        outcomes = await open_loop(send, cycle([QUESTION]), clock, offsets=offsets)
    assert len(outcomes) == 5


@pytest.mark.parametrize("clients", [1, 3, 8])
async def test_the_closed_loop_keeps_exactly_so_many_requests_under_way(clients):
    barrier = asyncio.Barrier(clients)
    under_way = 0
    most = 0

    async def send(question: Question, intended: float) -> Outcome:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await barrier.wait()  # with fewer clients this never opens
        under_way -= 1
        return Outcome(e2el_ms=1.0)

    async with asyncio.timeout(30):
        outcomes = await closed_loop(
            send, cycle([QUESTION]), FakeClock(), clients=clients, tickets=iter(range(3 * clients))
        )
    assert (most, len(outcomes)) == (clients, 3 * clients)


def test_arrivals_are_fixed_by_the_seed():
    plan = Plan(requests=50, rate=4.0)
    first, again, other = (
        list(poisson_offsets(plan, 4.0, Random(seed))) for seed in ("a", "a", "b")
    )
    assert first == again
    assert first != other
    assert len(first) == 50
    assert first == sorted(first)


def test_arrivals_have_the_rate_and_the_spread_of_a_poisson_process():
    offsets = list(poisson_offsets(Plan(seconds=5000.0, rate=4.0), 4.0, Random(1)))
    gaps = [after - before for before, after in pairwise(offsets)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert offsets[-1] < 5000.0
    assert len(offsets) == pytest.approx(20_000, rel=0.05)
    assert spread / mean == pytest.approx(1.0, abs=0.05)


async def test_warmup_is_not_measured_and_blocks_go_on_with_the_questions():
    questions = [Question(str(i), "db", "sqlite", "p") for i in range(5)]
    clock = FakeClock()
    server = FakeServer(clock, answer_seconds=1.0)
    plan = Plan(requests=3, concurrency=1, warmup=2, blocks=2)
    blocks = await run_plan(plan, cycle(questions), server.send, clock)
    assert [(len(block.outcomes), block.seconds) for block in blocks] == [(3, 3.0), (3, 3.0)]
    assert server.questions == list(islice(cycle(questions), 8))


async def test_seconds_end_a_block_and_what_is_under_way_is_awaited():
    clock = FakeClock()
    server = FakeServer(clock, answer_seconds=2.0)
    plan = Plan(seconds=5.0, concurrency=1)
    (block,) = await run_plan(plan, cycle([QUESTION]), server.send, clock)
    assert (len(block.outcomes), block.seconds) == (3, 6.0)


async def intended_times(seed: int) -> list[float]:
    clock = FakeClock()
    server = FakeServer(clock)
    plan = Plan(requests=6, rate=2.0, blocks=2, seed=seed)
    await run_plan(plan, cycle([QUESTION]), server.send, clock)
    return server.intended


async def test_the_same_seed_intends_the_same_times():
    assert await intended_times(5) == await intended_times(5)
    assert await intended_times(5) != await intended_times(6)


async def test_blocks_of_an_open_loop_have_arrivals_of_their_own():
    clock = FakeClock()
    server = FakeServer(clock)
    plan = Plan(requests=4, rate=1.0, blocks=2, seed=7)
    blocks = await run_plan(plan, cycle([QUESTION]), server.send, clock)
    gaps = [after - before for before, after in pairwise(server.intended)]
    assert [len(block.outcomes) for block in blocks] == [4, 4]
    assert gaps[:3] != pytest.approx(gaps[4:])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"concurrency": 1}, "--requests or --seconds"),
        ({"requests": 1, "seconds": 1.0, "concurrency": 1}, "--requests or --seconds"),
        ({"requests": 1}, "--concurrency or --rate"),
        ({"requests": 1, "concurrency": 1, "rate": 1.0}, "--concurrency or --rate"),
        ({"requests": 0, "concurrency": 1}, "--requests"),
        ({"requests": 1, "rate": float("inf")}, "--rate"),
        ({"seconds": float("nan"), "rate": 1.0}, "--seconds"),
        ({"requests": 1, "concurrency": 1, "blocks": 0}, "--blocks"),
        ({"requests": 1, "concurrency": 1, "warmup": -1}, "--warmup"),
    ],
)
def test_a_plan_that_makes_no_sense_names_the_option(settings, named):
    with pytest.raises(BenchError, match=named):
        Plan(**settings)
