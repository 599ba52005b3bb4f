"""One evaluation from end to end: open the data, check the golds, ask, judge, write the result."""

import asyncio
import platform
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from eval.ask.api import Answer, Api, Asked, Body, answer_from, request_key
from eval.ask.cache import AnswerCache, open_cache
from eval.ask.client import ask_all
from eval.ask.connection import Server, ServerError
from eval.ask.journal import Journal, open_journal
from eval.ask.models import resolve_model
from eval.ask.predictions import PredictionsError, read_predictions
from eval.contamination import find_contamination
from eval.dataset import Dataset, DatasetError, Question, open_dataset
from eval.measures.context import Embed
from eval.progress import Stopwatch, progress
from eval.record import Record
from eval.result import Finished, build_record, check_place, write_record
from eval.score import Case, Judging, Outcome, add_similarity, check_golds, judge_all
from eval.task.base_model import cache_folder
from eval.task.example import Example, load_examples

if TYPE_CHECKING:
    from eval.suite.cache import Suites

RUNS = Path("runs")
JUDGE = (
    "rows compared as bags, as lists where the gold query has a top-level ORDER BY, rows that tie "
    "under it in any order; columns in {columns}; numbers up to floating-point noise"
)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Served:
    """Answers of a server, kept as they come; `cache` is a folder of answers to earlier runs."""

    server: Server
    api: Api
    asked: Asked
    cache: Path | None = None

    @property
    def name(self) -> str:
        return self.asked.model or "default"


