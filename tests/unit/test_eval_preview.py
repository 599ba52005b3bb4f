"""What a reader sees of an answer: the first rows, as JSON that any reader takes."""

import json
import math
import sqlite3
from contextlib import closing

import pytest

from eval.preview import ROWS, TEXT_CHARACTERS, answer_of, preview
from eval.task.sqlite_judge import Answer, restrict, run_query
from tests.unit.evaluating import no_constant

LONG = "x" * (TEXT_CHARACTERS + 1)


def shown(value: object) -> object:
    found = preview(Answer(((value,),), columns=("c",)))
    assert found is not None
    text = json.dumps(found)
    assert json.loads(text, parse_constant=no_constant) == found
    return found["rows"][0][0]


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, None),
        (0, 0),
        (1, 1),
        (1.0, 1.0),
        (-(2**63), -(2**63)),
        (2**53 + 1, 2**53 + 1),
        (1e308, 1e308),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        ("", ""),
        ("NULL", "NULL"),
        ("a\x00b\u2028", "a\x00b\u2028"),
        ("\ud800", "\ud800"),
        ("x" * TEXT_CHARACTERS, "x" * TEXT_CHARACTERS),
        (LONG, "x" * (TEXT_CHARACTERS - 1) + "…"),
        (b"", "x''"),
        (b"\x00\xff", "x'00ff'"),
        (bytes(10**6), "x'" + "0" * (TEXT_CHARACTERS - 3) + "…"),
    ],
)
def test_one_cell(value, cell):
    found = shown(value)
    assert found == cell
    assert type(found) is type(cell)


@pytest.mark.parametrize("num_rows", [0, 1, ROWS, ROWS + 1, 10_000])
def test_the_first_rows_are_kept_and_all_are_counted(num_rows):
    found = preview(Answer(tuple((i,) for i in range(num_rows)), columns=("n",)))
    assert found == {
        "columns": ["n"],
        "rows": [[i] for i in range(min(num_rows, ROWS))],
        "num_rows": num_rows,
    }


def test_a_query_that_failed_has_no_rows_to_show():
    assert preview(Answer(error="no such table: t")) is None
    assert answer_of(None, "no such table: t") == Answer(error="no such table: t")
    assert answer_of(None, None).error == "no answer"


def test_an_empty_answer_keeps_its_columns():
    found = preview(Answer(columns=("a", LONG)))
    assert found == {"columns": ["a", "x" * (TEXT_CHARACTERS - 1) + "…"], "rows": [], "num_rows": 0}
    assert answer_of(found, None).columns == tuple(found["columns"])


def test_what_was_kept_can_be_read_as_an_answer_again():
    answer = Answer(((1, "a", None), (2.5, "b", "x")), columns=("i", "t", "n"))
    assert answer_of(preview(answer), None) == answer


def test_what_sqlite_itself_returns_can_be_shown():
    with closing(sqlite3.connect(":memory:")) as db:
        restrict(db)
        answer = run_query(
            db, "SELECT 9e999, -9e999, 9e999 - 9e999, x'ff', CAST(x'ff41' AS TEXT), 1 AS \"a\nb\""
        )
    found = preview(answer)
    assert found is not None
    assert found["rows"] == [["inf", "-inf", None, "x'ff'", "\ufffdA", 1]]
    assert found["columns"][-1] == "a\nb"
