"""Files of predictions: the four forms, and every way in which one can be of other questions."""

import json
from pathlib import Path

import pytest

from eval.ask.api import Answer
from eval.ask.predictions import PredictionsError, read_predictions
from eval.dataset import Question
from eval.task.example import Example
from eval.task.schema import parse_ddl

DDL = "CREATE TABLE t (a INT);"
QUESTIONS = [
    Question(Example(i, db_id, "How many?", "SELECT 1"), Path("x.sqlite"), DDL, parse_ddl(DDL))
    for i, db_id in (("q1", "shop"), ("q2", "shop"), ("q3", "zoo"))
]
A, B, C = "SELECT a FROM t", "SELECT 'é\u2028' FROM t", "WITH x AS (SELECT 1) SELECT * FROM x"
SQL = [A, B, C]


def saved(tmp_path: Path, text: str | bytes, name: str = "p.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def predicted(path: Path, **options: bool) -> list[str]:
    return [answer.predicted for answer in read_predictions(path, QUESTIONS, **options)]


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def rows(*sql: str, name: str = "predicted") -> str:
    return lines(*({"id": f"q{i}", name: text} for i, text in enumerate(sql, start=1)))


def bird(*sql: str, db: str = "shop shop zoo") -> str:
    items = enumerate(zip(sql, db.split(), strict=True))
    return json.dumps({str(i): f"{text}\t----- bird -----\t{d}" for i, (text, d) in items})


@pytest.mark.parametrize(
    "text",
    [
        rows(*SQL),
        rows(*SQL, name="sql"),
        rows(*SQL, name="prediction"),
        rows(*SQL, name="sql_query"),
        "\ufeff" + rows(*SQL).replace("\n", "\r\n"),
        "\n\n" + rows(*SQL).replace("\n", "\n\n"),
        "".join(reversed(rows(*SQL).splitlines(keepends=True))),
        "\n".join(SQL),
        "\n".join(SQL) + "\n",
        "\r\n".join(SQL) + "\r\n\r\n\n",
        f"{A}\n\n{B}\n\n{C}\n",
        f"{A}\tshop\n{B}\tshop\n{C}\tzoo\n",
        f"{A}\n{B}\tshop \n{C}\n",
        bird(*SQL),
        json.dumps({"0": A, "2": C, "1": B}, indent=1),
        json.dumps({"items": [{"id": f"q{i + 1}", "predicted": sql} for i, sql in enumerate(SQL)]}),
    ],
)
def test_every_form_gives_the_predictions_in_the_order_of_the_questions(tmp_path, text):
    assert predicted(saved(tmp_path, text)) == SQL


def test_one_question_may_be_answered_by_one_line_of_json(tmp_path):
    path = saved(tmp_path, json.dumps({"id": "q1", "predicted": A}, indent=2))
    assert read_predictions(path, QUESTIONS[:1]) == [Answer(A)]


def test_a_result_gives_back_all_that_its_server_said(tmp_path):
    answer = {
        "predicted": A,
        "error": None,
        "model": "m@1",
        "confidence": 0.5,
        "server_valid": False,
        "truncated": True,
        "completion_tokens": 7,
        "latency_ms": 1.5,
    }
    items = [{"id": i, "db_id": d, "scores": {}} | answer for i, d in (("q1", "shop"),)]
    items.append({"id": "q2", "db_id": "shop", "predicted": "", "error": "503: busy"})
    path = saved(tmp_path, json.dumps({"format": 2, "items": items}))
    found = read_predictions(path, QUESTIONS[:2])
    assert found == [
        Answer(A, None, "m@1", 0.5, False, True, 7, 1.5),
        Answer(error="503: busy"),
    ]


def test_a_confidence_is_read_and_null_predicts_nothing(tmp_path):
    text = lines(
        {"id": "q1", "predicted": A, "confidence": 0},
        {"id": "q2", "predicted": None, "confidence": None},
        {"id": "q3", "predicted": "\ud800\x00", "confidence": 0.25, "db_id": "zoo"},
    )
    assert read_predictions(saved(tmp_path, text), QUESTIONS) == [
        Answer(A, confidence=0),
        Answer(),
        Answer("\ud800\x00", confidence=0.25),
    ]


def test_a_blank_line_of_text_is_an_empty_prediction(tmp_path):
    assert predicted(saved(tmp_path, f"{A}\n\n{C}\n")) == [A, "", C]
    assert predicted(saved(tmp_path, f"{A}\n{B}\n\n")) == [A, B, ""]


def test_a_tab_within_a_query_is_no_database(tmp_path):
    tabbed = "SELECT a\tFROM\tt"
    assert predicted(saved(tmp_path, f"{tabbed}\n{B}\n{C}\n")) == [tabbed, B, C]


@pytest.mark.parametrize(
    "text", [rows(*SQL, A, A), "\n".join([*SQL, A]), json.dumps({"0": A, "1": B, "2": C, "3": A})]
)
def test_what_is_for_later_questions_is_left_out_of_a_part_only(tmp_path, text):
    path = saved(tmp_path, text)
    assert predicted(path, is_part=True) == SQL
    with pytest.raises(PredictionsError):
        predicted(path)


def one(**fields: object) -> str:
    return rows(A, B) + json.dumps({"id": "q3", "predicted": C} | fields)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": is empty; expected a result"),
        (" \n\n", ": is empty"),
        (b"SELECT '\xff'", ": not UTF-8: invalid start byte at 8"),
        ("[1, 2]", ": no predictions; expected a result"),
        ("{}", ": no predictions"),
        ('{"data": {"0": "SELECT 1"}}', ": no predictions"),
        ('{"id": "q1", "predicted": "x', ":1: not JSON: Unterminated string"),
        ('{\n "0": "SELECT 1",\n "1": \n}', ":4: not JSON: Expecting value"),
        (rows(A, B) + '{"id": "q3", "pre', ":3: not JSON: Unterminated string"),
        (rows(A) + "[" * 100_000, ":2: not JSON"),
        ("[" * 100_000, ": not JSON"),
        (rows(A) + "5", ":2: expected an object, found int"),
        (rows(A) + '{"id": "q2", "id": "q3"}', ":2: not JSON: field 'id' is there twice"),
        ('{"0": "a", "0": "b"}', ": not JSON: field '0' is there twice"),
        (one(colour=1), ":3: unknown field 'colour': remove it; known: id, db_id"),
        (one(sql=C), ":3: has both 'predicted' and 'sql': keep one"),
        (rows(A, B) + '{"id": "q3"}', ":3: has no field 'predicted'"),
        (rows(A, B) + '{"predicted": "x"}', ":3: field 'id' must be text"),
        (one(id=3), ":3: field 'id' must be text"),
        (one(predicted=5), ":3: field 'predicted' must be text, is int"),
        (one(predicted=["x"]), ":3: field 'predicted' must be text, is list"),
        (one(confidence=1.01), ":3: field 'confidence' must be within 0..1, is 1.01"),
        (one(confidence=-0.1), ":3: field 'confidence' must be within 0..1"),
        (one(confidence=float("nan")), ":3: field 'confidence' must be within 0..1, is nan"),
        (one(confidence=True), ":3: field 'confidence' must be float or int, is bool"),
        (one(confidence="0.5"), ":3: field 'confidence' must be float or int, is str"),
        (one(db_id="shop"), ":3: is for database 'shop', but question 'q3' is on 'zoo'"),
        (one(id="q9"), ":3: no question 'q9' in the data set"),
        (one(id="q1"), ":3: a second prediction for 'q1'; the first: "),
        (rows(A), ": no prediction for 2 of 3 questions, first 'q2'"),
        (f"{A}\n{B}\n", ": 2 lines with a query, but there are 3 questions"),
        (f"{A}\n\n\n{B}\n", ": 2 lines with a query, but there are 3 questions"),
        (f"{A}\tshop\n{B}\tzoo\n{C}\tshop\n", ":2: is for database 'zoo', but question 'q2' is on"),
        (bird(*SQL, db="zoo shop shop"), ": key '0': is for database 'zoo'"),
        ('{"0": "a", "1": 5, "2": "c"}', ": key '1': field 'predicted' must be text, is int"),
        ('{"0": "a", "1": "b"}', ": no prediction for 1 of 3 questions, first 'q3'"),
        ('{"0": "a", "1": "b", "2": "c", "7": "d"}', ": key '7': no question '7' in the data set"),
        ('{"1": "a", "2": "b", "3": "c"}', ": key '3': no question '3' in the data set"),
        ('{"0": "a", "00": "b"}', ": key '00': a second prediction for '00'; the first: "),
        ('{"items": []}', ": no prediction for 3 of 3 questions, first 'q1'"),
        ('{"items": [3]}', ": item 1: no item of a result"),
        ('{"items": [{"id": "q1", "predicted": 3}]}', ": item 1, 'q1': field 'predicted' must be"),
        ('{"items": [{"id": "q3", "db_id": "shop"}]}', ": item 1: is for database 'shop'"),
        ('{"format": 99, "items": []}', ": format 99, this version reads 1 to "),
        ('{"format": "2", "items": []}', ": format '2', this version reads 1 to "),
    ],
)  # fmt: skip
def test_a_file_that_can_not_be_meant_is_refused_with_its_place(tmp_path, text, message):
    path = saved(tmp_path, text)
    with pytest.raises(PredictionsError) as caught:
        read_predictions(path, QUESTIONS)
    assert str(caught.value).startswith(str(path) + message)


@pytest.mark.parametrize(("name", "said"), [(".", "Is a directory"), ("gone", "No such file")])
def test_what_is_no_file_is_refused(tmp_path, name, said):
    with pytest.raises(PredictionsError, match=f"can't be read: {said}"):
        read_predictions(tmp_path / name, QUESTIONS)
