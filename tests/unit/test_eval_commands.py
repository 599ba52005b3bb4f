"""`compare` and `page` on results that the command itself wrote, and answers judged again."""

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from eval import score
from tests.unit.evaluating import (
    GOLDS,
    ROWS,
    at_once,
    fails,
    make_world,
    sqlwright_eval,
    strict_json,
    write_lines,
    write_predictions,
)

WRONG = "SELECT id FROM singer"


@contextmanager
def at_work_in(folder: Path) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["sqlwright-eval"])
        patch.setattr(score, "run_chunks", at_once)
        yield folder


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A world with two results, `a.json` and `b.json`, that differ in two items."""
    with at_work_in(tmp_path_factory.mktemp("world")) as folder:
        make_world(folder)
        judged("a", b_easy=WRONG, b_hard=WRONG)
        judged("b", b_hard=WRONG, z_easy="SELECT legs FROM animal")
        return folder


@pytest.fixture(autouse=True)
def folder(results, tmp_path):
    with at_work_in(shutil.copytree(results, tmp_path, dirs_exist_ok=True)) as folder:
        yield folder


def judged(name: str, *args: object, **changes: str) -> Path:
    """The result of gold queries as predictions, but for `changes` by id."""
    answers = write_predictions(Path(f"{name}.jsonl"), **changes)
    path = Path(f"{name}.json")
    done = sqlwright_eval(
        "run", "--data", "dev.jsonl", "--predictions", answers, "--output", path, "--no-page",
        *args,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return path


@pytest.fixture
def a(folder):
    return Path("a.json")


@pytest.fixture
def b(folder):
    return Path("b.json")


def test_compare_says_what_was_fixed_and_broken(a, b):
    done = sqlwright_eval("compare", a, b, "--output", "c.json", "--page", "c.html")
    assert done.exit_code == 0, done.output
    assert "fixed 1, broke 1 of 6" in done.stdout
    comparison = strict_json(Path("c.json"))
    assert (comparison["fixed"], comparison["broke"]) == (["b-easy"], ["z-easy"])
    assert comparison["passed"] is True
    assert "<html" in Path("c.html").read_text()


def test_a_result_against_itself_changes_nothing(a):
    done = sqlwright_eval("compare", a, a, "--output", "c.json", "--gate", "execution_accuracy>=0")
    assert done.exit_code == 0, done.output
    comparison = strict_json(Path("c.json"))
    assert (comparison["fixed"], comparison["broke"], comparison["notes"]) == ([], [], [])
    assert {change["difference"] for change in comparison["measures"].values()} == {0.0}


@pytest.mark.parametrize(
    ("gates", "code"),
    [
        ((), 0),
        (("execution_accuracy>=-1",), 0),
        (("execution_accuracy>0",), 1),
        (("valid_sql>=0", "execution_accuracy.value>=90"), 1),
        (("execution_accuracy.value>=60", "runs.value>=100"), 0),
    ],
)
def test_a_gate_that_fails_is_told_by_the_exit_code(a, b, gates, code):
    words = [word for gate in gates for word in ("--gate", gate)]
    done = sqlwright_eval("compare", a, b, *words)
    assert done.exit_code == code, done.output
    assert ("fails" in done.stdout) == (code == 1)
    assert done.stderr == ""


def test_the_error_reduction_is_a_figure_that_holds_numbers_only(a, b):
    done = sqlwright_eval("compare", a, b, "--figure", "error_reduction_x")
    assert done.exit_code == 0, done.output
    figure = json.loads(Path("benchmarks/results/error_reduction_x.json").read_text())
    comparison = strict_json(judged_comparison(a, b))
    assert figure["value"] == comparison["error_reduction"]["value"]
    assert figure["n"] == comparison["measures"]["execution_accuracy"]["n"]
    assert [row["measure"] for row in figure["rows"]] == list(comparison["measures"])
    assert "SELECT" not in json.dumps(figure)


def judged_comparison(a: Path, b: Path) -> Path:
    assert sqlwright_eval("compare", a, b, "--output", "c.json").exit_code == 0
    return Path("c.json")


def test_no_figure_is_made_of_a_base_without_errors():
    assert "A makes no error" in fails("compare", *[judged("golds")] * 2, "--figure", "x")


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ("", "a gate is MEASURE"),
        ("execution_accuracy", "a gate is MEASURE"),
        ("execution_accuracy>=nan", "a gate is MEASURE"),
        ("execution_accuracy>=-1; runs>=0", "a gate is MEASURE"),
        ("accuracy>=0", "no measure 'accuracy' compared"),
        ("ves>=0", "no measure 'ves' compared"),
        ("execution_accuracy.value>=0.9", "numbers are percent; write 90"),
    ],
)
def test_a_gate_that_makes_no_sense_is_no_regression(a, b, gate, said):
    assert said in fails("compare", a, b, "--gate", gate)


def test_results_of_other_questions_are_refused_with_the_counts(a):
    part = judged("part", "--limit", 4)
    line = fails("compare", a, part)
    assert "2 only in A (a.json): 'z-easy', 'z-empty'" in line
    make_world(Path(), *(row | {"question": "?"} for row in ROWS))
    assert "6 items have the same id but another 'question'" in fails("compare", a, judged("other"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "can't be read"),
        ("nonsense", "not JSON"),
        ("[]", "no result of sqlwright-eval"),
        ('{"items": 7, "format": 2}', "no result of sqlwright-eval"),
        ('{"items": []}', "format 1, this version reads 2"),
        ('{"items": [], "format": 99}', "format 99"),
        ("[" * 100_000, "not JSON"),
        ("\0", "not JSON"),
    ],
)
def test_a_file_that_is_no_result_is_named(a, content, said):
    if content is not None:
        Path("bad.json").write_text(content)
    for words in (("compare", a, "bad.json"), ("compare", "bad.json", a)):
        line = fails(*words)
        assert "bad.json" in line
        assert said in line
    assert "bad.json" in fails("page", "bad.json")
    assert "bad.json" in fails("page", a, "--against", "bad.json")


def test_a_result_without_its_fields_is_named(a):
    Path("bad.json").write_text('{"items": [], "format": 2}')
    assert "B (bad.json): field 'model' is missing" in fails("compare", a, "bad.json")
    assert "the base: field 'model' is missing" in fails("page", a, "--against", "bad.json")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda record: record.pop("databases"), "bad.json: has no field 'databases'"),
        (lambda record: record["items"][2].pop("hardness"), "item 3: has no field 'hardness'"),
        (lambda record: record["items"].append(7), "item 7: has no field 'completion_tokens'"),
    ],
)
def test_a_page_needs_a_whole_result(a, spoil: Callable[[Any], object], said):
    record = strict_json(a)
    spoil(record)
    Path("bad.json").write_text(json.dumps(record))
    assert said in fails("page", "bad.json")
    assert not Path("bad.html").exists()


def test_a_page_is_made_of_an_earlier_result(a, b):
    done = sqlwright_eval("page", b, "--against", a)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "b.html\n", "")
    found = re.search(r'id="data">(.*?)</script>', Path("b.html").read_text(), re.DOTALL)
    assert found
    changes = {item["id"]: item["change"] for item in json.loads(found[1])["items"]}
    assert changes == {key: [] for key in GOLDS} | {"b-easy": ["fixed"], "z-easy": ["broke"]}


def test_a_base_of_other_questions_costs_only_the_comparison(a):
    part = judged("part", "--limit", 4)
    done = sqlwright_eval(
        "run", "--data", "dev.jsonl", "--predictions", "a.jsonl", "--output", "new.json",
        "--against", part,
    )  # fmt: skip
    assert (done.exit_code, done.stdout) == (2, "")
    assert "result new.json" in done.stderr
    assert "hold different items" in done.stderr
    assert strict_json(Path("new.json"))["items"] == strict_json(a)["items"]


def test_earlier_answers_are_judged_again_to_the_same_result(a):
    again = sqlwright_eval("run", "--data", "dev.jsonl", "--predictions", a)
    assert again.exit_code == 0, again.output
    assert "result a.judged.json" in again.stdout
    assert strict_json(Path("a.judged.json"))["items"] == strict_json(a)["items"]
    assert Path("a.judged.html").exists()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"id": "b-easy", "predicted": "x"}], "no prediction for 5 of 6 questions, first 'b-ex"),
        ([{"id": "gone", "predicted": "x"}], "p.jsonl:1: no question 'gone'"),
        ([{"id": "b-easy", "predicted": "x"}] * 2, "p.jsonl:2: a second prediction for 'b-easy'"),
        ([{"id": "b-easy", "predicted": None}, {}], "p.jsonl:2: has no field 'predicted'"),
        ([{"id": "b-easy", "predicted": 7}], "p.jsonl:1"),
        ([[7]], "p.jsonl: no predictions; expected"),
        ([{"id": "b-easy", "predicted": "x"}, 7], "p.jsonl:2: expected an object, found int"),
    ],
)
def test_predictions_that_do_not_fit_are_named_by_line(rows, said):
    write_lines(Path("p.jsonl"), *rows)
    assert said in fails("run", "--data", "dev.jsonl", "--predictions", "p.jsonl")
    assert not Path("p.judged.json").exists()


def test_a_figure_of_a_measure_that_was_not_taken_keeps_the_result():
    answers = write_predictions(Path("p.jsonl"))
    done = sqlwright_eval(
        "run", "--data", "dev.jsonl", "--predictions", answers, "--figure", "f", "--measure", "ves"
    )
    assert (done.exit_code, done.stdout) == (2, "")
    assert "figure f: the result has no 'ves'; there: execution_accuracy" in done.stderr
    assert strict_json(Path("p.judged.json"))["data"]["n"] == 6


def test_whatever_texts_hold_result_page_and_figure_can_be_read(folder):
    """Lone surrogates, control characters and markup in every text that comes from outside."""
    nasty = "\ud800\x00\x1b[31m</script>[bold]\u2028'\""
    rows = [
        {"id": f"q{nasty}", "db_id": "zoo", "question": nasty, "source": nasty,
         "sql": "SELECT kind, 9e999, -9e999, x'00ff', legs * 1e308 FROM animal"},
        {"id": "r", "db_id": "zoo", "question": nasty, "sql": f"SELECT '{nasty[4:-2]}'"},
    ]  # fmt: skip
    make_world(folder, *rows)
    write_lines(Path("p.jsonl"), *({"id": row["id"], "predicted": nasty} for row in rows))
    done = sqlwright_eval(
        "run", "--data", "dev.jsonl", "--predictions", "p.jsonl", "--figure", "f", "--note", "[x]"
    )
    assert done.exit_code == 0, done.output
    record = strict_json(Path("p.judged.json"))
    assert [item["predicted"] for item in record["items"]] == [nasty, nasty]
    assert record["items"][0]["gold_answer"]["rows"][0] == [
        "crane",
        "inf",
        "-inf",
        "x'00ff'",
        "inf",
    ]
    assert Path("p.judged.html").read_text(encoding="utf-8")
    assert "SELECT" not in Path("benchmarks/results/f.json").read_text()
