"""Every measure on every prediction, run on real SQLite files: what is right, what is wrong and
why, and that no prediction takes others with it."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from eval import score
from eval.ask.api import Answer
from eval.dataset import Question, open_dataset
from eval.execution import Limits, open_database
from eval.score import (
    BY_NAME,
    CHUNK,
    MEASURES,
    Case,
    Judging,
    Outcome,
    ScoreError,
    add_similarity,
    check_golds,
    judge_all,
    judge_case,
)
from eval.task.example import Example
from eval.task.schema import parse_ddl
from tests.unit.evaluating import BAND, BAND_ROWS, at_once

GOLD = "SELECT name FROM singer WHERE age > 30"
EMPTY_GOLD = "SELECT name FROM singer WHERE age > 99"
# One step of SQLite's virtual machine that takes minutes, which nothing within it interrupts.
HANGS = "SELECT instr(printf('%.*c', 9000000, 'a'), printf('%.*c', 4500000, 'a') || 'b')"
ENDLESS = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT SUM(n) FROM c"


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "band.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(BAND + BAND_ROWS)
    return path


@pytest.fixture
def question(database):
    def ask(gold: str = GOLD, *alternatives: str, name: str = "a1", path: Path = database):
        example = Example(name, "band", "Who?", gold, alternatives=alternatives)
        return Question(example, path, BAND, parse_ddl(BAND))

    return ask


def judged(
    question: Question, predicted: str, judging: Judging | None = None, failure: str | None = None
) -> Outcome:
    with closing(open_database(question.database, Limits())) as opened:
        case = Case(question, predicted, failure)
        return judge_case(case, lambda _: opened, judging or Judging())


SHOWN = ("execution_accuracy", "runs", "exact_match", "valid_sql")


@pytest.mark.parametrize(
    ("predicted", "scores", "classes"),
    [
        (GOLD, (1, 1, 1, 1), ()),
        ("select NAME from Singer where AGE > 30;", (1, 1, 1, 1), ()),
        ("SELECT name FROM singer WHERE age >= 40 ORDER BY id DESC", (1, 1, 0, 1), ()),
        ("SELECT name FROM singer", (0, 1, 0, 1), ("missing_condition",)),
        ("SELECT name, age FROM singer WHERE age > 30", (0, 1, 0, 1), ("extra_column",)),
        ("SELECT name FROM singer WHERE age > 45", (0, 1, 0, 1), ("wrong_value",)),
        ("SELECT nmae FROM singer WHERE age > 30", (0, 0, 0, 0), ("unknown_column",)),
        ("SELECT name FROM singers WHERE age > 30", (0, 0, 0, 0), ("unknown_table",)),
        ("SELECT name FROM singer WHERE", (0, 0, 0, 0), ("unparsable",)),
        ("SELECT name FROM sqlite_master", (0, 1, 0, 0), ("unknown_table",)),
        ("DELETE FROM singer", (0, 0, 0, 0), ("not_a_query",)),
        ("SELECT 1; SELECT 2", (0, 0, 0, 0), ("several_statements",)),
        ("I can't answer that.", (0, 0, 0, 0), ("unparsable",)),
        ("SELECT '\ud800'", (0, 0, 0, 0), ("unparsable",)),
        ("SELECT name FROM singer\0 WHERE age > 30", (0, 0, 0, 0), ("unparsable",)),
        ("", (0, 0, 0, 0), ("no_prediction",)),
        ("-- SELECT 1", (0, 0, 0, 0), ("no_statement",)),
        ("(" * 5000, (0, 0, 0, 0), ("unparsable",)),
        ("SELECT " + "1+" * 20_000 + "1", (0, 0, 0, 0), ("unparsable",)),
        ("SELECT zeroblob(999999999), zeroblob(999999999) FROM singer", (0, 0, 0, 0), None),
    ],
)
def test_one_prediction(question, predicted, scores, classes):
    found = judged(question(), predicted)
    assert tuple(found.scores[name] for name in SHOWN) == scores
    assert found.correct == bool(scores[0])
    assert (found.error is None) == bool(scores[1])
    assert (found.predicted_answer is None) == (not scores[1])
    assert found.gold_answer == {"columns": ["name"], "rows": [["Ann"], ["Cy"]], "num_rows": 2}
    if classes is not None:
        assert found.error_classes[:1] == classes


BLANK = ["", " ", ";", "-- SELECT 1", "/* ; */ ;", "/* SELECT", "\n;\n", "\ufeff"]


@pytest.mark.parametrize("predicted", BLANK)
def test_no_statement_is_wrong_even_where_the_gold_answer_is_empty(question, predicted):
    """SQLite runs these without an error and returns no rows."""
    found = judged(question(EMPTY_GOLD), predicted)
    assert found.scores["execution_accuracy_nonempty"] is None
    assert {value for name, value in found.scores.items() if "nonempty" not in name} <= {0.0, None}


def test_a_failed_request_is_no_prediction_whatever_else_is_known(question):
    found = judged(question(EMPTY_GOLD), "", failure="503: busy")
    assert (found.error, found.error_classes) == ("503: busy", ("no_prediction",))
    assert not found.correct


def test_of_several_golds_the_second_may_match_and_is_then_what_is_compared(question):
    other = "SELECT title FROM song WHERE plays > 5"
    found = judged(question(GOLD, other, "SELECT 1"), other.lower())
    assert found.correct
    assert found.gold == other
    assert found.error_classes == ()
    assert found.gold_answer is not None
    assert found.gold_answer["columns"] == ["title"]
    assert found.scores["exact_match"] == 1.0


def test_of_several_golds_the_best_counts_for_each_measure(question):
    """Right by the first, of the text of the second: measures need not agree on a gold."""
    found = judged(
        question("SELECT name FROM singer WHERE id = 2", "SELECT name FROM singer WHERE age = 20"),
        "SELECT name FROM singer WHERE age = 20",
    )
    assert found.gold == "SELECT name FROM singer WHERE id = 2"
    assert found.scores["exact_match"] == found.scores["execution_accuracy"] == 1.0


def test_without_a_match_the_first_gold_is_compared(question):
    found = judged(question(GOLD, "SELECT 1"), "SELECT name FROM singer WHERE age > 45")
    assert (found.gold, found.error_classes) == (GOLD, ("wrong_value",))


def test_an_empty_gold_answer_counts_only_where_another_gold_has_rows(question):
    assert judged(question(EMPTY_GOLD, GOLD), GOLD).scores["execution_accuracy_nonempty"] == 1.0
    assert judged(question(EMPTY_GOLD), EMPTY_GOLD).scores["execution_accuracy_nonempty"] is None


def test_measures_are_those_that_were_asked_for(question):
    assert tuple(judged(question(), GOLD).scores) == Judging().measures
    judging = Judging(measures=("runs",)).plus("ves").plus("test_suite_accuracy")
    found = judged(question(), GOLD, judging).scores
    assert found["runs"] == 1.0
    assert (found["ves"] or 0) > 0
    assert found["test_suite_accuracy"] is None  # no suite was made
    assert set(Judging().measures) < set(BY_NAME) < set(MEASURES)


def test_columns_may_be_permuted_where_that_is_asked_for(question):
    gold, turned = "SELECT name, age FROM singer", "SELECT age, name FROM singer"
    assert not judged(question(gold), turned).correct
    assert judged(question(gold), turned, Judging(permute_columns=True)).correct


def test_what_hangs_or_never_ends_is_wrong_and_the_others_are_judged(question, monkeypatch):
    monkeypatch.setattr(score, "GRACE_SECONDS", 1.5)
    judging = Judging(limits=Limits(timeout_seconds=0.25))
    texts = [HANGS, GOLD, ENDLESS, GOLD]
    ticks: list[int] = []
    outcomes = judge_all([Case(question(), text) for text in texts], judging, ticks.append)
    assert [outcome.correct for outcome in outcomes] == [False, True, False, True]
    assert sum(ticks) == len(texts)
    hung, _, endless, _ = outcomes
    assert hung.error == "over 2 s, its process was killed"
    assert endless.error == "over 0.25 s"  # its one row never comes
    assert hung.error_classes[0] == endless.error_classes[0] == "timed_out"
    assert set(hung.scores.values()) == {0.0}


def test_too_many_rows_is_wrong(question):
    judging = Judging(limits=Limits(max_rows=2))
    path = question().database
    with closing(open_database(path, judging.limits)) as opened:
        case = Case(question(), "SELECT name FROM singer")
        found = judge_case(case, lambda _: opened, judging)
    assert (found.error, found.error_classes[0]) == ("over 2 rows", "too_many_rows")


@pytest.mark.parametrize(
    ("reason", "classes"),
    [
        ("over 9 s, its process was killed", ("timed_out",)),
        ("its process died, exit code -11", ("other_execution_error",)),
        ("out of memory", ("other_execution_error",)),
    ],
)
def test_a_prediction_that_took_its_process_down_is_wrong(question, monkeypatch, reason, classes):
    def lose_all(function, chunks, on_lost, *, seconds_per_item, tick):
        return [[on_lost(item, reason) for item in chunk] for chunk in chunks]

    monkeypatch.setattr(score, "run_chunks", lose_all)
    (found,) = judge_all([Case(question(), GOLD)], Judging(with_similarity=True))
    assert (found.error, found.error_classes, found.correct) == (reason, classes, False)
    assert set(found.scores) == set(Judging().measures)
    (with_both,) = add_similarity([found], lambda texts: [])
    assert with_both.scores["semantic_similarity_sql"] == 0.0
    with pytest.raises(ScoreError, match=f"item 'a1': gold query fails: {reason}"):
        check_golds([question()], Judging())


def test_similarity_is_added_for_all_outcomes_in_one_call(question):
    calls: list[list[str]] = []

    def embed(texts):
        calls.append(list(texts))
        return [[1.0, 0.0] if "30" in text else [0.6, 0.8] for text in texts]

    judging = Judging(with_similarity=True)
    texts = [GOLD, "SELECT name FROM singer WHERE age > 20", "", "SELECT nope"]
    found = add_similarity([judged(question(), text, judging) for text in texts], embed)
    assert len(calls) == 1  # all answers are alike or missing
    assert [o.scores["semantic_similarity_sql"] for o in found] == [1.0, 0.6, 0.0, 0.6]
    assert [o.scores["semantic_similarity_rows"] for o in found] == [1.0, 1.0, 0.0, 0.0]
    assert all(judged(question(), text).pairs is None for text in texts)


def test_the_samples_gold_queries_are_right_and_their_neighbours_mostly_wrong():
    with open_dataset("samples") as dataset:
        questions = dataset.questions
        golds = [question.example.sql for question in questions]
        facts = check_golds(questions, Judging())
        cases = [
            *map(Case, questions, golds),
            *map(Case, questions, golds[1:] + golds[:1]),
        ]
        outcomes = judge_all(cases, Judging())
    right, shifted = outcomes[: len(golds)], outcomes[len(golds) :]
    assert len(questions) > CHUNK
    assert [outcome.gold for outcome in right] == golds
    assert {value for outcome in right for value in outcome.scores.values()} <= {1.0, None}
    assert all(facts[i].has_rows for i in range(len(facts)))
    assert sum(outcome.correct for outcome in shifted) < 0.2 * len(questions)
    assert all(bool(o.error_classes) != o.correct for o in shifted)


def test_ticks_count_every_question_once(question, monkeypatch):
    monkeypatch.setattr(score, "run_chunks", at_once)
    ticks: list[int] = []
    questions = [question() for _ in range(CHUNK + 1)]
    assert len(check_golds(questions, Judging(), ticks.append)) == sum(ticks) == CHUNK + 1


def test_questions_on_two_databases_keep_their_order(question, tmp_path, monkeypatch):
    monkeypatch.setattr(score, "run_chunks", at_once)
    other = tmp_path / "zoo.sqlite"
    with closing(sqlite3.connect(other)) as db:
        db.executescript("CREATE TABLE singer (name TEXT, age INTEGER)")
    questions = [question(), question(path=other), question()]
    zoo = Question(Example("z", "zoo", "Who?", GOLD), other, questions[0].ddl, questions[0].schema)
    facts = check_golds([questions[0], zoo, questions[2]], Judging())
    assert [fact.has_rows for fact in facts] == [True, False, True]
    assert facts[1].flags == ("empty_gold",)


def test_a_gold_query_that_fails_names_its_item(question, monkeypatch):
    monkeypatch.setattr(score, "run_chunks", at_once)
    broken = question("SELECT nope FROM singer", name="b7")
    second = question(GOLD, "SELECT nope FROM singer", name="b7")
    for bad in (broken, second):
        with pytest.raises(ScoreError, match="item 'b7': gold query fails: no such column: nope"):
            check_golds([question(), bad], Judging())
    with pytest.raises(ScoreError, match="item 'b7': gold query fails: no such column: nope"):
        judge_all([Case(broken, GOLD)], Judging())


def test_a_database_that_is_gone_names_its_item(question, database, monkeypatch):
    monkeypatch.setattr(score, "run_chunks", at_once)
    database.unlink()
    with pytest.raises(ScoreError, match=r"item 'a1': .*no database file .*band\.sqlite"):
        check_golds([question()], Judging())


def test_an_answer_without_a_prediction_is_a_case_like_any_other(question):
    """What a server sent is never None: an answer that failed has an empty prediction."""
    answer = Answer(error="cut")
    assert judged(question(), answer.predicted, failure=answer.error).error == "cut"
