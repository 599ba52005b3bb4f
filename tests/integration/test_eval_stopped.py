"""What an evaluation that was stopped, or that met a full disk, has kept of its answers."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from eval import score
from eval.ask.journal import SUFFIX
from tests.unit.evaluating import (
    BY_QUESTION,
    ROWS,
    Engine,
    at_once,
    make_world,
    serving,
    sqlwright_eval,
    strict_json,
    write_predictions,
)
from tests.unit.test_eval_score import HANGS

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    make_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SQLWRIGHT_API_KEY", raising=False)
    monkeypatch.setattr(sys, "argv", ["sqlwright-eval"])
    monkeypatch.setattr(score, "run_chunks", at_once)
    return tmp_path


def ask(url: str, output: str):
    return sqlwright_eval(
        "run", "--base-url", url, "--data", "dev.jsonl", "--output", output, "--no-page"
    )


# A disk that is full after 900 bytes of any file.
FULL = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900))
runpy.run_module("eval", run_name="__main__", alter_sys=True)
"""
MODULE = ("-m", "eval")


def run_in_process(folder: Path, *args: object, python: tuple[str, ...] = MODULE):
    """`python -m eval` without `run`, as one types it."""
    return subprocess.Popen(
        [sys.executable, *python, "--data", "dev.jsonl", "--no-page", *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_evaluation_goes_on_with_what_is_missing(folder, how):
    engine = Engine(hang_at=4)
    with serving(engine) as url:
        process = run_in_process(folder, "--base-url", url, "--concurrency", 1)
        if not engine.hanging.wait(60):
            process.kill()
            pytest.fail(f"never asked the fifth question: {process.communicate()}")
        process.send_signal(how)
        out, said = process.communicate(timeout=60)
    assert out == ""
    if how is not signal.SIGKILL:
        assert process.returncode == 130
        assert said == "sqlwright-eval: stopped; the same command goes on from the answers so far\n"
    (partial,) = folder.glob("runs/*")
    assert len(partial.read_text().splitlines()) == 4

    second = Engine()
    with serving(second) as url:  # at another port
        done = sqlwright_eval("run", "--data", "dev.jsonl", "--base-url", url, "--no-page")
    assert done.exit_code == 0, done.output
    assert "2 of 6 requests are left" in done.stderr
    assert sorted(engine.questions[:4] + second.questions) == sorted(BY_QUESTION)
    (path,) = folder.glob("runs/*")
    assert path.name == partial.name.removesuffix(SUFFIX)
    assert strict_json(path)["measures"]["execution_accuracy"]["n"] == 6


def test_a_full_disk_costs_no_answer_that_was_written(folder):
    engine = Engine()
    with serving(engine) as url:
        args = ("--base-url", url, "--concurrency", 1, "--output", "r.json")
        process = run_in_process(folder, *args, python=("-c", FULL))
        out, said = process.communicate(timeout=60)
        asked = len(engine.asked)
        assert (process.returncode, out) == (2, "")
        assert "File too large" in said
        assert 1 < asked < len(ROWS)
        done = ask(url, "r.json")
    assert done.exit_code == 0, done.output
    assert len(engine.asked) == len(ROWS) + 1  # the one whose answer was cut off is asked again
    assert strict_json(folder / "r.json")["num_errors"] == 0


def test_a_result_that_can_not_be_written_leaves_every_answer(folder):
    """What takes the place of the result while the server is asked is found at the end only."""
    (folder / "out").mkdir()
    engine = Engine(before=lambda: (folder / "out/r.json").mkdir(exist_ok=True))
    with serving(engine) as url:
        assert ask(url, "out/r.json").exit_code == 2
        assert [path.name for path in (folder / "out").iterdir() if path.is_file()] == [
            f"r.json{SUFFIX}"
        ]
        (folder / "out/r.json").rmdir()
        engine.before = lambda: None
        done = ask(url, "out/r.json")
    assert done.exit_code == 0, done.output
    assert "0 of 6 requests are left" in done.stderr
    assert len(engine.asked) == len(ROWS)
    assert [path.name for path in (folder / "out").iterdir()] == ["r.json"]


def busiest(process: subprocess.Popen[str]) -> float:
    """Seconds of processor time that the busiest child has had."""
    children = psutil.Process(process.pid).children(recursive=True)
    return max((sum(child.cpu_times()[:2]) for child in children), default=0.0)


def test_a_query_that_hangs_ends_with_the_evaluation_that_is_stopped(folder):
    answers = write_predictions(folder / "p.jsonl", b_easy=HANGS)
    process = run_in_process(folder, "--predictions", answers)
    while busiest(process) < 1.0:
        assert process.poll() is None
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    out, said = process.communicate(timeout=60)  # a worker that lives would hold the pipe open
    assert (process.returncode, out) == (130, "")
    assert said.startswith("sqlwright-eval: stopped;")
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
