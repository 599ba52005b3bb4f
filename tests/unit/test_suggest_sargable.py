"""Conditions on something made of a column: which become conditions on the column, which don't."""

import pytest

from server.suggest import Kind, Proof
from tests.unit.suggesting import advice, the_one

RANGES = [
    ("strftime('%Y', day) = '2024'", "day >= '2024-01-01' AND day < '2025-01-01'"),
    ("strftime('%Y', at) > '2024'", "at >= '2025-01-01'"),
    ("strftime('%Y', at) >= '2024'", "at >= '2024-01-01'"),
    ("strftime('%Y', at) < '2024'", "at < '2024-01-01'"),
    ("strftime('%Y', at) <= '2024'", "at < '2025-01-01'"),
    ("'2024' < strftime('%Y', at)", "at >= '2025-01-01'"),
    ("strftime('%Y', at) BETWEEN '2020' AND '2022'", "at >= '2020-01-01' AND at < '2023-01-01'"),
    ("CAST(strftime('%Y', day) AS INTEGER) >= 2024", "day >= '2024-01-01'"),
    ("strftime('%Y-%m', at) = '2024-02'", "at >= '2024-02-01' AND at < '2024-03-01'"),
    ("strftime('%Y-%m', at) = '2024-12'", "at >= '2024-12-01' AND at < '2025-01-01'"),
    ("date(at) = '2024-02-28'", "at >= '2024-02-28' AND at < '2024-02-29'"),
    ("date(at) <= '2024-02-29'", "at < '2024-03-01'"),
    ("date(at) > date('now', '-7 days')", "at >= DATE('now', '-7 days', '+1 day')"),
    ("date(at) < CURRENT_DATE", "at < DATE('now')"),
    (
        "strftime('%Y-%m', at) = strftime('%Y-%m', 'now', '-1 month')",
        "at >= DATE('now', '-1 month', 'start of month') "
        "AND at < DATE('now', '-1 month', 'start of month', '+1 month')",
    ),
    ("substr(day, 1, 4) = '2024'", "day >= '2024-01-01' AND day < '2025-01-01'"),
    ("day LIKE '2024-03%'", "day >= '2024-03-01' AND day < '2024-04-01'"),
    (
        "strftime('%Y', at) = '2024' OR n = 1",
        "(at >= '2024-01-01' AND at < '2025-01-01') OR n = 1",
    ),
    ("substr(code, 1, 2) = 'AB'", "code GLOB 'AB*'"),
    ("n + 3 > 10", "n > 7"),
    ("10 < n + 3", "n > 7"),
    ("n - 3 <= 10", "n <= 13"),
    ("100 - n >= 10", "n <= 90"),
    ("50 - n BETWEEN 10 AND 20", "n BETWEEN 30 AND 40"),
    ("n * 3 > 10", "n > 3"),
    ("n * 3 >= 10", "n >= 4"),
    ("n * 3 < 10", "n < 4"),
    ("n * 3 <= 10", "n <= 3"),
    ("n * 3 = 12", "n = 4"),
    ("n * 2 BETWEEN 5 AND 9", "n BETWEEN 3 AND 4"),
    ("coalesce(n, 0) = 5", "n = 5"),
    ("code = 5", "code = '5'"),
    ("n = '7'", "n = 7"),
]


@pytest.mark.parametrize(("condition", "instead"), RANGES)
def test_a_condition_on_a_computed_value_becomes_one_on_the_column(
    condition: str, instead: str
) -> None:
    found = the_one(f"SELECT name FROM events WHERE {condition}", Kind.NON_SARGABLE)
    assert found.rewrite == f"SELECT name FROM events WHERE {instead}"
    assert found.proof is Proof.EQUIVALENT
    assert found.num_databases >= 4


@pytest.mark.parametrize(
    "condition",
    [
        "strftime('%m', day) = '03'",
        "strftime('%Y', day) = 2024",  # text is never a number: no row meets it
        "strftime('%Y', day) = '24'",
        "strftime('%Y', n) = '2024'",  # a Julian day number
        "strftime('%Y-%m', day) = '2024-13'",
        "lower(name) = 'gala'",
        "n * 3 = 10",
        "n * -3 > 10",
        "n + 1.5 > 10",
        "price * 2 > 10",  # floating point rounds
        "coalesce(n, 0) = 0",
        "code < 5",
        "abs(n) = 5",
        "name LIKE '%gala'",
        "name LIKE '_ala'",
        "substr(name, 1, 4) = 'gal'",
        "substr(code, 1, 2) = 'A*'",
    ],
)
def test_where_no_other_condition_is_known_to_say_the_same_there_is_only_advice(
    condition: str,
) -> None:
    found = the_one(f"SELECT name FROM events WHERE {condition}", Kind.NON_SARGABLE)
    assert (found.rewrite, found.proof, found.verdict) == (None, Proof.NO_REWRITE, "no rewrite")
    assert "events." in found.message


@pytest.mark.parametrize(
    "condition",
    [
        "n > 5",
        "day >= '2024-01-01'",
        "day >= date('now', '-7 days')",
        "name LIKE 'gala%'",
        "name LIKE '2024%'",  # a name may begin so too
        "n = n + 1",
        "n > (SELECT avg(n) FROM events)",
        "NOT strftime('%Y', day) = '2024'",
        "name = 'gala'",
        "n IN (1, 2)",
        "n IS NULL",
    ],
)
def test_a_condition_that_an_index_serves_or_never_could_is_left_alone(condition: str) -> None:
    assert advice(f"SELECT name FROM events WHERE {condition}") == {}


@pytest.mark.parametrize(
    ("dialect", "condition", "rewrite"),
    [
        (
            "postgres",
            "EXTRACT(YEAR FROM day) = 2024",
            "day >= '2024-01-01' AND day < '2025-01-01'",
        ),
        (
            "postgres",
            "date_trunc('month', at) = '2024-03-01'",
            "at >= '2024-03-01' AND at < '2024-04-01'",
        ),
        ("postgres", "at::date = '2024-03-01'", "at >= '2024-03-01' AND at < '2024-03-02'"),
        ("postgres", "to_char(at, 'YYYY') = '2024'", "at >= '2024-01-01' AND at < '2025-01-01'"),
        ("postgres", "left(code, 2) = 'AB'", "code LIKE 'AB%'"),
        ("mysql", "YEAR(at) >= 2024", "at >= '2024-01-01'"),
        ("mysql", "DATE(at) = '2024-03-01'", "at >= '2024-03-01' AND at < '2024-03-02'"),
        ("tsql", "YEAR(at) = 2024", "at >= '2024-01-01' AND at < '2025-01-01'"),
        ("pg", "n + 1 = 5", "n = 4"),
        # where a day in quotes, or a pattern, means something else there is no rewrite
        ("oracle", "EXTRACT(YEAR FROM day) = 2024", None),
        ("mysql", "LEFT(code, 2) = 'AB'", None),
        ("postgres", "code = 5", None),
        # the first day of a month is never the second one
        ("postgres", "date_trunc('month', at) = '2024-03-02'", None),
    ],
)
def test_other_dialects(dialect: str, condition: str, rewrite: str | None) -> None:
    sql = f"SELECT name FROM events WHERE {condition}"
    found = the_one(sql, Kind.NON_SARGABLE, dialect)
    if rewrite is None:
        assert found.rewrite is None
    else:
        assert found.rewrite == f"SELECT name FROM events WHERE {rewrite}"
        assert found.proof is Proof.EQUIVALENT
