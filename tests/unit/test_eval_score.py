"""Verdicts on predictions, run on real SQLite files, and the measures made of them."""

import sqlite3
from contextlib import closing

import pytest

from eval import score
from eval.dataset import Question, open_dataset
from eval.score import (
    CHUNK,
    Outcome,
    ScoreError,
    check_golds,
    execution_accuracy_nonempty,
    holds_statement,
    judge_all,
    measure_all,
    outcome_of,
)
from eval.task.example import Example
from eval.task.schema import parse_ddl

DDL = "CREATE TABLE singer (id INTEGER PRIMARY KEY, name TEXT, age INTEGER);"
GOLD = "SELECT name FROM singer WHERE age > 30"


@pytest.fixture
def question(tmp_path):
    path = tmp_path / "band.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            f"{DDL} INSERT INTO singer (name, age) VALUES ('Ann', 40), ('Bo', 20), ('Cy', 50)"
        )

    def ask(gold=GOLD):
        return Question(Example("a1", "band", "Who?", gold), path, DDL, parse_ddl(DDL))

    return ask


def verdicts(question: Question, predicted: str) -> tuple[bool, bool, bool, bool]:
    found = outcome_of(question, predicted, gold_has_rows=True)
    return found.correct, found.runs, found.exact, found.valid


@pytest.mark.parametrize(
    ("predicted", "correct", "runs", "exact", "valid"),
    [
        (GOLD, True, True, True, True),
        ("select NAME from Singer where AGE > 30;", True, True, True, True),
        ("SELECT name FROM singer WHERE age >= 40 ORDER BY id DESC", True, True, False, True),
        ("SELECT name FROM singer", False, True, False, True),
        ("SELECT name, age FROM singer WHERE age > 30", False, True, False, True),
        ("SELECT nmae FROM singer", False, False, False, False),
        ("SELECT name FROM singer WHERE", False, False, False, False),
        ("SELECT name FROM singer LIMIT abs(-2)", False, True, False, True),
        ("SELECT name FROM sqlite_master", False, True, False, False),
        ("DELETE FROM singer", False, False, False, False),
        ("SELECT 1; SELECT 2", False, False, False, False),
        ("I can't answer that.", False, False, False, False),
        ("SELECT name FROM singer WHERE name LIKE '%a%' ->", False, False, False, False),
        ("SELECT '\ud800'", False, False, False, True),
    ],
)
def test_one_prediction(question, predicted, correct, runs, exact, valid):
    assert verdicts(question(), predicted) == (correct, runs, exact, valid)


BLANK = ["", " ", ";", "-- SELECT 1", "/* ; */ ;", "/* SELECT", "\n;\n", "\ufeff"]
EMPTY_GOLD = "SELECT name FROM singer WHERE age > 99"


@pytest.mark.parametrize("predicted", BLANK)
def test_no_statement_is_wrong_even_where_the_gold_answer_is_empty(question, predicted):
    """SQLite runs these without an error and returns no rows."""
    assert verdicts(question(EMPTY_GOLD), predicted) == (False, False, False, False)
    assert not holds_statement(predicted)


@pytest.mark.parametrize("sql", ["SELECT 1", "-- why\nSELECT 1", "/* a */ x", "- -", "/ 2", "'--'"])
def test_a_comment_before_a_statement_does_not_hide_it(sql):
    assert holds_statement(sql)


def test_hostile_comments_are_read_in_linear_time():
    assert not holds_statement("/**/ -- \n" * 50_000)
    assert holds_statement("/**/ -- \n" * 50_000 + "x")


def test_a_prediction_that_eats_the_memory_is_wrong_and_not_the_end(question, monkeypatch):
    monkeypatch.setattr(score, "WORKER_BYTES", 1 << 30)
    eater = "SELECT zeroblob(999999999), zeroblob(999999999) FROM singer"
    outcomes = judge_all([question(), question()], [eater, GOLD], [True, True])
    assert [outcome.correct for outcome in outcomes] == [False, True]
    assert outcomes[0].error in ("out of memory", "string or blob too big")


def test_the_samples_gold_queries_are_right_and_their_neighbours_mostly_wrong():
    with open_dataset("samples") as dataset:
        questions = dataset.questions
        golds = [question.example.sql for question in questions]
        has_rows = check_golds(questions)
        right = judge_all(questions, golds, has_rows)
        shifted = judge_all(questions, golds[1:] + golds[:1], has_rows)
    assert len(questions) > CHUNK
    assert [o.db_id for o in right] == [q.example.db_id for q in questions]
    assert {name: m.value for name, m in measure_all(right).items()} == {
        "execution_accuracy": 1.0,
        "runs": 1.0,
        "exact_match": 1.0,
        "valid_sql": 1.0,
        "execution_accuracy_nonempty": 1.0,
    }
    assert measure_all(right)["runs"].n == len(questions)
    assert measure_all(right)["execution_accuracy_nonempty"].n == sum(has_rows)
    assert measure_all(shifted)["execution_accuracy"].value < 0.2


def test_ticks_count_every_question_once(question):
    ticks: list[int] = []
    questions = [question() for _ in range(CHUNK + 1)]
    check_golds(questions, ticks.append)
    assert sorted(ticks) == [1, CHUNK]


def test_an_empty_gold_answer_is_told_from_one_with_rows(question):
    assert check_golds([question(EMPTY_GOLD), question()]) == [False, True]


def test_a_gold_query_that_fails_names_its_item(question):
    broken = question("SELECT nope FROM singer")
    with pytest.raises(ScoreError, match=r"item 'a1': gold query fails on band\.sqlite: no such"):
        check_golds([question(), broken])
    with pytest.raises(ScoreError, match=r"item 'a1': gold query fails on band\.sqlite: no such"):
        judge_all([broken], [GOLD], [True])


def outcome(db_id: str, correct: bool, *, gold_has_rows: bool = True) -> Outcome:
    return Outcome(db_id, correct, True, False, True, gold_has_rows)


def test_measures_count_their_own_verdict_and_cluster_by_database():
    found = measure_all([outcome("a", True), outcome("a", True), outcome("b", False)])
    assert {name: (round(m.value, 3), m.n) for name, m in found.items()} == {
        "execution_accuracy": (0.667, 3),
        "runs": (1.0, 3),
        "exact_match": (0.0, 3),
        "valid_sql": (1.0, 3),
        "execution_accuracy_nonempty": (0.667, 3),
    }
    assert found["runs"].num_clusters == 2
    # Residuals sum to 2/3 in a and to -2/3 in b: sqrt((4/9 + 4/9) * 2) / 3 = 4/9.
    assert found["execution_accuracy"].stderr == pytest.approx(4 / 9)


def test_empty_gold_answers_are_left_out_of_the_extra_row():
    outcomes = [outcome("a", True, gold_has_rows=False), outcome("b", False)]
    measure = execution_accuracy_nonempty(outcomes)
    assert measure is not None
    assert (measure.value, measure.n) == (0.0, 1)
    assert "execution_accuracy_nonempty" not in measure_all(outcomes[:1])
