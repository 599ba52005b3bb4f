"""A result for people: tables, one line and a figure that holds no text of the data."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from eval.record import HEADLINE, Record, RecordError, load_record
from eval.report import (
    error_table,
    group_table,
    summary,
    table,
    write_result_figure,
)
from eval.result import build_record
from tests.unit.evaluating import ROWS
from tests.unit.test_eval_result import finished

RECORD = Path(__file__).parents[1] / "fixtures" / "eval_record.json"


def rendered(grid: Table) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(grid)
    return capture.get()


@pytest.fixture
def record():
    return build_record(finished())


def one_item(right: str) -> Record:
    run = finished(right + "00000")
    questions = run.dataset.questions[:1]
    return build_record(
        replace(
            run,
            dataset=replace(run.dataset, questions=questions),
            answers=run.answers[:1],
            outcomes=run.outcomes[:1],
            facts=run.facts[:1],
        )
    )


def test_the_summary_is_one_line_with_every_measure(record):
    assert summary(record, Path("runs/r.json")) == (
        "execution_accuracy 0.667 ± 0.111 (n=6) · runs 1.000 ± 0.000 · valid_sql 1.000 ± 0.000"
        " · result runs/r.json"
    )


def test_the_table_says_value_interval_n_and_how_the_errors_were_made(record):
    text = rendered(table(record))
    assert "m on dev.jsonl (generate-sql)" in text
    assert re.search(r"execution_accuracy\W+0\.667 ± 0\.111\W+0\.000 – 1\.000\W+6\b", text)
    assert "clustered by database (2)" in text


def test_one_question_has_no_standard_error():
    text = rendered(table(one_item("1")))
    assert re.search(r"execution_accuracy\W+1\.000 ± n/a\W+n/a\W+1\b", text)
    assert "one database only" in text
    assert "execution_accuracy 1.000 ± n/a (n=1)" in summary(one_item("1"), Path("r"))


def test_groups_are_shown_from_easy_to_extra(record):
    text = rendered(group_table(record, "hardness"))
    found = re.findall(r"(easy|medium|hard|extra) +│ +(\d\.\d+) ± \S+ │ +(\d+)", text)
    assert found == [
        ("easy", "0.667", "3"),
        ("medium", "1.000", "1"),
        ("hard", "0.000", "1"),
        ("extra", "1.000", "1"),
    ]
    assert "band" in rendered(group_table(record, "db_id"))


def test_errors_are_counted_by_their_first_class(record):
    assert re.search(r"wrong_value\W+2\b", rendered(error_table(record)))


def test_names_from_outside_are_no_markup():
    """A model called [red] is not a colour."""
    record = build_record(finished(model="[red]m[/]"))
    assert "[red]m[/] on dev.jsonl" in rendered(table(record))
    groups: Any = record["groups"]
    groups["db_id"] = {"[bold]": groups["db_id"]["band"]}
    assert "[bold]" in rendered(group_table(record, "db_id"))


@pytest.fixture
def figure(record, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_result_figure(record, "spider_dev_ex_bundled", "a note")


def test_the_figure_says_value_n_and_how_it_was_made(figure):
    assert figure == Path("benchmarks/results/spider_dev_ex_bundled.json")
    found = json.loads(figure.read_text())
    assert (found["value"], found["n"]) == (pytest.approx(4 / 6), 6)
    assert found["unit"] == "share of questions"
    assert found["interval"] == [0.0, 1.0]  # two databases say little, and a share is a share
    for words in ("model m@1", "data dev.jsonl", "api generate-sql", "judge: bags", "0 requests"):
        assert words in found["notes"]
    assert found["notes"].endswith("; a note")


def test_the_figure_has_rows_for_measures_groups_and_error_classes(figure):
    rows = json.loads(figure.read_text())["rows"]
    measures = [row["measure"] for row in rows if "measure" in row]
    assert measures == ["execution_accuracy", "runs", "valid_sql"]
    groups = [(row["group"], row["name"], row["n"]) for row in rows if "group" in row]
    assert groups[:4] == [
        ("hardness", "easy", 3),
        ("hardness", "medium", 1),
        ("hardness", "hard", 1),
        ("hardness", "extra", 1),
    ]
    assert ("shape", "join", 1) in groups
    assert [row for row in rows if "error_class" in row] == [
        {"error_class": "wrong_value", "n": 2, "share": pytest.approx(2 / 6)}
    ]


def test_the_figure_holds_no_text_of_the_data(figure):
    """A figure is committed: no question, no query, no schema, no cell."""
    text = figure.read_text()
    for row in ROWS:
        assert row["question"] not in text
        assert row["sql"] not in text
    for word in ("SELECT", "CREATE", "singer", "animal", "band"):
        assert word not in text


def test_a_server_that_quotes_the_data_in_an_error_does_not_get_it_into_a_figure(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    failed = [replace(answer, error="400: SELECT secret") for answer in finished().answers]
    record = build_record(finished("000000", answers=failed))
    assert "secret" in record["notes"][0]
    text = write_result_figure(record, "f").read_text()
    assert "secret" not in text
    assert "6 requests failed" in text


def test_a_figure_may_be_of_another_measure(record, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert json.loads(write_result_figure(record, "f", measure="runs").read_text())["value"] == 1.0
    with pytest.raises(RecordError, match="figure f: the result has no 'ves'; there: execution"):
        write_result_figure(record, "f", measure="ves")


def test_a_figure_of_one_question_has_no_interval(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = json.loads(write_result_figure(one_item("0"), "f").read_text())
    assert (found["value"], found["n"], found["interval"]) == (0.0, 1, None)


def test_a_whole_record_of_the_samples_can_be_shown():
    record = load_record(RECORD)
    for kind in record["groups"]:
        assert HEADLINE in rendered(group_table(record, kind))
    assert rendered(error_table(record)).count("│") >= len(record["error_classes"])
