"""The result as JSON, table, line and figure."""

import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from eval.api import Answer
from eval.dataset import Dataset, Question
from eval.report import Result, Seconds, summary, table, write_result, write_result_figure
from eval.score import Outcome, measure_all
from eval.task.example import Example
from eval.task.schema import parse_ddl

DDL = "CREATE TABLE singer (id INTEGER PRIMARY KEY, name TEXT);"
SECRET = "Which singer is the oldest?"
ANSWERS = [
    Answer("SELECT '\ud800é'", model="m@1", confidence=0.9, server_valid=True, latency_ms=2.5),
    Answer(error="503: busy", latency_ms=1.0),
]
OUTCOMES = [
    Outcome("a", True, True, False, True, True),
    Outcome("b", False, False, False, False, True, error="holds no statement"),
]


def result(answers: list[Answer] = ANSWERS, outcomes: list[Outcome] = OUTCOMES) -> Result:
    questions = tuple(
        Question(Example(f"i{n}", o.db_id, SECRET, "SELECT 7"), Path("x"), DDL, parse_ddl(DDL))
        for n, o in enumerate(outcomes)
    )
    dataset = Dataset("dev.jsonl", "ab" * 32, questions)
    measures = measure_all(outcomes)
    return Result("m", "generate-sql", dataset, answers, outcomes, measures, Seconds(1.5, 0.5))


def test_the_json_file_holds_all_but_the_server_and_the_data(tmp_path):
    write_result(result(), tmp_path / "r.json")
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]
    text = (tmp_path / "r.json").read_text()
    record = json.loads(text)
    assert SECRET not in text
    assert "SELECT 7" not in text
    assert {k: v for k, v in record.items() if k not in ("items", "judge", "measures")} == {
        "model": "m",
        "versions_used": ["m@1"],
        "data": {"name": "dev.jsonl", "sha256": "ab" * 32, "n": 2},
        "api": "generate-sql",
        "num_errors": 1,
        "seconds": {"asking": 1.5, "judging": 0.5},
    }
    assert record["measures"]["runs"] == {"value": 0.5, "stderr": 0.5, "n": 2, "num_clusters": 2}
    assert record["items"][0] == {
        "id": "i0",
        "db_id": "a",
        "predicted": "SELECT '\ud800é'",
        "correct": True,
        "runs": True,
        "valid": True,
        "exact": False,
        "gold_has_rows": True,
        "confidence": 0.9,
        "error": None,
        "execution_error": None,
        "completion_tokens": None,
        "truncated": None,
        "server_valid": True,
        "latency_ms": 2.5,
        "model": "m@1",
    }


def test_a_failed_request_shows_its_own_error_only(tmp_path):
    write_result(result(), tmp_path / "r.json")
    item = json.loads((tmp_path / "r.json").read_text())["items"][1]
    assert (item["error"], item["execution_error"]) == ("503: busy", None)


def test_the_summary_is_one_line_with_every_measure():
    assert summary(result(), Path("runs/r.json")) == (
        "execution_accuracy 0.500 ± 0.500 (n=2) · runs 0.500 ± 0.500 · exact_match 0.000 ± 0.000"
        " · valid_sql 0.500 ± 0.500 · execution_accuracy_nonempty 0.500 ± 0.500"
        " · result runs/r.json"
    )


def rendered(found: Result) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(table(found))
    return capture.get()


def test_the_table_says_how_the_errors_were_made():
    text = rendered(result())
    assert re.search(r"execution_accuracy\W+0\.500 ± 0\.500\W+2\b", text)
    assert "clustered by database (2)" in text


def test_one_question_has_no_standard_error():
    text = rendered(result(ANSWERS[:1], OUTCOMES[:1]))
    assert re.search(r"execution_accuracy\W+1\.000 ± n/a\W+1\b", text)
    assert "one database only" in text


def test_the_figure_holds_numbers_and_names_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_result_figure(result(), "spider_dev_ex_bundled")
    assert path == Path("benchmarks/results/spider_dev_ex_bundled.json")
    record = json.loads(path.read_text())
    assert (record["value"], record["n"], record["unit"]) == (0.5, 2, "share of questions")
    assert record["interval"] == pytest.approx([0.0, 1.0])  # 0.5 ± 0.98, kept a share
    assert [row["measure"] for row in record["rows"]] == list(result().measures)
    assert record["rows"][0] == {
        "measure": "execution_accuracy", "value": 0.5, "stderr": 0.5, "n": 2
    }  # fmt: skip
    for words in ("model m@1", "data dev.jsonl", "api generate-sql", "bags of rows", "1 requests"):
        assert words in record["notes"]
    assert SECRET not in path.read_text()
    assert "SELECT" not in path.read_text()
