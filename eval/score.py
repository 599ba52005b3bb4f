"""Scores of predicted queries: runs them in worker processes, then takes the mean of each verdict.

Knows nothing of servers: predictions come as text.
"""

import logging
import multiprocessing
import os
import re
import resource
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from eval.dataset import Question
from eval.stats import Measure, clustered_mean
from eval.task.sql import check_sql, normalize_sql
from eval.task.sqlite_judge import JudgeError, Verdict, judge, open_readonly, run_query

JUDGE = (
    "SQLite execution; bags of rows, order only where the gold query has a top-level ORDER BY, "
    "columns in their order, floats to 9 digits"
)
CHUNK = 32
# Address space of one worker: a predicted query that asks for more is wrong, not the end.
WORKER_BYTES = 4 << 30
NO_STATEMENT = re.compile(r"(?:[\s;\ufeff]|--[^\n]*+|(?>/\*.*?(?:\*/|\Z)))*+", re.DOTALL)

T = TypeVar("T")
R = TypeVar("R")
Tick = Callable[[int], None]


class ScoreError(RuntimeError):
    """The gold side is at fault, so that nothing can be scored; the message names the item."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """All verdicts on one prediction; `error` is what the database said of it."""

    db_id: str
    correct: bool
    runs: bool
    exact: bool
    valid: bool
    gold_has_rows: bool
    error: str | None = None


def execution_accuracy(outcomes: Sequence[Outcome]) -> Measure | None:
    """Share of predictions that return the gold query's rows (EX).

    "Execution accuracy" of Zhong, Yu and Klein, "Semantic Evaluation for Text-to-SQL with
    Distilled Test Suites" (2020), on one database, rows compared as bags, as there; BIRD (Li et
    al. 2023) compares sets. Unlike there, columns keep their order.
    """
    return _share(outcomes, lambda outcome: outcome.correct)


def runs(outcomes: Sequence[Outcome]) -> Measure | None:
    """Share of predictions that the database executes without an error.

    One minus the execution errors of Scholak et al., "PICARD" (2021).
    """
    return _share(outcomes, lambda outcome: outcome.runs)


def exact_match(outcomes: Sequence[Outcome]) -> Measure | None:
    """Share of predictions whose text equals the gold query's after `normalize_sql` (EM).

    "Logical form accuracy" of Zhong et al., "Seq2SQL" (2017), less spelling; not Spider's exact
    set match (Yu et al. 2018), which compares clauses as sets and ignores values.
    """
    return _share(outcomes, lambda outcome: outcome.exact)


def valid_sql(outcomes: Sequence[Outcome]) -> Measure | None:
    """Share of predictions that are one read-only query over the schema, as
    `eval.task.sql.check_sql` defines it; asked here, whatever the server says."""
    return _share(outcomes, lambda outcome: outcome.valid)


def execution_accuracy_nonempty(outcomes: Sequence[Outcome]) -> Measure | None:
    """Execution accuracy over the questions whose gold answer holds a row; None without any.

    Our own row beside EX: an empty answer equals every other one, also that of a wrong query.
    """
    return execution_accuracy([outcome for outcome in outcomes if outcome.gold_has_rows])


MEASURES = (execution_accuracy, runs, exact_match, valid_sql, execution_accuracy_nonempty)


def measure_all(outcomes: Sequence[Outcome]) -> dict[str, Measure]:
    """Every measure by its function's name, with standard errors clustered by database."""
    found = {function.__name__: function(outcomes) for function in MEASURES}
    return {name: measure for name, measure in found.items() if measure is not None}


def _share(outcomes: Sequence[Outcome], verdict: Callable[[Outcome], bool]) -> Measure | None:
    if not outcomes:
        return None
    values = [float(verdict(outcome)) for outcome in outcomes]
    return clustered_mean(values, [outcome.db_id for outcome in outcomes])