@dataclass(frozen=True)
class Predictions:
    """Answers in a file."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.stem


class Model(Protocol):
    """A model in this process; one answer a question, in order."""

    @property
    def name(self) -> str: ...

    def answers(self, questions: Sequence[Question]) -> Iterator[Answer]: ...


@dataclass(frozen=True)
class Plan:
    """What to evaluate, and how closely.

    `with_suite` also judges on generated databases; `embed` also measures how alike queries and
    answers read; `train` is the training data to look for questions of the test data in.
    """

    source: Served | Predictions | Model
    data: str | Sequence[Example]
    databases: Path | str | None = None
    schemas: Path | None = None
    limit: int | None = None
    output: Path | None = None
    judging: Judging = field(default_factory=Judging)
    with_suite: bool = False
    embed: Embed | None = None
    train: Path | None = None


def evaluate(plan: Plan, say: Say) -> tuple[Record, Path]:
    """Do what `plan` says; the result and the JSON file that holds it.

    Golds are run before a model is asked, so that a fault of the data costs no requests.

    Raises:
        DatasetError, ExampleError, DdlError, DialectError, ScoreError: the data is at fault.
        PredictionsError: the file of predictions is.
        ServerError, CacheError: the server can't be asked.
        OSError: the result can't be written; said before anything is asked if it is seen by then.
        LiveDatabaseError: a database server can't be asked.
        JournalBusy: another process evaluates to the same output.
    """
    train = load_examples(plan.train) if plan.train else None
    place = _output(plan)
    check_place(place)
    with ExitStack() as stack:
        dataset = stack.enter_context(
            open_dataset(
                plan.data, databases=plan.databases, schemas=plan.schemas, limit=plan.limit
            )
        )
        _check_suite(plan, dataset)
        watch = Stopwatch()
        with watch("gold_queries"), progress("gold queries", len(dataset.questions)) as tick:
            facts = check_golds(dataset.questions, plan.judging, tick)
        with watch("asking"):
            answers, journal = _answers(plan, dataset.questions, stack, say)
        suites = _suites(plan, dataset, watch)
        with watch("judging"):
            outcomes = _judge(plan, dataset.questions, answers, suites)
        finished = Finished(
            model=plan.source.name,
            api=plan.source.api.label if isinstance(plan.source, Served) else _kind(plan.source),
            dataset=dataset,
            answers=answers,
            outcomes=outcomes,
            facts=facts,
            contamination=find_contamination([q.example for q in dataset.questions], train),
            judge=_judge_settings(plan, dataset, suites),
            seconds=watch.seconds,
        )
        record = build_record(finished)
        output = journal.output if journal else place
        write_record(record, output)
        if journal and not record["num_errors"]:
            journal.remove()
        elif journal:
            say("the same command asks again what failed, and nothing else")
    return record, output


def _kind(source: Predictions | Model) -> str:
    return "predictions" if isinstance(source, Predictions) else "in-process"


def _output(plan: Plan) -> Path:
    if plan.output:
        return plan.output
    if isinstance(plan.source, Predictions):
        return plan.source.path.with_suffix(".judged.json")
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    name = re.sub(r"[^A-Za-z0-9._@-]", "-", plan.source.name)
    return RUNS / f"eval-{name}-{stamp}.json"


def _check_suite(plan: Plan, dataset: Dataset) -> None:
    others = sorted({question.dialect for question in dataset.questions} - {"sqlite"})
    if plan.with_suite and others:
        raise DatasetError(f"test suites are SQLite databases; the data is of {', '.join(others)}")


def _suites(plan: Plan, dataset: Dataset, watch: Stopwatch) -> "Suites | None":
    if not plan.with_suite:
        return None
    from eval.suite.cache import open_suites

    with watch("test_suites"), progress("test suites", len(dataset.questions)) as tick:
        return open_suites(dataset.questions, cache=cache_folder(), tick=tick)


def _judge_settings(plan: Plan, dataset: Dataset, suites: "Suites | None") -> dict[str, Any]:
    judging = plan.judging
    columns = "any order" if judging.permute_columns else "their order"
    engines = {question.dialect for question in dataset.questions}
    return {
        "description": JUDGE.format(columns=columns),
        "engine": ", ".join(
            f"sqlite {sqlite3.sqlite_version}" if engine == "sqlite" else engine
            for engine in sorted(engines)
        ),
        "python": platform.python_version(),
        "permute_columns": judging.permute_columns,
        "timeout_seconds": judging.limits.timeout_seconds,
        "max_rows": judging.limits.max_rows,
        "suite": suites.digest if suites else None,
    }


def _answers(
    plan: Plan, questions: Sequence[Question], stack: ExitStack, say: Say
) -> tuple[list[Answer], Journal | None]:
    source = plan.source
    if isinstance(source, Served):
        return _served_answers(plan, source, questions, stack, say)
    if isinstance(source, Predictions):
        is_part = plan.limit is not None
        return read_predictions(source.path, questions, is_part=is_part), None
    return _model_answers(source, questions), None


def _model_answers(model: Model, questions: Sequence[Question]) -> list[Answer]:
    answers: list[Answer] = []
    with progress("generating", len(questions)) as tick:
        for answer in model.answers(questions):
            try:  # before the next one costs time: a result can't hold every value
                answers.append(answer_from(asdict(answer)))
            except ValueError as error:
                where = f"{model.name}: answer {len(answers) + 1}"
                raise PredictionsError(f"{where}: {error}") from error
            tick(1)
    if len(answers) != len(questions):
        raise PredictionsError(
            f"{model.name}: {len(answers)} answers to {len(questions)} questions"
        )
    return answers


def _served_answers(
    plan: Plan, source: Served, questions: Sequence[Question], stack: ExitStack, say: Say
) -> tuple[list[Answer], Journal]:
    """The answers to `questions`, each asked once; the journal stays open until the result is
    written."""
    bodies = [source.api.body(question, source.asked) for question in questions]
    model = source.asked.model
    # A name may have moved on to another version since a run was stopped.
    version = resolve_model(source.server, model) if model else ""
    keys = [request_key(source.api, body, version) for body in bodies]
    journal = stack.enter_context(
        open_journal(plan.output, runs=RUNS, model=source.asked.model, keys=set(keys))
    )
    cache = None
    if source.cache:
        cache = stack.enter_context(open_cache(source.cache, source.server, source.asked.model))
    _ask(source, dict(zip(keys, bodies, strict=True)), journal, cache, say)
    answers = [journal.answers[key] for key in keys]
    if all(answer.error for answer in answers):
        raise ServerError(f"all {len(answers)} requests failed; the first: {answers[0].error}")
    return answers, journal


def _ask(
    source: Served,
    bodies: dict[str, Body],
    journal: Journal,
    cache: AnswerCache | None,
    say: Say,
) -> None:
    """Ask what neither journal nor cache holds."""
    missing = {key: body for key, body in bodies.items() if key not in journal.answers}
    if len(missing) < len(bodies):
        say(f"going on from {journal.path}: {len(missing)} of {len(bodies)} requests are left")
    if cache:
        known = {key: found for key in missing if (found := cache.get(key))}
        for key, answer in known.items():
            journal.add(key, answer)
        missing = {key: body for key, body in missing.items() if key not in known}
        say(f"{len(known)} answers come from {source.cache}")
    if not missing:
        return
    with progress("asking", len(missing)) as tick:

        def keep(key: str, answer: Answer) -> None:
            journal.add(key, answer)
            if cache:
                cache.put(key, answer)
            tick(1)

        asyncio.run(ask_all(source.server, source.api, missing, keep))


def _judge(
    plan: Plan,
    questions: Sequence[Question],
    answers: Sequence[Answer],
    suites: "Suites | None",
) -> list[Outcome]:
    judging = replace(plan.judging, with_similarity=plan.embed is not None)
    if suites:
        judging = judging.plus("test_suite_accuracy")
    cases = [
        Case(question, answer.predicted, answer.error, suites.of(question) if suites else ())
        for question, answer in zip(questions, answers, strict=True)
    ]
    with progress("judging", len(cases)) as tick:
        outcomes = judge_all(cases, judging, tick)
    return add_similarity(outcomes, plan.embed) if plan.embed else outcomes
