"""How long judging takes: what a run measures, how runs are summed up, and what fails."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from benchmarks import judge_time
from benchmarks.judge_time import JudgeTimeError, MemoryWatch, Run, judge_once, main, rows_of
from tests.unit.evaluating import ROWS, make_world, write_predictions

app = typer.Typer()
app.command()(main)
PHASES = {"judging": 1.0}


def run(n: int, seconds: float, *, peak: float = 100.0, with_suite: bool = False) -> Run:
    return Run(n, with_suite, seconds, peak, PHASES)


def test_one_run_is_timed_from_outside_with_the_memory_of_all_its_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    data = make_world(tmp_path)
    found = judge_once(data, write_predictions(tmp_path / "p.jsonl"), 4, with_suite=False)
    assert (found.n, found.with_suite) == (4, False)
    assert found.seconds >= sum(found.phases.values()) > 0
    assert set(found.phases) == {"gold_queries", "asking", "judging"}
    assert found.peak_mib > 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["databases", "dev.jsonl", "p.jsonl"]


def test_a_run_that_fails_says_why(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    with pytest.raises(JudgeTimeError, match=r"gone\.jsonl: can't be read"):
        judge_once(make_world(tmp_path), tmp_path / "gone.jsonl", 4, with_suite=False)


def test_the_memory_of_children_counts():
    """The parent alone holds little; its child holds 64 MiB."""
    child = "x = bytearray(b'x') * (64 << 20); import time; time.sleep(1)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ)) as process:
        watch = MemoryWatch(process.pid)
        watch.start()
        process.wait()
    watch.join(timeout=30)
    assert not watch.is_alive()
    assert 64 < watch.peak_mib < 500


def test_rows_hold_median_range_and_the_most_memory_of_each_kind():
    runs = [run(8, 3.0), run(8, 1.0, peak=250.4), run(8, 2.0), run(8, 9.0, with_suite=True)]
    assert rows_of(runs) == [
        {
            "judged": "without test suites", "n": 8, "runs": 3, "seconds_median": 2.0,
            "seconds_min": 1.0, "seconds_max": 3.0, "peak_mib": 250, "phases": PHASES,
        },
        {
            "judged": "with test suites", "n": 8, "runs": 1, "seconds_median": 9.0,
            "seconds_min": 9.0, "seconds_max": 9.0, "peak_mib": 100, "phases": PHASES,
        },
    ]  # fmt: skip
    assert rows_of([]) == []


@pytest.fixture
def judged(tmp_path, monkeypatch):
    """What was judged instead of judging it."""
    calls: list[tuple[int, bool] | str] = []

    def judge(
        data: Path, predictions: Path, n: int, *, with_suite: bool, is_cold: bool = False
    ) -> Run:
        calls.append("cold" if is_cold else (n, with_suite))
        return replace(run(n, float(len(calls)), with_suite=with_suite), is_cold=is_cold)

    make_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(judge_time, "judge_once", judge)
    return calls


def test_kinds_are_judged_in_turn_and_the_figure_is_of_all_questions(judged):
    done = CliRunner().invoke(app, ["p.jsonl", "--data", "dev.jsonl", "--runs", "2"])
    assert done.exit_code == 0, done.output
    once = [(n, with_suite) for with_suite in (False, True) for n in (1, 3, 6)]
    assert judged == [(6, True), *once, *once, "cold", "cold"]
    found = json.loads(Path("benchmarks/results/judge_seconds_spider_dev.json").read_text())
    assert (found["n"], found["interval"]) == (6, [4.0, 10.0])
    assert found["value"] == 7.0
    assert len(found["rows"]) == 7
    assert found["rows"][6]["judged"] == "with test suites, generated first"
    assert not any(row["question"] in json.dumps(found) for row in ROWS)


def test_a_single_question_is_judged_once_a_kind(judged):
    Path("dev.jsonl").write_text(json.dumps(ROWS[0]) + "\n\n")
    done = CliRunner().invoke(app, ["p.jsonl", "--data", "dev.jsonl", "--runs", "1"])
    assert done.exit_code == 0, done.output
    assert judged == [(1, True), (1, False), (1, True), "cold"]


def test_data_that_is_not_there_is_named(judged):
    done = CliRunner().invoke(app, ["p.jsonl", "--data", "gone.jsonl"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "judge_time: error: " in done.stderr
    assert "gone.jsonl" in done.stderr
    assert judged == []
