"""Running a query within steps: what it gives, and that it is the same however often it runs."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from trainer.pipeline.execution import rows_within

COUNTING = (
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < {most}) "
    "SELECT x FROM n ORDER BY x DESC"
)
SHORT, LONG = COUNTING.format(most=200), COUNTING.format(most=20_000)


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as db:
        yield db


def test_the_first_rows_are_given(db: sqlite3.Connection) -> None:
    assert rows_within(db, SHORT, max_steps=100_000, max_rows=2) == [(200,), (199,)]
    assert rows_within(db, "SELECT 1 WHERE 0", max_steps=100_000, max_rows=2) == []


@pytest.mark.parametrize("sql", [LONG, "SELECT x FROM gone", "SELECT", "SELECT 1; SELECT 2"])
def test_what_fails_or_takes_too_many_steps_gives_none(db: sqlite3.Connection, sql: str) -> None:
    assert rows_within(db, sql, max_steps=20_000, max_rows=1) is None


def test_steps_of_earlier_runs_do_not_count(db: sqlite3.Connection) -> None:
    """Else a query is refused by the process that ran it before, and taken by another."""
    most = 20_000
    assert rows_within(db, SHORT, max_steps=most, max_rows=1)
    answers = [rows_within(db, SHORT, max_steps=most, max_rows=1) for _ in range(40)]
    assert answers == [[(200,)]] * 40


def test_no_limit_is_left_behind(db: sqlite3.Connection) -> None:
    rows_within(db, SHORT, max_steps=20_000, max_rows=1)
    assert db.execute(LONG).fetchone() == (20_000,)
