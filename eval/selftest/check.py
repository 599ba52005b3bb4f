"""What the judge says of one database's golds: themselves, shuffled, with mistakes, reworded.

Judges by the very measures of an evaluation. Near misses that took part in choosing the generated
databases are left out, as are those that fail to run: anybody would catch them.
"""

import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from eval.dataset import Question
from eval.execution import Database, Limits, open_database
from eval.measures.context import Context
from eval.measures.execution import execution_accuracy, test_suite_accuracy
from eval.selftest.rewrite import rewrites
from eval.suite.distil import is_for_distilling, told_by
from eval.suite.generate import Source, generate
from eval.suite.mutate import Mutant
from eval.suite.stable import Bench
from eval.task.sqlite_judge import Answer
from eval.task.statement import normalize_sql

LIMITS = Limits(timeout_seconds=2.0, max_rows=100_000)
# Near misses that the suite did not tell are tried on so many further databases.
FURTHER = 40


@dataclass(frozen=True)
class Work:
    """One database with a question for each of its distinct golds, and the suite of each."""

    questions: tuple[Question, ...]
    suites: tuple[tuple[Path, ...], ...]


@dataclass(frozen=True)
class Survivor:
    """A near miss that the suite took for right."""

    db_id: str
    kind: str
    gold: str
    sql: str
    num_databases: int
    told_later: bool


@dataclass
class Tally:
    """Counts by what was tried: how many, and how many were taken for right by execution and by
    the suite. What: "gold"; "shuffled", another gold of the database; "neighbour", the gold of the
    next question if it has the same answer on the original, often the same question asked again;
    "rewrite NAME", the gold in other words unless its answer hangs on the order of rows; "mutant
    KIND", a near miss."""

    n: Counter[str] = field(default_factory=Counter)
    by_execution: Counter[str] = field(default_factory=Counter)
    by_suite: Counter[str] = field(default_factory=Counter)
    with_suite: int = 0
    survivors: list[Survivor] = field(default_factory=list)
    wrongly_exposed: list[Survivor] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        self.n += other.n
        self.by_execution += other.by_execution
        self.by_suite += other.by_suite
        self.with_suite += other.with_suite
        self.survivors += other.survivors
        self.wrongly_exposed += other.wrongly_exposed
        self.lost += other.lost


class _Remembering:
    """A database that runs each query once."""

    dialect = "sqlite"

    def __init__(self, database: Database) -> None:
        self._database = database
        self._answers: dict[str, Answer] = {}

    def run(self, sql: str) -> Answer:
        if sql not in self._answers:
            self._answers[sql] = self._database.run(sql)
        return self._answers[sql]

    def close(self) -> None:
        self._database.close()


def check_all(works: Sequence[Work]) -> list[Tally]:
    """`check_database` of each."""
    return [check_database(work) for work in works]


def check_database(work: Work) -> Tally:
    """Judge the golds of one database against themselves and what is made of them."""
    tally = Tally()
    first = work.questions[0]
    assert isinstance(first.database, Path)
    golds = tuple(question.example.sql for question in work.questions)
    source = Source(first.schema, first.database, golds)
    for question, suite in zip(work.questions, work.suites, strict=True):
        with ExitStack() as stack:
            databases = [
                stack.enter_context(closing(_Remembering(open_database(path, LIMITS))))
                for path in (first.database, *suite)
            ]
            context = Context(question, databases[0], suite=databases[1:])
            _check_gold(context, golds, source, tally)
    _try_further(source, tally)
    return tally


def _is_stable(gold: str, database: Path) -> bool:
    """Whether the gold's answer on its own database is one that another query must give too."""
    with closing(
        Bench(database, timeout=LIMITS.timeout_seconds, max_rows=LIMITS.max_rows)
    ) as bench:
        return bench.stable_answer(gold) is not None


def _check_gold(context: Context, golds: Sequence[str], source: Source, tally: Tally) -> None:
    gold = context.question.example.sql
    tally.with_suite += bool(context.suite)
    _count("gold", gold, context, tally)
    following = golds[(golds.index(gold) + 1) % len(golds)]
    if execution_accuracy(following, gold, context) == 1.0 and following != gold:
        _count("neighbour", following, context, tally)
    others = [other for other in golds if normalize_sql(other) != normalize_sql(gold)]
    if others:
        _count("shuffled", others[golds.index(gold) % len(others)], context, tally)
    words = rewrites(gold, source.schema) if _is_stable(gold, source.database) else ()
    for name, sql in words:
        if not _count(f"rewrite {name}", sql, context, tally):
            tally.wrongly_exposed.append(_survivor(f"rewrite {name}", sql, context))
    for mutant in source.mutants(gold):
        if is_for_distilling(gold, mutant.sql) or not _runs(mutant.sql, context):
            continue
        if _count(f"mutant {mutant.kind}", mutant.sql, context, tally):
            tally.survivors.append(_survivor(mutant.kind, mutant.sql, context))


def _runs(sql: str, context: Context) -> bool:
    error = context.run(sql).error
    return error is None or error.startswith("over ")


def _survivor(kind: str, sql: str, context: Context) -> Survivor:
    example = context.question.example
    return Survivor(example.db_id, kind, example.sql, sql, len(context.suite), told_later=False)


def _count(what: str, predicted: str, context: Context, tally: Tally) -> bool:
    """Judge and count `predicted`; True if the suite, or execution where there is none, takes it
    for right."""
    gold = context.question.example.sql
    by_execution = execution_accuracy(predicted, gold, context) == 1.0
    by_suite = test_suite_accuracy(predicted, gold, context)
    is_right = by_execution if by_suite is None else by_suite == 1.0
    tally.n[what] += 1
    tally.by_execution[what] += by_execution
    tally.by_suite[what] += is_right
    return is_right


def _try_further(source: Source, tally: Tally) -> None:
    """Mark the survivors that further generated databases tell: the rest may be equivalent."""
    live: dict[str, list[Mutant]] = {}
    for survivor in tally.survivors:
        live.setdefault(survivor.gold, []).append(Mutant(survivor.kind, survivor.sql))
    told: set[tuple[str, str]] = set()
    with tempfile.TemporaryDirectory(prefix="sqlwright-selftest-") as work:
        path = Path(work) / "further.sqlite"
        for number in range(FURTHER if live else 0):
            path.unlink(missing_ok=True)
            generate(source, path, focus=sorted(live), seed=f"further/{number}")
            told |= told_by(path, live)
    tally.survivors = [
        replace(survivor, told_later=(survivor.gold, survivor.sql) in told)
        for survivor in tally.survivors
    ]
