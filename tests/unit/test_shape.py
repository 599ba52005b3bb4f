"""Hardness by Spider's criteria and the shape of a query, from a table of queries."""

import json
from collections import Counter
from pathlib import Path

import pytest

from eval.queries.shape import HARDNESS, SHAPES, hardness, shape
from eval.task.samples import sample_examples

FIXTURE = Path(__file__).parents[1] / "fixtures" / "shape.jsonl"
CASES = [json.loads(line) for line in FIXTURE.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: ascii(case["sql"])[:70])
def test_hardness_and_shape(case):
    assert hardness(case["sql"]) == case["hardness"]
    assert list(shape(case["sql"])) == case["shape"]


def test_every_hardness_and_shape_is_known_by_its_closed_set():
    examples = sample_examples("train")
    levels = Counter(hardness(example.sql) for example in examples)
    shapes = Counter(name for example in examples for name in shape(example.sql))
    assert set(levels) <= set(HARDNESS) - {"unknown"}
    assert set(shapes) <= set(SHAPES)
    assert len(levels) == 4


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("SELECT RANK() OVER (ORDER BY price) FROM products", "window"),
        ("WITH q AS (SELECT name FROM users) SELECT name FROM q", "cte"),
        ("SELECT COUNT(*) FROM (SELECT city FROM users) AS q", "subquery"),
        ("SELECT (SELECT MAX(id) FROM orders) FROM users", "subquery"),
        ("SELECT name FROM users WHERE EXISTS (SELECT 1 FROM orders)", "subquery"),
        ("SELECT name FROM users, orders, reviews", "many_joins"),
        ("SELECT name FROM users WHERE name NOT LIKE 'a%'", "like"),
    ],
)
def test_a_shape_is_seen(sql, name):
    assert name in shape(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT name FROM users UNION SELECT name FROM products",
        "SELECT a FROM t UNION SELECT b FROM u INTERSECT SELECT c FROM v",
        "WITH q AS (SELECT name FROM users) SELECT name FROM q",
    ],
)
def test_a_member_of_a_set_operation_and_a_cte_are_no_subqueries(sql):
    assert "subquery" not in shape(sql)


def test_shapes_come_in_their_order():
    found = shape("SELECT city, COUNT(*) FROM users GROUP BY city ORDER BY city LIMIT 1")
    assert list(found) == sorted(found, key=SHAPES.index)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT a, d FROM t WHERE b NOT IN (1) AND c NOT IN (2)", "hard"),
        ("SELECT a, d FROM t WHERE b IN (1) AND c IN (2)", "medium"),
        ("SELECT a FROM t WHERE b = 1 AND c = 2 AND d = 3", "medium"),
        ("SELECT a FROM t JOIN u ON t.x = u.x OR t.y = u.y", "medium"),
        ("SELECT a FROM t UNION SELECT b FROM u ORDER BY 1 LIMIT 3", "hard"),
        ("SELECT a FROM t WHERE b > (SELECT 1) AND c > (SELECT 2)", "extra"),
    ],
)
def test_the_official_way_of_counting_is_kept(sql, expected):
    assert hardness(sql) == expected


def test_a_query_of_another_dialect_is_read_in_it():
    sql = "SELECT `a` FROM `t` LIMIT 1"
    assert (hardness(sql, "mysql"), hardness(sql, "postgres")) == ("easy", "unknown")
