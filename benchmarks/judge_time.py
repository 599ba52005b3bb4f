"""`python -m benchmarks.judge_time`: how long judging takes, and how much memory, as data grows.

Runs `sqlwright-eval` on the answers in a file, as a process of its own, several times in turn: on
some of the questions and on all, without and with the generated databases. Writes the figure
`judge_seconds_spider_dev`.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from eval.task.figure import Figure, write_figure

# A look at the memory takes a few milliseconds itself.
SAMPLE_SECONDS = 0.1


class JudgeTimeError(RuntimeError):
    """A run failed; the message is what it said."""


@dataclass(frozen=True, slots=True)
class Run:
    """One evaluation from start to end of its process."""

    n: int
    with_suite: bool
    seconds: float
    peak_mib: float
    phases: dict[str, float]
    is_cold: bool = False

    @property
    def name(self) -> str:
        if self.is_cold:
            return "with test suites, generated first"
        return "with test suites" if self.with_suite else "without test suites"


class MemoryWatch(threading.Thread):
    """The most memory that a process and its children ever held together (PSS), MiB."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak_mib = 0.0
        self._process = psutil.Process(pid)

    def run(self) -> None:
        while True:
            try:
                family = [self._process, *self._process.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            self.peak_mib = max(self.peak_mib, sum(map(_pss_mib, family)))
            time.sleep(SAMPLE_SECONDS)


def _pss_mib(process: psutil.Process) -> float:
    """Pages that processes share count once in all; 0 for one that is gone."""
    try:
        return float(process.memory_full_info().pss) / 2**20
    except psutil.Error:
        return 0.0


def judge_once(
    data: Path, predictions: Path, n: int, *, with_suite: bool, is_cold: bool = False
) -> Run:
    """Judge the first `n` questions in a process of its own; `is_cold`: with an empty cache.

    Raises:
        JudgeTimeError: it failed.
    """
    with tempfile.TemporaryDirectory(prefix="sqlwright-judge-") as folder:
        output = Path(folder) / "result.json"
        command = [
            sys.executable, "-m", "eval", "run", "--data", str(data), "--predictions",
            str(predictions), "--limit", str(n), "--output", str(output), "--no-page",
            *(["--suite"] if with_suite else []),
        ]  # fmt: skip
        began = time.perf_counter()
        env = os.environ | ({"SQLWRIGHT_CACHE": folder} if is_cold else {})
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
        )
        watch = MemoryWatch(process.pid)
        watch.start()
        _, said = process.communicate()
        seconds = time.perf_counter() - began
        watch.join()
        if process.returncode:
            raise JudgeTimeError(said[-500:])
        phases = json.loads(output.read_text())["seconds"]
    return Run(n, with_suite, seconds, watch.peak_mib, phases, is_cold)


def rows_of(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One row a size and kind: median and spread of the seconds, the most memory."""
    kinds = dict.fromkeys((run.name, run.n) for run in runs)
    rows = []
    for kind in kinds:
        same = [run for run in runs if (run.name, run.n) == kind]
        seconds = sorted(run.seconds for run in same)
        rows.append(
            {
                "judged": same[0].name,
                "n": same[0].n,
                "runs": len(same),
                "seconds_median": round(statistics.median(seconds), 2),
                "seconds_min": round(seconds[0], 2),
                "seconds_max": round(seconds[-1], 2),
                "peak_mib": round(max(run.peak_mib for run in same)),
                "phases": same[0].phases,
            }
        )
    return rows


def main(
    predictions: Annotated[Path, typer.Argument(help="Answers to the questions of DATA.")],
    data: Annotated[Path, typer.Option(help="JSONL file of examples.")] = Path("data/dev.jsonl"),
    runs: Annotated[int, typer.Option(min=1, help="Runs of each kind.")] = 3,
    figure: Annotated[str, typer.Option(help="Name of the figure.")] = "judge_seconds_spider_dev",
) -> None:
    """Judge PREDICTIONS several times; say how long it took and how much memory."""
    try:
        n = sum(1 for line in data.read_bytes().splitlines() if line.strip())
        sizes = sorted({max(1, n // part) for part in (8, 2, 1)})
        judge_once(data, predictions, n, with_suite=True)  # makes the suites, warms the disk
        found = [
            judge_once(data, predictions, size, with_suite=with_suite)
            for _ in range(runs)
            for with_suite in (False, True)
            for size in sizes
        ]
        found += [
            judge_once(data, predictions, n, with_suite=True, is_cold=True) for _ in range(runs)
        ]
    except (JudgeTimeError, OSError) as error:
        print(f"judge_time: error: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    rows = rows_of(found)
    whole = next(row for row in rows if row["n"] == n and row["judged"] == found[0].name)
    path = write_figure(
        Figure(
            figure,
            value=whole["seconds_median"],
            unit="seconds from start to end of sqlwright-eval, answers given, 2 processes",
            n=n,
            interval=(whole["seconds_min"], whole["seconds_max"]),
            notes=f"median and range of {runs} runs in turn, suites made before, but in the "
            "last row; peak_mib: proportional set size of all processes together, every 0.1 s",
            rows=rows,
        )
    )
    print(json.dumps({"rows": rows, "figure": str(path)}))


if __name__ == "__main__":
    typer.run(main)
