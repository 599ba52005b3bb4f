"""Classes of failures from a table of pairs, and the diff of two texts."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.queries.diagnose import CLASSES, diagnose, sql_diff
from eval.task.samples import sample_examples, sample_schema

FIXTURE = Path(__file__).parents[1] / "fixtures" / "diagnose.jsonl"
CASES = [json.loads(line) for line in FIXTURE.read_text(encoding="utf-8").splitlines()]
SHOP = sample_schema("shop")
USERS = "SELECT name FROM users"
PIECES = [
    *"SELECT name FROM users WHERE ( ) * , 'a' -- /* ; 1 = UNION JOIN ON NOT COUNT( .".split(),
    '"',
    "'",
    "\x00",
    "\ud800",
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: ascii(case["predicted"])[:70])
def test_the_class_that_explains_most_comes_first(case):
    schema = sample_schema(case["db"])
    found = diagnose(case["predicted"], case["gold"], schema, execution_error=case.get("error"))
    assert found[0] == case["expected"]


def test_the_table_has_each_class_at_least_once():
    assert {case["expected"] for case in CASES} == set(CLASSES)


def test_all_classes_that_apply_follow_in_order():
    gold = "SELECT city, COUNT(*) FROM users WHERE id > 3 GROUP BY city ORDER BY city LIMIT 5"
    predicted = "SELECT city, COUNT(*) FROM users WHERE id > 4 GROUP BY country LIMIT 6"
    found = diagnose(predicted, gold, SHOP)
    assert found == ("wrong_value", "wrong_group", "wrong_order", "wrong_limit")


def test_a_wrong_value_in_a_nested_query_is_seen_there():
    inner = "SELECT name FROM users WHERE id IN (SELECT user_id FROM orders WHERE status = '{}')"
    assert diagnose(inner.format("a"), inner.format("b"), SHOP) == ("wrong_value",)


def test_either_column_of_a_join_may_be_named():
    query = (
        "SELECT u.city, COUNT(*) FROM users AS u JOIN orders AS o ON u.id = o.user_id GROUP BY {}"
    )
    found = diagnose(query.format("u.id"), query.format("o.user_id"), SHOP)
    assert "wrong_group" not in found


def test_what_the_database_said_explains_before_the_clauses_do():
    found = diagnose("SELECT city FROM users", USERS, SHOP, execution_error="over 10 s")
    assert found == ("timed_out", "wrong_column")


def test_an_unreadable_prediction_has_no_clauses_to_compare():
    assert diagnose("SELECT FROM WHERE", USERS, SHOP) == ("unparsable",)


def test_a_very_large_query_is_not_taken_apart():
    wide = f"{USERS} WHERE id IN ({', '.join(map(str, range(900)))})"
    assert diagnose(wide, USERS, SHOP) == ("other",)


def test_another_dialect_is_read_as_such():
    gold = "SELECT `city` FROM `users`"
    assert diagnose(USERS, gold, SHOP, dialect="mysql") == ("wrong_column",)


@pytest.mark.parametrize("example", sample_examples("test"), ids=lambda example: example.id)
def test_a_gold_query_has_no_difference_from_itself(example):
    found = diagnose(example.sql, example.sql, sample_schema(example.db_id))
    assert found == ("equivalent_looking",)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(PIECES), max_size=14), st.booleans())
def test_no_text_makes_it_raise(pieces, is_gold):
    text = " ".join(pieces)
    pair = (USERS, text) if is_gold else (text, USERS)
    found = diagnose(*pair, SHOP)
    assert found
    assert set(found) <= set(CLASSES)
    for runs in sql_diff(*pair):
        assert {kind for _, kind in runs} <= {"same", "removed", "added"}


def test_the_diff_marks_what_differs_and_keeps_the_rest():
    predicted, gold = sql_diff(
        "select name from users where city = 'Rome' limit 3",
        "SELECT name FROM users WHERE city = 'Oslo' LIMIT 3",
    )
    assert [text for text, kind in predicted if kind == "removed"] == ["'Rome'"]
    assert [text for text, kind in gold if kind == "added"] == ["'Oslo'"]
    assert "".join(text for text, _ in gold).splitlines()[0] == "SELECT"


def test_equal_queries_differ_nowhere():
    predicted, gold = sql_diff("select NAME  from users", USERS)
    assert {kind for _, kind in (*predicted, *gold)} == {"same"}


@pytest.mark.parametrize("text", ["", "SELECT (", "not SQL at all", "\x00", "'\ud800", "a\nb"])
def test_a_text_that_cannot_be_parsed_is_shown_as_it_is(text):
    predicted, gold = sql_diff(text, USERS)
    if text != "not SQL at all":
        assert "".join(run for run, _ in predicted) == text
    assert "".join(run for run, _ in gold).split() == USERS.split()


def test_strings_that_differ_in_case_differ():
    predicted, _ = sql_diff("SELECT 'a'", "SELECT 'A'")
    assert predicted[-1] == ("'a'", "removed")


def test_a_long_text_is_compared_by_lines():
    lines = [
        f"-- line {number} of a text that is no query, with many words" for number in range(500)
    ]
    predicted, gold = sql_diff("\n".join(lines), "\n".join([*lines[:250], "x", *lines[250:]]))
    assert [kind for _, kind in predicted] == ["same"]
    assert ("x\n", "added") in gold
