"""Measures that run queries: what the verdict fixtures do not show."""

import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from eval.dataset import Question
from eval.execution import Database, Limits, open_database
from eval.measures import execution
from eval.measures.context import Context, Measure
from eval.task.example import Example
from eval.task.schema import Schema
from eval.task.sqlite_judge import Answer, JudgeError

# Ages of the pupils Ada, Ben, Cem, … on each database: the question's own, then its suite.
OWN = [9, 10, 11]
SUITE = [[9, 10, 10], [3, 2, 1]]
MEASURES: tuple[Measure, ...] = (
    execution.execution_accuracy,
    execution.execution_accuracy_nonempty,
    execution.execution_accuracy_spider,
    execution.execution_accuracy_bird,
    execution.test_suite_accuracy,
    execution.ves,
)


def school(path: Path, ages: Sequence[int]) -> Database:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE pupil (name TEXT, age INTEGER)")
        db.executemany("INSERT INTO pupil VALUES (?, ?)", zip("ABC", ages, strict=True))
        db.commit()
    return open_database(path, Limits(timeout_seconds=1.0))


@pytest.fixture
def given(tmp_path: Path) -> Iterator[Context]:
    path = tmp_path / "school.sqlite"
    question = Question(Example("1", "school", "", ""), path, "", Schema(()))
    own = school(path, OWN)
    suite = [school(tmp_path / f"{i}.sqlite", ages) for i, ages in enumerate(SUITE)]
    yield Context(question, own, suite)
    for database in (own, *suite):
        database.close()


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("gold", ["SELECT nosuch FROM pupil", "", "DELETE FROM pupil"])
def test_a_gold_query_that_fails_is_an_error(measure: Measure, gold: str, given: Context) -> None:
    with pytest.raises(JudgeError, match="gold query fails"):
        measure("SELECT 1", gold, given)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("predicted", ["", "-- nothing", "hello", "DELETE FROM pupil"])
def test_a_prediction_that_fails_is_wrong(measure: Measure, predicted: str, given: Context) -> None:
    gold = "SELECT name FROM pupil WHERE age > 0"
    assert measure(predicted, gold, given) == 0


def test_nonempty_is_not_defined_where_the_gold_answer_is_empty(given: Context) -> None:
    nonempty = execution.execution_accuracy_nonempty
    assert nonempty("SELECT 1", "SELECT name FROM pupil WHERE age > 99", given) is None
    assert nonempty("SELECT name FROM pupil", "SELECT name FROM pupil", given) == 1
    assert nonempty("SELECT 1", "SELECT name FROM pupil", given) == 0


@pytest.mark.parametrize(
    ("predicted", "gold", "own", "suite"),
    [
        ("SELECT name FROM pupil WHERE age >= 10", "SELECT name FROM pupil WHERE age > 9", 1, 1),
        # A near miss that only the suite tells from the gold query.
        ("SELECT COUNT(age) FROM pupil", "SELECT COUNT(DISTINCT age) FROM pupil", 1, 0),
        ("SELECT name FROM pupil", "SELECT name FROM pupil ORDER BY age", 1, 0),
        ("SELECT MAX(age) - 2 FROM pupil", "SELECT MIN(age) FROM pupil", 1, 0),
        ("SELECT MIN(age) FROM pupil", "SELECT MAX(age) FROM pupil", 0, 0),
        # Tied rows in another order are right on every database.
        (
            "SELECT name FROM pupil ORDER BY age, name DESC",
            "SELECT name FROM pupil ORDER BY age",
            1,
            1,
        ),
        # Right on its own, fails on one of the suite.
        (
            "SELECT ABS(-9223372036854775807 - (MAX(age) = 10)) IS NULL FROM pupil",
            "SELECT 0",
            1,
            0,
        ),
    ],
)
def test_a_suite_exposes_near_misses(
    predicted: str, gold: str, own: float, suite: float, given: Context
) -> None:
    assert execution.execution_accuracy(predicted, gold, given) == own
    assert execution.test_suite_accuracy(predicted, gold, given) == suite


def test_a_suite_database_on_which_the_gold_query_fails_is_left_out(given: Context) -> None:
    """The integer overflow comes up on the first database of the suite only."""
    gold = "SELECT ABS(-9223372036854775807 - (MAX(age) = 10)) IS NULL FROM pupil"
    assert given.suite[0].run(gold).error == "integer overflow"
    assert execution.test_suite_accuracy("SELECT 0", gold, given) == 1


def test_without_a_suite_there_is_no_suite_accuracy(given: Context) -> None:
    alone = Context(given.question, given.database)
    assert execution.test_suite_accuracy("SELECT 1", "SELECT 1", alone) is None


def test_the_suite_is_not_asked_further_after_a_mismatch(given: Context) -> None:
    asked: list[str] = []
    last = Recording(given.suite[1], asked)
    recorded = Context(given.question, given.database, [given.suite[0], last])
    gold = "SELECT COUNT(DISTINCT age) FROM pupil"
    assert execution.test_suite_accuracy("SELECT COUNT(age) FROM pupil", gold, recorded) == 0
    assert not asked
    assert execution.test_suite_accuracy(gold, gold, recorded) == 1
    assert asked


class Recording:
    """A database that remembers what it was asked."""

    dialect = "sqlite"

    def __init__(self, database: Database, asked: list[str]) -> None:
        self._database, self._asked = database, asked

    def run(self, sql: str) -> Answer:
        self._asked.append(sql)
        return self._database.run(sql)

    def close(self) -> None: ...


def test_speed_is_the_root_of_the_ratio(given: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"SELECT 1": 1.0, "SELECT  1": 0.25}
    monkeypatch.setattr(execution, "_seconds", lambda sql, _: seconds[sql])
    assert execution.ves("SELECT  1", "SELECT 1", given) == 2.0
    assert execution.ves("SELECT 1", "SELECT  1", given) == 0.5
    assert execution.ves("SELECT 2", "SELECT 1", given) == 0.0


def test_speed_leaves_outliers_out(given: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "VES_REPEATS", 40)
    times = iter([1.0, 4.0] * 39 + [1.0, 1e6])
    monkeypatch.setattr(execution, "_seconds", lambda *_: next(times))
    assert execution.ves("SELECT 1", "SELECT 1", given) == 2.0


def test_speed_is_measured(given: Context) -> None:
    assert math.isfinite(execution.ves("SELECT name FROM pupil", "SELECT name FROM pupil", given))
    assert execution.ves("SELECT name FROM pupil", "SELECT name FROM pupil", given) > 0
