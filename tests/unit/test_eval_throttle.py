"""How many requests may be under way: halved by a pause, one more after each round of answers."""

import asyncio

from eval.ask.throttle import Throttle


async def no_time(_: float) -> None:
    await asyncio.sleep(0)


async def test_slots_are_as_many_as_allowed_and_free_again_after_an_error():
    throttle = Throttle(2, no_time)
    open_now = most = 0

    async def work(number):
        nonlocal open_now, most
        async with throttle.slot():
            open_now += 1
            most = max(most, open_now)
            await asyncio.sleep(0)
            open_now -= 1
            if number % 3 == 0:
                raise ValueError

    results = await asyncio.gather(*map(work, range(30)), return_exceptions=True)
    assert (len(results), most) == (30, 2)


async def test_refusals_of_one_moment_halve_once_and_never_below_one():
    throttle = Throttle(16, no_time)
    await asyncio.gather(*(throttle.pause(1) for _ in range(16)))
    assert throttle.limit == 8
    for _ in range(9):
        await throttle.pause(1)
    assert throttle.limit == 1


async def test_a_round_of_answers_allows_one_more_up_to_the_most():
    throttle = Throttle(4, no_time)
    await throttle.pause(1)
    for _ in range(2):
        throttle.answered()
    assert 2.8 < throttle.limit < 3
    for _ in range(99):
        throttle.answered()
    assert throttle.limit == 4


async def test_a_slot_waits_for_the_last_pause_to_end():
    ends = [asyncio.Event(), asyncio.Event()]
    throttle = Throttle(4, lambda number: wait(ends[int(number)]))

    async def wait(event: asyncio.Event) -> None:
        await event.wait()

    async def enter() -> None:
        async with throttle.slot():
            pass

    pauses = [asyncio.create_task(throttle.pause(i)) for i in range(2)]
    await asyncio.sleep(0)
    entered = asyncio.create_task(enter())
    ends[0].set()
    await pauses[0]
    for _ in range(5):
        await asyncio.sleep(0)
    assert not entered.done()
    ends[1].set()
    await asyncio.gather(pauses[1], entered)


async def test_a_pause_that_is_cancelled_holds_nobody_back():
    throttle = Throttle(2, lambda _: asyncio.sleep(600))
    pause = asyncio.create_task(throttle.pause(600))
    await asyncio.sleep(0)
    pause.cancel()
    await asyncio.gather(pause, return_exceptions=True)
    async with throttle.slot():
        assert throttle.limit == 1
