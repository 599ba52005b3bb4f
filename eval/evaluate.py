"""One evaluation from end to end: open the data, check the golds, ask, judge, write the result."""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from eval.api import Answer, Api, Asked, Body, request_key
from eval.client import Server, ask_all
from eval.dataset import Dataset, Question, open_dataset
from eval.evidence import read_answers
from eval.journal import Journal, open_journal
from eval.report import Result, Seconds, write_result
from eval.score import Outcome, Tick, check_golds, judge_all, measure_all

RUNS = Path("runs")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What to evaluate: a server (or the result of an earlier run) and a data set."""

    server: Server | Path
    api: Api
    asked: Asked
    data: str
    databases: Path | None = None
    schemas: Path | None = None
    limit: int | None = None
    output: Path | None = None


def evaluate(plan: Plan, say: Say) -> tuple[Result, Path]:
    """Do what `plan` says; the result and the JSON file that holds it.

    Golds are run before the server is asked, so that a fault of the data costs no requests.

    Raises:
        DatasetError, ExampleError, DdlError, DialectError, ScoreError: the data is at fault.
        ServerError: the server can't be asked.
        JournalBusy: another process evaluates to the same output.
    """
    with open_dataset(
        plan.data, databases=plan.databases, schemas=plan.schemas, limit=plan.limit
    ) as dataset:
        gold_has_rows, checking = _check_golds(dataset.questions)
        if isinstance(plan.server, Path):
            answers = read_answers(plan.server, dataset.questions)
            outcomes, judging = _judge(dataset.questions, answers, gold_has_rows)
            seconds = Seconds(0.0, checking + judging)
            result = _result(plan, dataset, answers, outcomes, seconds)
            output = plan.output or plan.server.with_suffix(".judged.json")
            write_result(result, output)
            return result, output
        bodies = [plan.api.body(question, plan.asked) for question in dataset.questions]
        keys = [request_key(plan.api, body) for body in bodies]
        model = plan.asked.model
        with open_journal(plan.output, runs=RUNS, model=model, keys=set(keys)) as journal:
            asking = _ask(plan, plan.server, dict(zip(keys, bodies, strict=True)), journal, say)
            answers = [journal.answers[key] for key in keys]
            outcomes, judging = _judge(dataset.questions, answers, gold_has_rows)
            seconds = Seconds(asking, checking + judging)
            result = _result(plan, dataset, answers, outcomes, seconds)
            write_result(result, journal.output)
            journal.remove()
            return result, journal.output


def _result(
    plan: Plan,
    dataset: Dataset,
    answers: Sequence[Answer],
    outcomes: Sequence[Outcome],
    seconds: Seconds,
) -> Result:
    return Result(
        model=plan.asked.model or "default",
        api=plan.api.name,
        dataset=dataset,
        answers=answers,
        outcomes=outcomes,
        measures=measure_all(outcomes),
        seconds=seconds,
    )


def _check_golds(questions: Sequence[Question]) -> tuple[list[bool], float]:
    started = time.perf_counter()
    with _progress("gold queries", len(questions)) as tick:
        found = check_golds(questions, tick)
    return found, time.perf_counter() - started


def _ask(plan: Plan, server: Server, bodies: dict[str, Body], journal: Journal, say: Say) -> float:
    """Ask what the journal doesn't hold; the seconds that took."""
    started = time.perf_counter()
    missing = {key: body for key, body in bodies.items() if key not in journal.answers}
    if len(missing) < len(bodies):
        say(f"going on from {journal.path}: {len(missing)} of {len(bodies)} requests are left")
    if not missing:
        return 0.0
    with _progress("asking", len(missing)) as tick:

        def keep(key: str, answer: Answer) -> None:
            journal.add(key, answer)
            tick(1)

        asyncio.run(ask_all(server, plan.api, missing, keep))
    return time.perf_counter() - started


def _judge(
    questions: Sequence[Question], answers: Sequence[Answer], gold_has_rows: Sequence[bool]
) -> tuple[list[Outcome], float]:
    started = time.perf_counter()
    with _progress("judging", len(questions)) as tick:
        predictions = [answer.predicted for answer in answers]
        outcomes = judge_all(questions, predictions, gold_has_rows, tick)
    return outcomes, time.perf_counter() - started


@contextmanager
def _progress(what: str, total: int) -> Iterator[Tick]:
    """A bar on stderr where that is a terminal."""
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, disable=not sys.stderr.isatty(), transient=True
    ) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)
