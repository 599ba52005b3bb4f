"""Execution accuracy of a model's answers, asked again and again while it trains.

Queries run in processes of their own, which stay for the next call and keep the golds' answers.
They are started by a plain command, not by `multiprocessing`, which would run the user's main
script again, or fork a process that holds a GPU. Knows nothing of models.
"""

import atexit
import os
import pickle
import select
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from eval.task.prompt import extract_sql
from eval.task.sqlite_judge import JudgeError
from trainer.pipeline.row import Row
from trainer.tuning.verdicts import Case, Verdict

# After which a process is killed: SQLite looks at its clock between steps only, and one may hang.
KILL_SECONDS = 60.0
SERVE = "from trainer.tuning.verdicts import serve; serve()"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Right answers among `n`; `verdicts` in the order of the answers, the `num_unjudged` whose
    gold query fails not in `n`.

    `num_by_text` of them have no database and are right where their query is the gold's in
    canonical spelling, which is stricter.
    """

    num_right: int
    n: int
    num_valid: int
    num_by_text: int
    num_unjudged: int
    verdicts: tuple[Verdict, ...]

    @property
    def value(self) -> float:
        """A share from 0 to 1; 0 where nothing was judged."""
        return self.num_right / self.n if self.n else 0.0


def execution_accuracy(answers: Sequence[str], rows: Sequence[Row], *, workers: int) -> Accuracy:
    """Judge the text that a model wrote for each row, in `workers` processes.

    Raises:
        ValueError: not as many answers as rows, or no worker.
        JudgeError: a row's database is missing.
    """
    cases = [Case(r, extract_sql(a)) for r, a in zip(rows, answers, strict=True)]
    verdicts = judge(cases, workers=workers)
    judged = [v for v in verdicts if v.status != "unjudged"]
    return Accuracy(
        num_right=sum(v.status == "right" for v in judged),
        n=len(judged),
        num_valid=sum(v.is_valid for v in judged),
        num_by_text=sum(not row.database for row in rows),
        num_unjudged=len(verdicts) - len(judged),
        verdicts=tuple(verdicts),
    )


def judge(cases: Sequence[Case], *, workers: int) -> list[Verdict]:
    """The verdict on each case, in order; cases of one gold query go to one process.

    Raises:
        ValueError: no worker.
        JudgeError: a row's database is missing.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, is {workers}")
    _expect_databases(cases)
    shares: list[list[int]] = [[] for _ in range(workers)]
    for place, case in enumerate(cases):
        shares[case.gold_key % workers].append(place)
    found: dict[int, Verdict] = {}

    def work(number: int) -> None:
        process = _process(number) if shares[number] else None
        for place in shares[number]:
            assert process is not None
            found[place] = process.verdict(cases[place])

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(workers)))
    return [found[place] for place in range(len(cases))]


def _expect_databases(cases: Sequence[Case]) -> None:
    for database in sorted({case.row.database for case in cases if case.row.database}):
        if not Path(database).is_file():
            raise JudgeError(f"no database file {database}")


class _Process:
    """One judging process. It ends with this one, even a killed one: its standard input ends."""

    def __init__(self) -> None:
        self._start()
        atexit.register(self.close)

    def _start(self) -> None:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        pipe, variables = subprocess.PIPE, {**os.environ, "PYTHONPATH": path}
        command = [sys.executable, "-c", SERVE]
        self._popen = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=variables)

    def close(self) -> None:
        self._popen.kill()
        with suppress(BrokenPipeError):
            self._popen.communicate()

    def verdict(self, case: Case) -> Verdict:
        """What the process answers. One that died is started again and asked once more: it may
        have been killed for another's doing."""
        reason = ""
        for _ in range(2):
            try:
                return self._asked(case)
            except TimeoutError:
                self._restart()
                reason = f"over {KILL_SECONDS:g} s, its process was killed"
                break
            except (EOFError, BrokenPipeError, pickle.UnpicklingError):
                self._restart()
                reason = "its process died"
        return Verdict("failed", "error", reason)

    def _restart(self) -> None:
        self.close()
        self._start()

    def _asked(self, case: Case) -> Verdict:
        sent, answered = self._popen.stdin, self._popen.stdout
        assert sent is not None and answered is not None
        pickle.dump(case, sent)
        sent.flush()
        if not select.select([answered], [], [], KILL_SECONDS)[0]:
            raise TimeoutError
        return Verdict(*pickle.load(answered))


@cache
def _process(number: int) -> _Process:
    """The process that share `number` of every call goes to."""
    return _Process()
