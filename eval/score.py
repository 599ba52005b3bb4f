"""Every measure on every prediction, in worker processes. Knows nothing of servers or reports."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TypeVar, overload

from eval.dataset import Question
from eval.execution import Database, Limits, Target, open_database
from eval.golds import GoldFacts, gold_facts
from eval.measures import execution, text
from eval.measures.context import Context, Embed, Measure
from eval.measures.exact_set import exact_set_match
from eval.measures.similarity import Pair, answer_pair, cosines, sql_pair
from eval.preview import preview
from eval.queries.diagnose import diagnose
from eval.record import HEADLINE, Preview
from eval.task.sqlite_judge import JudgeError
from eval.workers import Tick, run_chunks

CHUNK = 32
# Facts on golds need a copy of the database, made once a chunk.
GOLD_CHUNK = 256
# What a query's time limit leaves to parsing, comparing and the measures that need no database.
GRACE_SECONDS = 20.0

T = TypeVar("T")
R = TypeVar("R")
Open = Callable[[Target], Database]

# Always taken, in the order of the report.
DEFAULT: tuple[Measure, ...] = (
    execution.execution_accuracy,
    execution.execution_accuracy_nonempty,
    execution.runs,
    text.valid_sql,
    text.exact_match,
    text.canonical_match,
    exact_set_match,
    execution.execution_accuracy_spider,
    execution.execution_accuracy_bird,
)
# Taken where the caller asks.
ON_REQUEST: tuple[Measure, ...] = (execution.test_suite_accuracy, execution.ves)
BY_NAME = {measure.__name__: measure for measure in (*DEFAULT, *ON_REQUEST)}
# Taken after judging, in one process with its model.
SIMILARITY = ("semantic_similarity_sql", "semantic_similarity_rows")
MEASURES = (*BY_NAME, *SIMILARITY)


class ScoreError(RuntimeError):
    """The gold side is at fault, so that nothing can be scored; the message names the item."""


@dataclass(frozen=True, slots=True)
class Judging:
    """What is measured, and how far a query may go."""

    measures: tuple[str, ...] = tuple(measure.__name__ for measure in DEFAULT)
    permute_columns: bool = False
    limits: Limits = field(default_factory=Limits)
    with_similarity: bool = False

    def plus(self, name: str) -> "Judging":
        """The same with one more measure, of those `ON_REQUEST`."""
        return replace(self, measures=(*self.measures, name))

    @property
    def seconds_per_item(self) -> float:
        """After which a worker is killed: a gold and a predicted query that go to their limits."""
        return 2 * self.limits.timeout_seconds + GRACE_SECONDS


@dataclass(frozen=True, slots=True)
class Case:
    """One prediction to judge; `failure` says why there is none."""

    question: Question
    predicted: str
    failure: str | None = None
    suite: Sequence[Path] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that judging found of one prediction; see `eval.record.Item` for the fields."""

    gold: str
    scores: dict[str, float | None]
    error: str | None = None
    error_classes: tuple[str, ...] = ()
    gold_answer: Preview | None = None
    predicted_answer: Preview | None = None
    pairs: tuple[Pair | None, Pair | None] | None = None  # texts of queries and answers, to embed

    @property
    def correct(self) -> bool:
        return self.scores.get("execution_accuracy") == 1.0


def check_golds(
    questions: Sequence[Question], judging: Judging, tick: Tick = lambda _: None
) -> list[GoldFacts]:
    """What every question's gold queries answer on their database.

    Raises:
        ScoreError: a gold query fails; the message names the item.
    """
    function = partial(_facts_of, judging=judging)
    found = _by_database(function, questions, questions, _lost_gold, judging, tick, size=GOLD_CHUNK)
    for question, facts in zip(questions, found, strict=True):
        if facts.error is not None:
            raise ScoreError(f"item {question.example.id!r}: gold query fails: {facts.error}")
    return found


def judge_all(
    cases: Sequence[Case], judging: Judging, tick: Tick = lambda _: None
) -> list[Outcome]:
    """The outcome of each case, in order.

    Raises:
        ScoreError: a gold query fails; the message names the item.
    """
    questions = [case.question for case in cases]
    function = partial(_judge_chunk, judging=judging)
    lost = partial(_lost_case, judging=judging)
    return _by_database(function, cases, questions, lost, judging, tick)


def _facts_of(questions: list[Question], judging: Judging) -> list[GoldFacts]:
    golds = [question.example.golds for question in questions]
    return gold_facts(questions[0].database, golds, judging.limits)


def _lost_gold(_: Question, reason: str) -> GoldFacts:
    return GoldFacts(error=reason)


def _lost_case(case: Case, reason: str, judging: Judging) -> Outcome:
    """A prediction that took its worker down is wrong."""
    gold = case.question.example.sql
    scores: dict[str, float | None] = dict.fromkeys(judging.measures, 0.0)
    pairs = (None, None) if judging.with_similarity else None
    found = "timed_out" if reason.startswith("over ") else "other_execution_error"
    return Outcome(gold, scores, reason, (found,), pairs=pairs)


