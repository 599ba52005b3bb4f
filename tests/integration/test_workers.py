"""Worker processes: what hangs, dies or eats the memory is lost alone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from eval.workers import run_chunks

ROOT = Path(__file__).parents[2]
SECONDS = 2.0
SCRIPT = """
import sys, time
from eval.workers import run_chunks

def nap(items):
    print("started", flush=True)
    time.sleep(600)
    return items

if __name__ == "__main__":
    try:
        run_chunks(nap, [[1], [2]], lambda item, reason: item, seconds_per_item=600)
    except KeyboardInterrupt:
        print("stopped", flush=True)
"""


def work(items: list[str]) -> list[str]:
    return [ACTIONS[item]() if item in ACTIONS else item.upper() for item in items]


def hang() -> str:
    time.sleep(600)
    return ""


def crash() -> str:
    os.kill(os.getpid(), signal.SIGSEGV)
    return ""


def leave() -> str:
    os._exit(0)


def eat_memory() -> str:
    return str(len(bytearray(64 << 30)))


def fail() -> str:
    raise KeyError("a mistake")


ACTIONS: dict[str, Callable[[], str]] = {
    "hang": hang,
    "crash": crash,
    "leave": leave,
    "eat memory": eat_memory,
    "fail": fail,
}


def lost(item: str, reason: str) -> str:
    return f"{item}: {reason}"


def run(chunks: list[list[str]], done: list[int] | None = None) -> list[list[str]]:
    tick = (done if done is not None else []).append
    return run_chunks(work, chunks, lost, seconds_per_item=SECONDS, tick=tick)


def test_results_come_in_the_order_of_the_chunks() -> None:
    chunks = [[f"a{i}", f"b{i}", f"c{i}"] for i in range(20)]
    done: list[int] = []
    assert run(chunks, done) == [[item.upper() for item in chunk] for chunk in chunks]
    assert sum(done) == 60


def test_nothing_to_do_starts_nothing() -> None:
    assert run([]) == []


def test_an_empty_chunk_has_an_empty_result() -> None:
    assert run([[], ["a"]]) == [[], ["A"]]


@pytest.mark.parametrize(
    ("guilty", "reason"),
    [
        ("hang", "over 2 s, its process was killed"),
        ("crash", "its process died, exit code -11"),
        ("leave", "over 2 s, its process was killed"),
        ("eat memory", "out of memory"),
    ],
)
def test_only_the_guilty_item_is_lost(guilty: str, reason: str) -> None:
    done: list[int] = []
    found = run([["a", guilty, "b"], ["c", "d"], ["e"]], done)
    assert found == [["A", f"{guilty}: {reason}", "B"], ["C", "D"], ["E"]]
    assert sum(done) == 6


def test_several_guilty_items_are_lost_and_no_other() -> None:
    found = run([["crash", "a"], ["b", "crash"], ["crash"], ["c"]])
    died = "crash: its process died, exit code -11"
    assert found == [[died, "A"], ["B", died], [died], ["C"]]


def test_a_mistake_in_the_function_is_raised() -> None:
    with pytest.raises(KeyError, match="a mistake"):
        run([["a"], ["fail"], ["b"]])


def test_a_partial_is_run_too() -> None:
    function = partial(divide, by=2)
    found = run_chunks(function, [[2, 4], [6]], lambda item, _: item, seconds_per_item=SECONDS)
    assert found == [[1, 2], [3]]


def divide(numbers: list[int], by: int) -> list[int]:
    return [number // by for number in numbers]


def test_an_interrupt_stops_the_workers(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        # Ends only when every worker has closed its end.
        said, _ = process.communicate(timeout=60)
        assert said.splitlines()[-1] == "stopped"
    assert process.returncode == 0