def check_golds(questions: Sequence[Question], tick: Tick = lambda _: None) -> list[bool]:
    """True for each question whose gold query returns rows.

    Raises:
        ScoreError: a gold query fails; the message names the item.
    """
    answers = _in_workers(_run_golds, questions, questions, tick)
    for question, (_, error) in zip(questions, answers, strict=True):
        if error is not None:
            name = question.database.name
            raise ScoreError(f"item {question.example.id!r}: gold query fails on {name}: {error}")
    return [has_rows for has_rows, _ in answers]


def judge_all(
    questions: Sequence[Question],
    predictions: Sequence[str],
    gold_has_rows: Sequence[bool],
    tick: Tick = lambda _: None,
) -> list[Outcome]:
    """The outcome of each prediction, in order.

    Raises:
        ScoreError: a gold query fails; the message names the item.
    """
    cases = list(zip(questions, predictions, gold_has_rows, strict=True))
    return _in_workers(_judge_cases, cases, questions, tick)


def _run_golds(questions: list[Question]) -> list[tuple[bool, str | None]]:
    with closing(open_readonly(questions[0].database)) as db:
        answers = [run_query(db, question.example.sql) for question in questions]
    return [(bool(answer.rows), answer.error) for answer in answers]


def _judge_cases(cases: list[tuple[Question, str, bool]]) -> list[Outcome]:
    return [outcome_of(*case) for case in cases]


def outcome_of(question: Question, predicted: str, gold_has_rows: bool) -> Outcome:
    """Judge one prediction; a text without a statement is wrong, though SQLite takes it for a
    query without rows.

    Raises:
        ScoreError: the gold query fails.
    """
    example = question.example
    verdict = _verdict(question, predicted)
    return Outcome(
        example.db_id,
        correct=verdict.correct,
        runs=verdict.runs,
        exact=_is_exact(predicted, example.sql),
        valid=_is_valid(predicted, question),
        gold_has_rows=gold_has_rows,
        error=verdict.error,
    )


def _verdict(question: Question, predicted: str) -> Verdict:
    if not holds_statement(predicted):
        return Verdict(correct=False, runs=False, error="holds no statement")
    try:
        return judge(question.database, question.example.sql, predicted)
    except JudgeError as error:
        raise ScoreError(f"item {question.example.id!r}: {error}") from error
    except MemoryError:
        return Verdict(correct=False, runs=False, error="out of memory")


def _is_exact(predicted: str, gold: str) -> bool:
    with suppress(TypeError):  # of sqlglot's compiled parser, on `a LIKE b ->`
        return normalize_sql(predicted) == normalize_sql(gold)
    return False


def _is_valid(predicted: str, question: Question) -> bool:
    with suppress(TypeError):  # as above
        return check_sql(predicted, question.schema).valid
    return False


def holds_statement(sql: str) -> bool:
    """False for a text of white space, comments and semicolons only."""
    return not NO_STATEMENT.fullmatch(sql)


def _in_workers(
    function: Callable[[list[T]], list[R]],
    items: Sequence[T],
    questions: Sequence[Question],
    tick: Tick,
) -> list[R]:
    """Apply `function` to chunks of items on one database, one process a core; keep the order."""
    chunks = _chunks(questions)
    results: dict[int, R] = {}
    workers = min(os.cpu_count() or 1, len(chunks))
    # Spawned, because a fork of a process with threads may hang.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=spawn, initializer=_start_worker, initargs=(WORKER_BYTES,)
    ) as pool:
        try:
            found = pool.map(function, [[items[i] for i in chunk] for chunk in chunks])
            for chunk, part in zip(chunks, found, strict=True):
                results.update(zip(chunk, part, strict=True))
                tick(len(chunk))
        except BrokenProcessPool as error:
            raise ScoreError("a judging process was killed; is there enough memory?") from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [results[i] for i in range(len(items))]


def _chunks(questions: Sequence[Question]) -> list[list[int]]:
    order = sorted(range(len(questions)), key=lambda i: questions[i].example.db_id)
    groups = [list(g) for _, g in groupby(order, key=lambda i: questions[i].example.db_id)]
    return [group[i : i + CHUNK] for group in groups for i in range(0, len(group), CHUNK)]


def _start_worker(max_bytes: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    with suppress(ValueError, OSError):  # not every system has the limit
        resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
