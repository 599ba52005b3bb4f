"""The HTML report as text: what it holds, that it is one file, and what a hostile record does."""

import base64
import copy
import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from eval.comparison.compare import compare, comparison_record
from eval.page import text
from eval.page.examples import options, script_json
from eval.page.render import render, write_page
from eval.record import Record, load_record
from eval.stats import estimate

FIXTURE = Path(__file__).parents[1] / "fixtures" / "eval_record.json"
HOSTILE = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>"
UNSEEN = "\x00 \ud800 \u2028 \u202e"


@pytest.fixture
def record() -> Record:
    return load_record(FIXTURE)


def data_of(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def squeezed(sql: str) -> str:
    return "".join(sql.lower().split())


def worse(record: Record) -> Record:
    """The same run with two right items wrong and one wrong item right."""
    changed = copy.deepcopy(record)
    right = [i for i in changed["items"] if i["scores"]["execution_accuracy"] == 1]
    wrong = [i for i in changed["items"] if i["scores"]["execution_accuracy"] == 0]
    for item in right[:2]:
        item["scores"]["execution_accuracy"] = 0.0
    wrong[0]["scores"]["execution_accuracy"] = 1.0
    return changed | {"model": "base"}


def with_hostile_text(record: Record, hostile: str) -> Record:
    """Every text of the record replaced, keys that come from outside included."""
    changed: Any = copy.deepcopy(record)
    for name in ("command", "model", "api", "created"):
        changed[name] = hostile
    changed |= {"versions": {hostile: hostile}, "versions_used": [hostile, "b"], "notes": [hostile]}
    changed["data"]["name"] = changed["judge"]["description"] = hostile
    changed["groups"]["db_id"] = {hostile: next(iter(changed["groups"]["db_id"].values()))}
    changed["error_classes"], changed["flags"] = {hostile: 1}, {hostile: 1}
    changed["databases"] = {hostile: {"ddl": hostile}}
    changed["measures"][hostile] = changed["measures"]["runs"]
    for item in changed["items"]:
        for name in ("db_id", "question", "gold", "predicted", "error", "execution_error", "model"):
            item[name] = hostile
        item |= {"id": f"{item['id']} {hostile}", "golds": [hostile, "SELECT 1"]}
        item |= {"hardness": hostile, "shape": [hostile], "flags": [hostile]}
        item |= {"error_classes": [hostile]}
        item["gold_answer"] = {"columns": [hostile], "rows": [[hostile]], "num_rows": 1}
    return changed  # type: ignore[no-any-return]


def test_the_same_record_gives_the_same_page(record: Record) -> None:
    comparison = comparison_record(compare(worse(record), record))
    assert render(record, comparison) == render(copy.deepcopy(record), copy.deepcopy(comparison))


def test_the_page_names_model_data_and_the_headline_with_its_interval(record: Record) -> None:
    page = render(record)
    main = record["measures"]["execution_accuracy"]
    for words in (
        "samples@3f2a9c0d1e4b</h1>",
        "samples/test.jsonl",
        "22 November 2026",
        text.percent(main["value"]),
        text.span(main["interval"]),
        f"± {text.bare(main['stderr'])}",
    ):
        assert words in page


def test_every_measure_has_a_row_with_its_n(record: Record) -> None:
    page = render(record)
    for name, found in record["measures"].items():
        row = re.search(rf'<th scope="row">{re.escape(text.label(name))}.*?</tr>', page, re.DOTALL)
        assert row, name
        assert text.percent(found["value"]) in row[0]
        assert f"{found['n']}</td>" in row[0]


def test_nothing_is_fetched_and_only_its_own_style_and_script_may_run(record: Record) -> None:
    page = render(record)
    assert re.findall(r"""(?:src|href|action)=["'](?!#|data:)""", page) == []
    assert re.findall(r"url\(|@import|\bfetch\(|XMLHttpRequest|\simport\s", page) == []
    assert re.findall(r"""\sstyle=|\son\w+=["']""", page) == []
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', page)
    assert policy
    assert policy[1].startswith("default-src &#39;none&#39;;")
    for source in re.findall(r"<(?:style|script type=\"module\")>(.*?)</", page, re.DOTALL):
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"&#39;sha256-{digest}&#39;" in policy[1]


def test_all_items_travel_with_sql_answers_and_facets(record: Record) -> None:
    data = data_of(render(record))
    assert [item["id"] for item in data["items"]] == [item["id"] for item in record["items"]]
    for item, given in zip(data["items"], record["items"], strict=True):
        predicted = "".join("".join(piece) for piece in item["predicted"])
        assert squeezed(predicted) == squeezed(given["predicted"])
        assert item["class"] == given["error_classes"]
        assert len(item["scores"]) == len(data["measures"])
    verdicts = {item["id"]: item["verdict"] for item in data["items"]}
    assert verdicts["shop-002"] == "right"
    assert verdicts["farm-008"] == "wrong"
    assert verdicts["fleet-008"] == "unjudged"


def test_equal_answers_are_sent_once_and_numbers_keep_their_type(record: Record) -> None:
    record["items"][0]["gold_answer"] = {
        "columns": ["n", "name"],
        "rows": [[1.0, "1"], [2**63, None], [float("nan"), True]],
        "num_rows": 431,
    }
    record["items"][0]["predicted_answer"] = None
    first, *others = (item["answers"] for item in data_of(render(record))["items"])
    rows = [["1.0", "1"], [str(2**63), None], ["nan", "True"]]
    assert first[0] is None
    assert first[1] == {"columns": ["n", "name"], "numeric": [0, 0], "rows": rows, "n": 431}
    assert {len(answers) for answers in others} == {1, 2}


def test_a_hostile_record_stays_text(record: Record) -> None:
    page = render(with_hostile_text(record, HOSTILE))
    assert page.count("<script") == 2
    assert page.count("</script>") == 2
    assert "<img" not in page
    assert "<!--" not in page
    assert data_of(page)["items"][0]["question"] == HOSTILE


def test_text_that_cannot_be_seen_is_written_as_escapes(record: Record, tmp_path: Path) -> None:
    write_page(with_hostile_text(record, UNSEEN), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not set("\x00\u2028\u202e") & set(page)
    assert r"\u0000 \ud800 \u2028 \u202e</h1>" in page
    assert data_of(page)["items"][0]["question"] == r"\u0000 \ud800 \u2028 \u202e"
    assert list(tmp_path.iterdir()) == [tmp_path / "page.html"]


def test_a_huge_query_is_shown_whole(record: Record) -> None:
    huge = "SELECT " + ", ".join(f"column_{n}" for n in range(9_000))
    assert len(huge) > 100_000
    record["items"][0]["predicted"] = huge
    item = data_of(render(record))["items"][0]
    assert squeezed("".join("".join(piece) for piece in item["predicted"])) == squeezed(huge)


def test_a_prediction_that_the_diff_lays_out_anew_is_kept_as_it_was_written(record: Record) -> None:
    written = "select /* all */ name from users -- sure"
    record["items"][0]["predicted"] = written
    items = data_of(render(record))["items"]
    assert items[0]["written"] == written
    assert "sure" not in str(items[0]["predicted"])
    assert items[1]["written"] == ""


def test_a_comparison_adds_its_section_filters_and_error_reduction(record: Record) -> None:
    comparison = comparison_record(compare(worse(record), record))
    page = render(record, comparison)
    assert '<section id="comparison"' in page
    assert 'href="#change=fixed">2</a>' in page
    assert 'href="#change=broke">1</a>' in page
    assert text.percent(comparison["error_reduction"]["value"]) in page  # type: ignore[index]
    changes = {item["id"]: item["change"] for item in data_of(page)["items"]}
    assert [name for name, change in changes.items() if change == ["fixed"]] == comparison["fixed"]
    assert options(record, comparison)["change"] == [("fixed", 2), ("broke", 1)]
    assert '<section id="comparison"' not in render(record)


def test_a_comparison_without_change_links_to_nothing(record: Record) -> None:
    page = render(record, comparison_record(compare(record, record)))
    assert "#change=" not in page
    assert page.count("<dd>0<span>") == 2


@pytest.mark.parametrize("part", ["calibration", "groups", "error_classes", "flags", "notes"])
def test_a_missing_part_leaves_its_section_out(record: Record, part: str) -> None:
    empty: Any = None if part == "calibration" else type(record[part])()  # type: ignore[literal-required]
    page = render(record | {part: empty})  # type: ignore[arg-type]
    for other in ("calibration", "groups", "error_classes"):
        section = {"calibration": "confidence", "error_classes": "errors"}.get(other, other)
        assert (f'<section id="{section}"' in page) == (other != part)


def nothing(record: Record) -> Record:
    empty: Any = {"items": [], "measures": {}, "groups": {}, "error_classes": {}, "flags": {}}
    return record | empty | {"calibration": None, "databases": {}, "notes": []}  # type: ignore[no-any-return]


def test_a_record_without_items_says_so(record: Record) -> None:
    page = render(nothing(record))
    assert f"0{text.SPACE}questions" in page
    assert "This result holds no execution accuracy." in page
    assert data_of(page)["items"] == []


def test_one_item_on_one_database_has_no_interval(record: Record) -> None:
    found = estimate([1.0], ["shop"])
    single: Any = {"value": found.value, "stderr": None, "n": 1, "num_clusters": 1}
    single |= {"interval": None, "bootstrap": None}
    changed: Any = nothing(record) | {"items": record["items"][:1]}
    page = render(changed | {"measures": {"execution_accuracy": single}})
    assert f"100.0{text.SPACE}%" in page
    assert "No interval: there is one question." in page
    assert "±" not in page


def test_values_that_are_all_equal_have_no_interval_to_show(record: Record) -> None:
    equal: Any = {"value": 0.0, "stderr": 0.0, "n": 12, "num_clusters": 6}
    equal |= {"interval": None, "bootstrap": None}
    page = render(record | {"measures": {"execution_accuracy": equal}, "groups": {}})
    assert "No interval: all values are equal." in page
    assert '<td class="number range-text">–</td>' in page
    assert "±" not in page
    assert 'class="range"' not in page


def test_each_bar_of_an_error_class_counts_the_examples_of_its_link(record: Record) -> None:
    lucky = record["items"][0]
    assert lucky["scores"]["execution_accuracy"] == 1
    lucky |= {"error_classes": ["wrong_value"], "flags": ["lucky_match"]}
    page = render(record)
    causes = Counter(cause for item in data_of(page)["items"] for cause in item["cause"])
    assert causes == record["error_classes"]
    assert set(re.findall('href="#cause=(.*?)"', page)) == set(causes)
    assert dict(options(record, None)["class"])["wrong_value"] == 2
    assert [item["lucky"] for item in data_of(page)["items"]] == [True] + [False] * 11


@pytest.mark.parametrize(("accuracy", "outcome"), [(0.0, "wrong"), (1.0, "right")])
def test_calibration_where_all_answers_are_alike_says_so_and_shows_no_figures(
    record: Record, accuracy: float, outcome: str
) -> None:
    known = record["calibration"]
    assert known
    bins: Any = [held | {"accuracy": accuracy} for held in known["bins"]]
    changed: Any = known | {"auroc": None, "brier_skill": None, "ece": 0.0, "bins": bins}
    page = render(record | {"calibration": changed})
    assert f"All answers are {outcome}: nothing to rank or calibrate." in page
    assert f"is {text.percent(0.6427)}" in page
    assert "Calibration error" not in page
    assert "Reliability" not in page


def test_versions_are_those_of_the_judge_and_of_a_file_only_what_judged_it(record: Record) -> None:
    record["versions"] = {"python": "3.11.9", "vllm": "0.32.0", "sqlglot": "30.30.0"}
    record["judge"]["engine"] = "sqlite 3.40.1"
    told = "<dt>Judged with</dt><dd>python 3.11.9, {}sqlglot 30.30.0, sqlite 3.40.1</dd>"
    assert told.format("vllm 0.32.0, ") in render(record)
    assert told.format("") in render(record | {"api": "predictions"})


def test_what_one_must_know_is_told_once_in_sentences(record: Record) -> None:
    flags = {"empty_gold": 3, "zero_gold": 0}
    page = render(record | {"notes": ["two versions answered: a, b"], "flags": flags})
    notes = re.search(r'<section class="notes".*?</section>', page, re.DOTALL)
    assert notes
    first, second = re.findall("<li>(.*?)</li>", notes[0])
    assert first == "Two versions answered: a, b."
    assert second.startswith(f'<a href="#flag=empty_gold">3{text.SPACE}questions</a> of 12: the ')
    assert '<section class="notes"' not in render(
        record | {"notes": [], "flags": {"zero_gold": 0}, "num_errors": 1}
    )


def test_a_measure_without_value_shows_a_dash(record: Record) -> None:
    empty: Any = {"value": float("nan"), "stderr": None, "n": 0, "num_clusters": 0}
    empty |= {"interval": None, "bootstrap": None}
    changed: Any = record["measures"] | {"ves": empty, "odd": None}
    page = render(record | {"measures": changed})
    assert "nan" not in page.split("application/json")[0]
    assert re.search(r'<th scope="row">Odd</th>\s*<td class="number value">–</td>', page)


def test_script_json_cannot_end_its_element() -> None:
    assert script_json({"a": HOSTILE}).count("<") == 0
    assert json.loads(script_json({"a": HOSTILE})) == {"a": HOSTILE}
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json(float("nan"))
