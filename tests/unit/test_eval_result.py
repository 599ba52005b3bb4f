"""The record of an evaluation: what it holds, in which order, and that it is on the disk whole."""

import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval.ask.api import Answer
from eval.contamination import Contamination, find_contamination
from eval.dataset import Dataset, Question
from eval.golds import GoldFacts
from eval.record import FORMAT, Item, Record, RecordError, check_whole, load_record
from eval.report import flag_notes
from eval.result import Finished, build_record, check_place, estimates, write_record
from eval.score import Outcome
from eval.task.example import Example
from eval.task.schema import parse_ddl
from tests.unit.evaluating import BAND, EXTRA, GOLDS, ROWS, strict_json

SCHEMA = parse_ddl(BAND)


def finished(
    right: str = "101101", *, flagged: dict[int, GoldFacts] | None = None, **changes: Any
) -> Finished:
    """An evaluation of `ROWS`, `right` with one digit an item."""
    questions = tuple(Question(Example(**row), Path("x"), BAND, SCHEMA) for row in ROWS)
    outcomes = [
        Outcome(
            str(row["sql"]),
            {"execution_accuracy": float(digit), "runs": 1.0, "valid_sql": 1.0, "ves": None},
            error_classes=() if digit == "1" else ("wrong_value", "wrong_order"),
        )
        for row, digit in zip(ROWS, right, strict=True)
    ]
    run = Finished(
        model="m",
        api="generate-sql",
        dataset=Dataset("dev.jsonl", "ab" * 32, questions),
        answers=[Answer(f"SELECT {i}", model="m@1") for i in range(len(ROWS))],
        outcomes=outcomes,
        facts=[(flagged or {}).get(i, GoldFacts(has_rows=True)) for i in range(len(ROWS))],
        contamination=Contamination(("a word on contamination",), {"items": 6}),
        judge={"description": "bags"},
        seconds={"asking": 1.5},
    )
    return replace(run, **changes)


def test_a_record_holds_what_its_shape_promises(tmp_path):
    record = build_record(finished())
    assert set(record) == Record.__required_keys__
    assert record["format"] == FORMAT
    for item in record["items"]:
        assert set(item) == Item.__required_keys__
    assert [item["id"] for item in record["items"]] == list(GOLDS)
    assert record["data"] == {
        "name": "dev.jsonl", "sha256": "ab" * 32, "n": 6, "contamination": {"items": 6}
    }  # fmt: skip
    assert record["versions_used"] == ["m@1"]
    assert record["databases"] == {"band": {"ddl": BAND}, "zoo": {"ddl": BAND}}
    assert record["calibration"] is None
    write_record(record, tmp_path / "r.json")
    assert load_record(tmp_path / "r.json") == record == strict_json(tmp_path / "r.json")


def test_measures_are_means_over_the_items_that_have_them():
    measures = build_record(finished())["measures"]
    assert list(measures) == ["execution_accuracy", "runs", "valid_sql"]  # no item has a VES
    found = measures["execution_accuracy"]
    assert found["value"] == pytest.approx(4 / 6)
    assert (found["n"], found["num_clusters"]) == (6, 2)


def test_groups_go_from_easy_to_extra_and_hold_every_item():
    groups = build_record(finished())["groups"]
    assert list(groups) == ["hardness", "shape", "db_id"]
    assert list(groups["hardness"]) == ["easy", "medium", "hard", "extra"]
    assert [group["n"] for group in groups["hardness"].values()] == [3, 1, 1, 1]
    assert list(groups["db_id"]) == ["band", "zoo"]
    order = ["single_table", "join", "aggregate", "group_by", "having", "order_by", "limit"]
    assert [name for name in groups["shape"] if name in order] == order
    easy = groups["hardness"]["easy"]["measures"]["execution_accuracy"]
    assert easy["n"] == 3
    assert easy["value"] == pytest.approx(2 / 3)
    assert set(groups["hardness"]["easy"]["measures"]) == {"execution_accuracy", "valid_sql"}


def test_items_that_were_trained_on_are_a_group_of_their_own():
    examples = [Example(**row) for row in ROWS]
    train = [Example("t", "other", ROWS[0]["question"].upper(), "SELECT 1")]
    found = find_contamination(examples, train)
    groups = build_record(finished(contamination=found))["groups"]["training"]
    assert {name: group["n"] for name, group in groups.items()} == {
        "in training data": 1,
        "not in training data": 5,
    }


def test_error_classes_count_the_first_class_of_wrong_items():
    run = finished("000111")
    outcomes = list(run.outcomes)
    outcomes[0] = replace(outcomes[0], error_classes=("unknown_column",))
    outcomes[5] = replace(outcomes[5], error_classes=("other",))  # right: not an error
    record = build_record(replace(run, outcomes=outcomes))
    assert record["error_classes"] == {"wrong_value": 2, "unknown_column": 1}
    assert list(record["error_classes"]) == ["wrong_value", "unknown_column"]


