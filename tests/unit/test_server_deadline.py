"""A disk that hangs holds up neither the server nor other adapters."""

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from eval.task.bundle import CONFIG
from eval.task.store import ALIASES
from server.adapters.deadline import MAX_STUCK, Deadline
from server.adapters.refusal import Refusal
from server.adapters.table import AdapterTable
from tests.conftest import make_table, publish_new


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What hanging work waits for; open at the end."""
    event = threading.Event()
    yield event
    event.set()


async def test_what_ends_in_time_is_returned() -> None:
    assert await Deadline(5).run(pow, 2, 5) == 32


async def test_what_fails_fails_as_it_did() -> None:
    with pytest.raises(ZeroDivisionError):
        await Deadline(5).run(divmod, 1, 0)


async def test_a_timeout_of_the_work_itself_is_no_deadline() -> None:
    def work() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        await Deadline(5).run(work)


async def test_what_hangs_is_left_behind_and_so_many_at_most(gate: threading.Event) -> None:
    deadline = Deadline(0.01)
    for _ in range(MAX_STUCK):
        with pytest.raises(Refusal, match=r"^timeout: .*SQLWRIGHT_ADAPTER_SECONDS"):
            await deadline.run(gate.wait)
    with pytest.raises(Refusal, match="8 reads of the store hang"):
        await deadline.run(pow, 2, 5)
    gate.set()
    while deadline._running:
        await asyncio.sleep(0.001)
    assert await deadline.run(pow, 2, 5) == 32


async def test_a_caller_that_leaves_does_not_count_as_stuck(gate: threading.Event) -> None:
    deadline = Deadline(60)
    waiting = asyncio.create_task(deadline.run(gate.wait))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    while deadline._running:
        await asyncio.sleep(0.001)


def test_a_thread_that_hangs_does_not_keep_the_process_alive(gate: threading.Event) -> None:
    with pytest.raises(Refusal):
        asyncio.run(Deadline(0.01).run(gate.wait))
    threads = [thread for thread in threading.enumerate() if thread.name == "store"]
    assert threads
    assert all(thread.daemon for thread in threads)


def blocked(path: Path) -> None:
    """Put a pipe that nobody writes to in the place of `path`."""
    path.unlink()
    os.mkfifo(path)


@pytest.fixture
def impatient(store: Path, engine) -> AdapterTable:
    return make_table(store, engine, seconds=0.2)


async def test_a_store_that_hangs_is_said_and_what_is_served_goes_on(impatient, store):
    await impatient.refresh()
    served = impatient.find("spider")
    blocked(store / ALIASES)
    with capture_logs() as logs:
        await impatient.refresh()
    (entry,) = [log for log in logs if log["event"] == "adapter_refused"]
    assert (entry["code"], entry["alias"]) == ("timeout", ALIASES)
    assert impatient.find("spider") is served
    assert impatient.metrics.adapter_refusals.labels("timeout")._value.get() == 1
    with (store / ALIASES).open("w"):  # the reader that hangs goes on
        pass


async def test_an_adapter_that_hangs_does_not_hold_up_the_others(
    impatient, store, engine, monkeypatch, gate
):
    hanging = publish_new(store, "hanging", tag="two")
    admit = impatient.loader.admission.admit_version

    def slow(_self: object, folder: Path, short: str) -> object:
        if short == hanging:
            gate.wait()
        return admit(folder, short)

    monkeypatch.setattr(type(impatient.loader.admission), "admit_version", slow)
    with capture_logs() as logs:
        await impatient.refresh()
    assert [log["code"] for log in logs if log["event"] == "adapter_refused"] == ["timeout"]
    assert impatient.find("spider")
    gate.set()
    await impatient.refresh()
    assert impatient.find("hanging")


async def test_a_pipe_in_place_of_a_file_is_refused_at_once(impatient, store):
    short = publish_new(store, "piped", tag="two")
    blocked(store / short / CONFIG)
    with capture_logs() as logs:
        await impatient.refresh()
    assert [log["code"] for log in logs if log["event"] == "adapter_refused"] == ["not_regular"]
