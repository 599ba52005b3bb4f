"""Two results against each other: what changed, what is refused, and which gates hold."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from eval.comparison.command import Verdict, compare_command
from eval.comparison.compare import ComparisonRecord, compare, comparison_record
from eval.comparison.gates import GateError, check_gate, parse_gate
from eval.comparison.pairing import CompareError
from eval.record import FORMAT, Record, RecordError

Change = Callable[[dict[str, Any]], object]


def record(right: str, model: str = "base", **scores: list[float | None]) -> Record:
    """A result on ten items of three databases; `right` has one digit an item."""
    items: list[dict[str, Any]] = [
        {
            "id": f"q{i}",
            "db_id": ("shop", "zoo", "farm")[i % 3],
            "question": f"question {i}",
            "golds": [f"SELECT {i}"],
            "hardness": "easy" if i < 5 else "hard",
            "shape": ["join", "order"] if i == 0 else ["join"] if i < 3 else [],
            "scores": {
                "execution_accuracy": float(digit),
                **{name: values[i] for name, values in scores.items()},
            },
        }
        for i, digit in enumerate(right)
    ]
    found: Any = {
        "format": FORMAT,
        "created": "2026-09-01T00:00:00Z",
        "model": model,
        "versions": {"sqlglot": "30.30.0"},
        "versions_used": [model],
        "data": {"name": "test.jsonl", "sha256": "ab", "n": len(right)},
        "judge": {"engine": "sqlite", "permute_columns": False, "suite": None, "max_rows": 9},
        "num_errors": 0,
        "items": items,
    }
    return found  # type: ignore[no-any-return]


A = "1111000000"
B = "1110110000"


def compared(a: Record | None = None, b: Record | None = None) -> ComparisonRecord:
    return comparison_record(compare(a or record(A), b or record(B, "tuned")))


def changed(change: Change, right: str = B) -> Record:
    result: Any = copy.deepcopy(record(right, "tuned"))
    change(result)
    return result  # type: ignore[no-any-return]


def test_ids_counts_and_shares_of_what_changed():
    found = compared()
    change = found["measures"]["execution_accuracy"]
    assert (found["fixed"], found["broke"]) == (["q4", "q5"], ["q3"])
    assert (change["fixed"], change["broke"]) == (2, 1)
    assert (change["both_right"], change["both_wrong"]) == (3, 4)
    assert (change["a"], change["b"], change["n"]) == (0.4, 0.5, 10)
    assert change["difference"] == pytest.approx(0.1)
    assert change["p_mcnemar"] == 1.0
    assert found["error_reduction"] is not None
    assert found["error_reduction"]["value"] == pytest.approx(1 / 6)
    assert found["a"]["model"] == "base" and found["b"]["model"] == "tuned"
    assert found["notes"] == []


def test_groups_by_hardness_and_by_every_shape_of_an_item():
    groups = compared()["groups"]
    assert groups["hardness"] == {
        "easy": {"n": 5, "a": 0.8, "b": 0.8, "fixed": 1, "broke": 1},
        "hard": {"n": 5, "a": 0.0, "b": 0.2, "fixed": 1, "broke": 0},
    }
    assert {name: group["n"] for name, group in groups["shape"].items()} == {"join": 3, "order": 1}


def test_groups_come_in_the_order_of_their_scale():
    def relabel(result: Any) -> None:
        for item, name in zip(
            result["items"], ["extra", "odd", "hard", "easy", "medium"] * 2, strict=True
        ):
            item["hardness"] = name

    groups = compared(changed(relabel, A), changed(relabel))["groups"]["hardness"]
    assert list(groups) == ["easy", "medium", "hard", "extra", "odd"]


def test_a_comparison_turned_round_swaps_fixed_and_broke():
    there, back = compared(), compared(record(B), record(A))
    one, other = (r["measures"]["execution_accuracy"] for r in (there, back))
    assert (there["fixed"], there["broke"]) == (back["broke"], back["fixed"])
    assert one["difference"] == -other["difference"]
    assert one["p_clusters"] == other["p_clusters"]


def test_the_order_of_items_in_a_file_does_not_matter():
    turned = changed(lambda r: r["items"].reverse())
    there, back = compared(b=record(B, "tuned")), compared(b=turned)
    assert there == back


def test_the_record_is_json():
    found = compared()
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_reference_without_errors_has_no_error_reduction():
    assert compared(record("1" * 10))["error_reduction"] is None


def test_fractional_measures_are_compared_without_mcnemar():
    similar: list[float | None] = [0.5] * 10
    better: list[float | None] = [0.75] * 10
    change = compared(record(A, similarity=similar), record(B, similarity=better))["measures"]
    assert change["similarity"]["p_mcnemar"] is None
    assert change["similarity"]["difference"] == 0.25
    assert change["similarity"]["fixed"] == 10


def test_a_measure_is_compared_where_both_results_have_it():
    a: list[float | None] = [1.0, None, 0.0, *[1.0] * 7]
    b: list[float | None] = [1.0, 1.0, None, *[0.0] * 7]
    found = compared(record(A, exact=a), record(B, exact=b))
    assert found["measures"]["exact"]["n"] == 8
    assert found["notes"] == ["exact: 2 items have it in one result only"]


def test_a_measure_of_one_result_is_noted_not_compared():
    found = compared(record(A, ves=[1.0] * 10))
    assert list(found["measures"]) == ["execution_accuracy"]
    assert found["notes"] == ["ves: not in both results, not compared"]


def test_a_measure_that_is_defined_nowhere_needs_no_note():
    nothing: list[float | None] = [None] * 10
    assert compared(record(A, ves=nothing), record(B, ves=nothing))["notes"] == []


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda r: r["data"].update(sha256="cd"), "the data files differ"),
        (lambda r: r.update(num_errors=3), "B: 3 requests failed and count as wrong"),
        (lambda r: r.update(versions_used=["v1", "v2"]), "B: answered by 2 versions: v1, v2"),
        (lambda r: r["judge"].update(engine="mysql"), "judge engine: 'sqlite' in A, 'mysql' in B"),
        (lambda r: r["judge"].pop("max_rows"), "judge max_rows: 9 in A, None in B"),
        (lambda r: r["versions"].update(sqlglot="31"), "version sqlglot: '30.30.0' in A, '31'"),
    ],
)
def test_what_leaves_results_comparable_is_noted(change: Change, note: str):
    (found,) = compared(b=changed(change))["notes"]
    assert found.startswith(note)


def test_test_suites_on_other_databases_are_not_compared():
    a, b = (record(x, test_suite_accuracy=[1.0] * 10) for x in (A, B))
    assert "test_suite_accuracy" in compared(a, b)["measures"]
    b["judge"]["suite"] = "f00"
    found = compared(a, b)
    assert "test_suite_accuracy" not in found["measures"]
    assert found["notes"] == [
        "test_suite_accuracy: judged on different generated databases, not compared"
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["items"].pop(), "1 only in A: 'q9'; evaluate both"),
        (
            lambda r: [item.update(id=f"x{item['id']}") for item in r["items"]],
            "10 only in A: 'q0', 'q1', 'q2', …; 10 only in B: 'xq0', 'xq1', 'xq2', …;",
        ),
        (lambda r: r["items"][2].update(golds=["SELECT 7"]), "1 items .* another 'golds': 'q2'"),
        (lambda r: r["items"][2].update(question="?"), "1 items .* another 'question': 'q2'"),
        (lambda r: r["items"][2].update(db_id="sea"), "1 items .* another 'db_id': 'q2'"),
        (lambda r: r["items"][2].update(id="q1"), "B: item 3: id 'q1' is there twice"),
        (lambda r: r["items"].clear(), "B: holds no items"),
        (lambda r: r["items"].append(3), "B: item 11: expected an object, found int"),
        (lambda r: r["items"][0].pop("scores"), "item 1: field 'scores' is missing, must be dict"),
        (lambda r: r["items"][0].update(id=7), "item 1: field 'id' is int, must be str"),
        (lambda r: r["items"][0].update(shape=[[]]), "field 'shape' must be a list of texts"),
        (lambda r: r.pop("judge"), "B: field 'judge' is missing"),
        (lambda r: r["items"][0]["scores"].update(x=float("nan")), "score 'x' must be a finite"),
        (lambda r: r["items"][0]["scores"].update(x=10**400), "score 'x' must be a finite"),
        (lambda r: r["items"][0]["scores"].update(x="1"), "score 'x' must be a finite"),
        (lambda r: r["judge"].update(permute_columns=True), "only one was judged with permuted"),
        (lambda r: [i["scores"].clear() for i in r["items"]], "no execution_accuracy in common"),
    ],
)
def test_results_that_cannot_be_compared_are_refused(change: Change, message: str):
    with pytest.raises(CompareError, match=message):
        compare(record(A), changed(change))


def test_one_item_can_be_compared():
    change = compared(record("0"), record("1"))["measures"]["execution_accuracy"]
    assert (change["difference"], change["stderr"], change["interval"]) == (1.0, None, None)


@pytest.mark.parametrize(
    ("text", "measure", "subject", "operator", "number"),
    [
        ("execution_accuracy>=-1", "execution_accuracy", "change", ">=", -1.0),
        (" exact_match.low > -0.5 ", "exact_match", "low", ">", -0.5),
        ("ves.high<=+2.25", "ves", "high", "<=", 2.25),
        ("ves.value<40", "ves", "value", "<", 40.0),
        ("ves.value>=0", "ves", "value", ">=", 0.0),
    ],
)
def test_gates_are_read(text: str, measure: str, subject: str, operator: str, number: float):
    gate = parse_gate(text)
    assert (gate.measure, gate.subject) == (measure, subject)
    assert (gate.operator, gate.number) == (operator, number)


@pytest.mark.parametrize(
    "text",
    [
        "", "execution_accuracy", "execution_accuracy>=", ">=1", "execution_accuracy=1",
        "execution_accuracy==1", "execution_accuracy>=nan", "execution_accuracy>=inf",
        "execution_accuracy>=1e3", "execution_accuracy>=1,5", "execution_accuracy>=\u22121",
        "execution_accuracy>=1%", "execution_accuracy.mean>=1", "execution_accuracy>=1 or runs>=1",
        "a b>=1", "execution_accuracy>>=1", "execution_accuracy >= - 1", "\ud800>=1",
    ],
)  # fmt: skip
def test_nonsense_is_no_gate(text: str):
    with pytest.raises(GateError, match="a gate is MEASURE"):
        parse_gate(text)


def test_a_value_gate_in_shares_is_a_slip():
    with pytest.raises(GateError, match=r"write 40 for 0\.4"):
        parse_gate("execution_accuracy.value>=0.4")


@pytest.mark.parametrize(
    ("text", "found", "passed"),
    [
        ("execution_accuracy>=10", 10.0, True),
        ("execution_accuracy>10", 10.0, False),
        ("execution_accuracy>=-1", 10.0, True),
        ("execution_accuracy<=10", 10.0, True),
        ("execution_accuracy<10", 10.0, False),
        ("execution_accuracy.value>=50", 50.0, True),
        ("execution_accuracy.value>50.1", 50.0, False),
        ("execution_accuracy.low>=-1", None, False),
        ("execution_accuracy.high>=11", None, True),
    ],
)
def test_gates_hold_or_fail_at_their_limit(text: str, found: float | None, passed: bool):
    result = check_gate(parse_gate(text), compare(record(A), record(B)).measures)
    assert result.passed is passed
    assert found is None or result.found == found


def test_a_gate_is_not_failed_by_a_rounding_error():
    # 7 of 100 lost is a change of -7.000000000000001 in binary numbers.
    measures = compare(record("1" * 100), record("1" * 93 + "0" * 7)).measures
    assert measures["execution_accuracy"].difference.value * 100 < -7
    assert check_gate(parse_gate("execution_accuracy>=-7"), measures).passed


def test_a_gate_on_a_measure_that_was_not_compared_names_those_that_were():
    with pytest.raises(GateError, match=r"'exact>=0': no measure 'exact'.* execution_accuracy"):
        check_gate(parse_gate("exact>=0"), compare(record(A), record(B)).measures)


def test_a_gate_on_the_interval_of_one_item_is_refused():
    with pytest.raises(GateError, match="no interval"):
        check_gate(
            parse_gate("execution_accuracy.low>=0"), compare(record("1"), record("1")).measures
        )


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "a.json", tmp_path / "b.json"
    for path, right, model in zip(paths, (A, B), ("base", "[red]tuned"), strict=True):
        path.write_text(json.dumps(record(right, model)), encoding="utf-8")
    return paths


def shown(verdict: Verdict) -> str:
    console = Console(width=160, no_color=True)
    with console.capture() as capture:
        console.print(verdict.render())
    return capture.get()


def test_the_command_says_whether_all_gates_hold(files: tuple[Path, Path]):
    good = compare_command(*files, gates=["execution_accuracy>=-1", "execution_accuracy.value>=50"])
    bad = compare_command(*files, gates=["execution_accuracy>=-1", "execution_accuracy>=11"])
    assert good.passed and not bad.passed and compare_command(*files).passed
    assert bad.record()["passed"] is False
    assert [gate["passed"] for gate in bad.record()["gates"]] == [True, False]
    assert bad.record()["fixed"] == ["q4", "q5"]
    json.dumps(bad.record(), allow_nan=False)


def test_the_command_shows_measures_gates_and_notes(files: tuple[Path, Path]):
    other = changed(lambda r: r["data"].update(sha256="cd"))
    files[1].write_text(json.dumps(other), encoding="utf-8")
    text = shown(compare_command(*files, gates=["execution_accuracy>=11"]))
    assert "A base → B tuned" in text
    assert "40.0" in text and "50.0" in text and "+10.0 [" in text
    assert "+10.00 points" in text and "fails" in text
    assert "note: the data files differ" in text


def test_a_small_p_is_not_shown_as_zero(tmp_path: Path):
    # 24 databases of one question each, all fixed.
    results = record("0" * 24), record("1" * 24)
    paths = tmp_path / "a.json", tmp_path / "b.json"
    for path, result in zip(paths, results, strict=True):
        for number, one in enumerate(result["items"]):
            one["db_id"] = str(number)
        path.write_text(json.dumps(result), encoding="utf-8")
    verdict = compare_command(*paths)
    assert "McNemar p<0.001, by database p<0.001" in verdict.summary()
    assert shown(verdict).count("<0.001") == 2 and "0.000" not in shown(verdict)


def test_names_of_models_are_no_markup(files: tuple[Path, Path]):
    assert "[red]tuned" in shown(compare_command(*files))


def test_the_summary_is_one_line_with_what_counts(files: tuple[Path, Path]):
    text = compare_command(*files, gates=["execution_accuracy>=11"]).summary()
    assert text.startswith("execution_accuracy 40.0 → 50.0 % (+10.0 [")
    assert "fixed 2, broke 1 of 10; McNemar p=1.000, by database p=" in text
    assert "error reduction 16.7 %" in text and text.endswith("gates: 0 of 1 hold")
    assert "\n" not in text


def test_equal_results_pass_a_gate_on_the_lower_end(files: tuple[Path, Path]):
    assert compare_command(files[0], files[0], ["execution_accuracy.low>=0"]).passed


def test_a_slip_in_a_gate_is_told_before_files_are_read(tmp_path):
    with pytest.raises(GateError):
        compare_command(tmp_path / "none", tmp_path / "none", ["?"])
    with pytest.raises(RecordError, match="can't be read"):
        compare_command(tmp_path / "none", tmp_path / "none", ["runs>=0"])


def test_messages_say_which_file_is_which(files: tuple[Path, Path]):
    files[1].write_text(json.dumps(record(B[:9])), encoding="utf-8")
    with pytest.raises(CompareError, match=r"1 only in A \(a\.json\): 'q9'"):
        compare_command(*files)