def test_notes_say_what_is_most_pressing_first():
    flags = {
        0: GoldFacts(True, ("row_order_dependent",)),
        4: GoldFacts(False, ("empty_gold",)),
        5: GoldFacts(False, ("empty_gold", "row_order_dependent")),
    }
    answers = [Answer(error="503: busy"), Answer("x", model="m@2"), *finished().answers[2:]]
    record = build_record(finished("000000", flagged=flags, answers=answers))
    assert record["notes"] == [
        "1 requests failed and count as wrong; the first: 503: busy",
        "more than one version answered: m@1, m@2",
        "a word on contamination",
    ]
    assert flag_notes(record) == [
        "2 of 6: the gold answer depends on the order in which rows are stored, so one more right "
        "or wrong says nothing",
        "2 of 6: the gold query finds no rows, so every query that finds nothing is right",
    ]
    assert record["flags"] == {"row_order_dependent": 2, "empty_gold": 2}
    assert record["num_errors"] == 1


def test_golds_without_a_suite_are_told():
    run = finished("000000")
    outcomes = [
        replace(outcome, scores=outcome.scores | {"test_suite_accuracy": 1.0 if number else None})
        for number, outcome in enumerate(run.outcomes)
    ]
    record = build_record(replace(run, outcomes=outcomes))
    assert "1 of 6 golds have no generated database" in record["notes"][0]


def test_an_error_of_the_request_is_no_error_of_the_database():
    run = finished("000000", answers=[Answer(error="503: busy")] * 6)
    outcomes = [replace(outcome, error="503: busy") for outcome in run.outcomes]
    item = build_record(replace(run, outcomes=outcomes))["items"][0]
    assert (item["error"], item["execution_error"]) == ("503: busy", None)
    outcomes = [replace(outcome, error="no such table: x") for outcome in run.outcomes]
    item = build_record(finished(outcomes=outcomes))["items"][0]
    assert (item["error"], item["execution_error"]) == (None, "no such table: x")


def test_confidences_become_a_calibration():
    answers = [Answer("x", confidence=0.1 * i) for i in range(6)]
    found = build_record(finished(answers=answers))["calibration"]
    assert found is not None
    assert found["n"] == 6
    partly = [Answer("x", confidence=0.5), *finished().answers[1:]]
    found = build_record(finished(answers=partly))["calibration"]
    assert found is None or found["n"] == 1


def test_no_items_with_a_measure_make_no_estimate():
    assert estimates([]) == {}


@pytest.mark.parametrize("sql", ["nope (", "", "SELECT " + "(" * 5000])
def test_a_gold_query_that_nobody_can_parse_has_a_hardness_all_the_same(sql):
    question = Question(Example("a", "band", "?", sql), Path("x"), BAND, SCHEMA)
    run = finished(
        answers=[Answer("x")],
        outcomes=[Outcome(sql, {"execution_accuracy": 0.0}, error_classes=("other",))],
        facts=[GoldFacts()],
        dataset=Dataset("d", "ab", (question,)),
    )
    assert build_record(run)["items"][0]["hardness"] == "unknown"


def test_lone_surrogates_are_written_as_ascii(tmp_path):
    answers = [Answer("SELECT '\ud800é'")] * 6
    write_record(build_record(finished(answers=answers)), tmp_path / "r.json")
    assert strict_json(tmp_path / "r.json")["items"][0]["predicted"] == "SELECT '\ud800é'"
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def test_what_json_can_not_hold_is_refused_and_the_old_result_stays(tmp_path):
    path = tmp_path / "r.json"
    path.write_text("old")
    answers = [Answer("x", latency_ms=float("nan"))] * 6
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_record(build_record(finished(answers=answers)), path)
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["r.json"]


def test_a_result_that_can_not_be_written_leaves_no_draft(tmp_path):
    (tmp_path / "r.json").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_record(build_record(finished()), tmp_path / "r.json")
    assert caught.value.filename == str(tmp_path / "r.json")
    assert [found.name for found in tmp_path.iterdir()] == ["r.json"]


def test_a_place_is_made_and_left_as_it_was(tmp_path):
    check_place(tmp_path / "new/er/r.json")
    assert list((tmp_path / "new/er").iterdir()) == []
    (tmp_path / "r.json").write_text("old")
    check_place(tmp_path / "r.json")
    assert (tmp_path / "r.json").read_text() == "old"
    with pytest.raises(OSError, match=str(tmp_path / "r.json")) as caught:
        check_place(tmp_path / "r.json/x.json")
    assert caught.value.errno in (errno.ENOTDIR, errno.EEXIST)
    with pytest.raises(IsADirectoryError):
        check_place(tmp_path / "new")


def test_a_record_that_lacks_a_field_is_not_whole(tmp_path):
    path = tmp_path / "r.json"
    write_record(build_record(finished()), path)
    record: Any = load_record(path)
    check_whole(record, path)
    for name in Record.__required_keys__ - {"items"}:
        part: Any = {key: value for key, value in record.items() if key != name}
        with pytest.raises(RecordError, match=rf"r\.json: has no field '{name}'"):
            check_whole(part, path)
    with pytest.raises(RecordError, match="item 2: has no field"):
        check_whole(record | {"items": [record["items"][0], {}]}, path)


def test_the_record_names_no_folder_of_this_machine(tmp_path):
    text = json.dumps(build_record(finished()))
    assert str(Path.home()) not in text
    assert EXTRA in json.loads(text)["items"][0]["gold"]
