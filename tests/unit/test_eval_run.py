"""One evaluation from end to end without a command line: sources, golds, places, settings."""

import json
import math
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from eval import run as module
from eval import score
from eval.ask.api import Answer
from eval.ask.predictions import PredictionsError
from eval.dataset import DatasetError, Question
from eval.execution import Limits
from eval.record import Record
from eval.report import flag_notes
from eval.run import Plan, Predictions, evaluate
from eval.score import Judging, ScoreError
from eval.task.example import Example, ExampleError
from tests.unit.evaluating import (
    EXTRA,
    ROWS,
    at_once,
    make_world,
    strict_json,
    write_lines,
    write_predictions,
)


@dataclass
class Parrot:
    """A model in this process that says what it was told, or the gold query."""

    name: str = "parrot"
    told: Sequence[Answer] | None = None
    num_asked: int = 0

    def answers(self, questions: Sequence[Question]) -> Iterator[Answer]:
        told = [Answer(q.example.sql) for q in questions] if self.told is None else self.told
        for answer in told:
            self.num_asked += 1
            yield answer


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    make_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sqlwright-eval"])
    monkeypatch.setattr(score, "run_chunks", at_once)
    return tmp_path


def silent(_: str) -> None:
    """Nobody listens."""


def evaluated(source: Any, **changes: Any) -> Record:
    record, path = evaluate(replace(Plan(source, "dev.jsonl"), **changes), silent)
    assert strict_json(path) == record
    return record


def test_a_model_in_this_process_is_asked_in_order(folder):
    record, path = evaluate(Plan(Parrot("org/model 7b"), "dev.jsonl"), silent)
    assert path.match("runs/eval-org-model-7b-*Z.json")
    assert (record["model"], record["api"]) == ("org/model 7b", "in-process")
    assert record["measures"]["execution_accuracy"]["value"] == 1.0
    assert list(record["seconds"]) == ["gold_queries", "asking", "judging"]
    assert record["judge"]["engine"] == f"sqlite {sqlite3.sqlite_version}"


@pytest.mark.parametrize("given", [0, 1, 5, 7])
def test_a_model_that_gives_another_number_of_answers_is_refused(given):
    told = [Answer("SELECT 1")] * given
    with pytest.raises(PredictionsError, match=f"parrot: {given} answers to 6 questions"):
        evaluated(Parrot(told=told))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer("SELECT 1", confidence=math.nan), "within 0..1"),
        (Answer("SELECT 1", confidence=7.0), "within 0..1"),
        (Answer(7), "'predicted' must be text, is int"),  # type: ignore[arg-type]
    ],
)
def test_what_no_result_can_hold_is_told_at_the_first_answer(answer, said):
    model = Parrot(told=[answer] * 6)
    with pytest.raises(PredictionsError, match="parrot: answer 1: ") as caught:
        evaluated(model)
    assert said in str(caught.value)
    assert model.num_asked == 1


def test_of_several_golds_the_second_matches_and_the_difference_is_against_it():
    rows = [dict(row) for row in ROWS]
    second = "SELECT title FROM song"
    rows[3] |= {"alternatives": ["SELECT plays FROM song", second]}
    write_lines(Path("dev.jsonl"), *rows)
    answers = write_predictions(Path("p.jsonl"), b_easy="SELECT title FROM song WHERE plays > 0")
    item = evaluated(Predictions(answers))["items"][3]
    assert item["scores"]["execution_accuracy"] == 1.0
    assert item["gold"] == second
    assert item["golds"] == [ROWS[3]["sql"], "SELECT plays FROM song", second]
    assert item["gold_answer"] and item["gold_answer"]["columns"] == ["title"]
    assert item["error_classes"] == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.jsonl", "\n".join(json.dumps({"id": r["id"], "sql": r["sql"]}) for r in ROWS[::-1])),
        ("p.sql", "\n".join(str(row["sql"]) for row in ROWS)),
        ("p.txt", "\n".join(f"{row['sql']}\t{row['db_id']}" for row in ROWS)),
        ("p.json", json.dumps({
            i: f"{row['sql']}\t----- bird -----\t{row['db_id']}" for i, row in enumerate(ROWS)
        })),
    ],
)  # fmt: skip
def test_answers_are_read_in_every_form_that_people_have_them_in(name, text):
    Path(name).write_text(text)
    record = evaluated(Predictions(Path(name)))
    assert record["measures"]["execution_accuracy"]["value"] == 1.0
    assert (record["model"], record["api"]) == ("p", "predictions")
    assert Path("p.judged.json").exists()