def _judge_chunk(cases: list[Case], judging: Judging) -> list[Outcome]:
    """Judge cases that share a database."""
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    with _opened(judging.limits) as open_:
        return [judge_case(case, open_, judging) for case in cases]


@contextmanager
def _opened(limits: Limits) -> Iterator[Open]:
    """A way to open each database once; all are closed at the end."""
    databases: dict[Target, Database] = {}

    def open_(target: Target) -> Database:
        if target not in databases:
            databases[target] = open_database(target, limits)
        return databases[target]

    try:
        yield open_
    finally:
        for database in databases.values():
            database.close()


class LazySuite(Sequence[Database]):
    """Generated databases, each opened when it is looked at: most predictions fail before."""

    def __init__(self, paths: Sequence[Path], open_: Open) -> None:
        self._paths = paths
        self._open = open_

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, place: int) -> Database: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Database]: ...
    def __getitem__(self, place: int | slice) -> Database | Sequence[Database]:
        if isinstance(place, slice):
            return LazySuite(self._paths[place], self._open)
        return self._open(self._paths[place])


def judge_case(case: Case, open_: Open, judging: Judging) -> Outcome:
    """Take every measure of one prediction; of several gold queries the best counts for each.

    Raises:
        ScoreError: the gold query fails.
    """
    question = case.question
    context = Context(
        question,
        open_(question.database),
        suite=LazySuite(case.suite, open_),
        permute_columns=judging.permute_columns,
    )
    try:
        scores = {name: _best(BY_NAME[name], case, context) for name in judging.measures}
        gold = _nearest_gold(case, context)
    except JudgeError as error:
        raise ScoreError(f"item {question.example.id!r}: {error}") from error
    expected, found = context.run(gold), context.run(case.predicted)
    is_right = scores.get(HEADLINE) == 1.0 and scores.get("test_suite_accuracy") != 0.0
    pairs = sql_pair(case.predicted, gold, dialect=question.dialect), answer_pair(expected, found)
    return Outcome(
        gold,
        scores,
        case.failure or found.error,
        () if is_right else _classes(case, gold, found.error),
        preview(expected),
        preview(found),
        pairs if judging.with_similarity else None,
    )


def _best(measure: Measure, case: Case, context: Context) -> float | None:
    """The best score of the prediction against any gold query; None where none gives one."""
    best: float | None = None
    for gold in case.question.example.golds:
        score = measure(case.predicted, gold, context)
        if score is not None and (best is None or score > best):
            best = score
        if best == 1.0:
            break
    return best


def _nearest_gold(case: Case, context: Context) -> str:
    """The gold query to compare with: the first that the prediction matches, else the first."""
    first, *others = case.question.example.golds
    matching = (g for g in others if execution.execution_accuracy(case.predicted, g, context))
    is_first = not others or execution.execution_accuracy(case.predicted, first, context)
    return first if is_first else next(matching, first)


def _classes(case: Case, gold: str, error: str | None) -> tuple[str, ...]:
    if case.failure is not None:
        return ("no_prediction",)
    question = case.question
    return diagnose(
        case.predicted, gold, question.schema, dialect=question.dialect, execution_error=error
    )


def add_similarity(outcomes: Sequence[Outcome], embed: Embed) -> list[Outcome]:
    """The outcomes with the similarity of queries and of answers, all texts embedded at once."""
    queries, answers = zip(*(outcome.pairs or (None, None) for outcome in outcomes), strict=True)
    by_sql, by_rows = cosines(queries, embed), cosines(answers, embed)
    return [
        replace(
            outcome,
            scores=outcome.scores | dict(zip(SIMILARITY, similarities, strict=True)),
        )
        for outcome, *similarities in zip(outcomes, by_sql, by_rows, strict=True)
    ]


def _by_database(
    function: Callable[[list[T]], list[R]],
    items: Sequence[T],
    questions: Sequence[Question],
    on_lost: Callable[[T, str], R],
    judging: Judging,
    tick: Tick,
    size: int = CHUNK,
) -> list[R]:
    """`function` of chunks of items on one database each, in worker processes; keeps the order."""
    places = _chunks(questions, size)
    chunks = [[items[place] for place in chunk] for chunk in places]
    seconds = judging.seconds_per_item
    found = run_chunks(function, chunks, on_lost, seconds_per_item=seconds, tick=tick)
    results: dict[int, R] = {}
    for chunk, part in zip(places, found, strict=True):
        results.update(zip(chunk, part, strict=True))
    return [results[place] for place in range(len(items))]


def _chunks(questions: Sequence[Question], size: int) -> list[list[int]]:
    order = sorted(range(len(questions)), key=lambda i: questions[i].example.db_id)
    groups = [list(g) for _, g in groupby(order, key=lambda i: questions[i].example.db_id)]
    return [group[i : i + size] for group in groups for i in range(0, len(group), size)]
