"""Queries of other dialects run on SQLite, and mean there what they meant."""

import sqlite3
from contextlib import closing

import pytest
from sqlglot import parse_one

from eval.task.synthesis.translate import in_sqlite

ROWS = [(1, "2024-03-09 12:00:00", "Abc"), (2, "2023-12-31 23:59:59", "abc")]


@pytest.mark.parametrize(
    ("dialect", "condition", "ids"),
    [
        ("postgres", "EXTRACT(YEAR FROM at) = 2024", [1]),
        ("postgres", "EXTRACT(MONTH FROM at) = 12", [2]),
        ("postgres", "date_trunc('month', at) = '2024-03-01'", [1]),
        ("postgres", "at::date = '2023-12-31'", [2]),
        ("postgres", "left(name, 1) = 'A'", [1]),
        ("postgres", "name LIKE 'A%'", [1]),
        ("postgres", "name LIKE '_bc'", [1, 2]),
        ("postgres", "name ILIKE 'A%'", [1, 2]),
        ("mysql", "YEAR(at) = 2023", [2]),
        ("mysql", "DAY(at) = 9", [1]),
        ("mysql", "name LIKE 'A%'", [1, 2]),
        ("tsql", "MONTH(at) = 3", [1]),
        ("sqlite", "strftime('%Y', at) = '2024'", [1]),
    ],
)
def test_a_condition_finds_the_same_rows(dialect: str, condition: str, ids: list[int]) -> None:
    tree = parse_one(f"SELECT id FROM t WHERE {condition} ORDER BY id", dialect=dialect)
    sql = in_sqlite(tree, dialect)
    assert sql is not None
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE TABLE t (id INT, at TEXT, name TEXT)")
        db.executemany("INSERT INTO t VALUES (?, ?, ?)", ROWS)
        assert [row[0] for row in db.execute(sql)] == ids


def test_what_sqlite_can_not_say_is_none() -> None:
    tree = parse_one("SELECT a FROM t QUALIFY row_number() OVER (ORDER BY a) = 1", dialect="duckdb")
    sql = in_sqlite(tree, "duckdb")
    assert sql is None or "QUALIFY" not in sql
    pivot = "SELECT * FROM t PIVOT (sum(a) FOR b IN ('x', 'y'))"
    assert in_sqlite(parse_one(pivot, dialect="snowflake"), "snowflake") is None