def test_examples_in_a_list_are_judged_on_the_databases_that_are_named(folder):
    examples = [Example(**row) for row in ROWS]
    record = evaluated(Parrot(), data=examples, databases=folder / "databases", limit=2)
    assert (record["data"]["name"], record["data"]["n"]) == ("list", 2)


def test_the_golds_are_run_before_a_model_is_asked():
    write_lines(Path("dev.jsonl"), *ROWS[:2], ROWS[2] | {"sql": "SELECT nope FROM song"})
    model = Parrot()
    with pytest.raises(ScoreError, match="item 'b-medium': gold query fails: no such column"):
        evaluated(model)
    assert model.num_asked == 0


def test_a_place_that_can_not_be_written_is_found_before_a_model_is_asked(folder):
    model = Parrot()
    with pytest.raises(OSError, match="databases"):
        evaluated(model, output=folder / "databases")
    assert model.num_asked == 0


def test_training_data_is_looked_through_and_read_before_anything_else(folder):
    write_lines(folder / "train.jsonl", *ROWS[:2], {**ROWS[2], "question": "Else?", "id": "x"})
    record = evaluated(Parrot(), train=folder / "train.jsonl")
    assert record["data"]["contamination"]["in_train_question"] == 2
    assert record["data"]["contamination"]["in_train_sql"] == 3
    assert record["groups"]["training"]["in training data"]["n"] == 3
    assert any("the training data holds the question of 2" in note for note in record["notes"])
    model = Parrot()
    with pytest.raises(ExampleError, match=r"gone\.jsonl: can't be read"):
        evaluated(model, train=folder / "gone.jsonl")
    assert model.num_asked == 0


def test_settings_of_the_judge_are_on_record():
    judging = Judging(permute_columns=True, limits=Limits(timeout_seconds=3.0, max_rows=4))
    record = evaluated(Predictions(write_predictions(Path("p.jsonl"))), judging=judging)
    judge = record["judge"]
    assert (judge["timeout_seconds"], judge["max_rows"], judge["permute_columns"]) == (3.0, 4, True)
    assert "columns in any order" in judge["description"]
    assert judge["suite"] is None


def test_permuted_columns_are_right_where_the_judge_takes_them():
    turned = EXTRA.replace("singer.name, COUNT(*)", "COUNT(*), singer.name", 1)
    answers = Predictions(write_predictions(Path("p.jsonl"), b_extra=turned))
    strict = evaluated(answers)["items"][0]
    loose = evaluated(answers, judging=Judging(permute_columns=True))["items"][0]
    assert (strict["scores"]["execution_accuracy"], strict["error_classes"][0]) == (
        0.0, "wrong_column_order"
    )  # fmt: skip
    assert (loose["scores"]["execution_accuracy"], loose["error_classes"]) == (1.0, [])


def test_empty_gold_answers_are_flagged_and_left_out_of_the_stricter_measure():
    record = evaluated(Predictions(write_predictions(Path("p.jsonl"))))
    assert record["items"][5]["flags"] == ["empty_gold"]
    assert record["flags"] == {"empty_gold": 1}
    assert record["measures"]["execution_accuracy_nonempty"]["n"] == 5
    assert "1 of 6: the gold query finds no rows" in flag_notes(record)[0]


def test_one_question_alone_has_a_result_without_intervals():
    record = evaluated(Parrot(), limit=1)
    found = record["measures"]["execution_accuracy"]
    assert (found["value"], found["n"], found["stderr"], found["interval"]) == (1.0, 1, None, None)


def test_data_without_questions_is_refused():
    with pytest.raises(DatasetError, match="list: holds no examples"):
        evaluated(Parrot(), data=[])


def test_a_suite_goes_to_every_case_and_is_on_record(monkeypatch, folder):
    class Suites:
        digest = "ab12"

        def of(self, _: Question) -> tuple[Path, ...]:
            return (folder / "databases/zoo.sqlite",) if _.example.db_id == "zoo" else ()

    monkeypatch.setattr(module, "_suites", lambda *_: Suites())
    record = evaluated(Predictions(write_predictions(Path("p.jsonl"))))
    assert record["judge"]["suite"] == "ab12"
    assert record["measures"]["test_suite_accuracy"]["n"] == 2
