"""Whether an answer hangs on the order of rows."""

from contextlib import closing

import pytest

from eval.suite.stable import Bench
from tests.unit.suites import airline, make_database

# Pilots 3 and 4 are of one age, two are based in Oslo, pilots 1 and 3 have two flights each.
STABLE = [
    "SELECT name FROM pilot",
    "SELECT name FROM pilot ORDER BY age LIMIT 1",
    "SELECT max(age) FROM pilot",
    "SELECT name, max(age) FROM pilot",
    "SELECT base, count(*) FROM pilot GROUP BY base ORDER BY count(*) DESC LIMIT 1",
    "SELECT age FROM pilot ORDER BY age LIMIT 2",
    "SELECT name FROM pilot WHERE id IN (SELECT id FROM pilot ORDER BY age LIMIT 1)",
    "SELECT p.id, count(*) FROM pilot AS p JOIN flight ON p.id = pilot_id GROUP BY p.id",
    "SELECT id FROM pilot EXCEPT SELECT pilot_id FROM flight",
    "SELECT name, max(km) FROM pilot JOIN flight ON pilot.id = pilot_id",
]
# The last would be stable by SQLite's rule for bare columns; which of several rows is not seen.
UNSTABLE = [
    "SELECT name FROM pilot LIMIT 1",
    "SELECT name FROM pilot ORDER BY age LIMIT 2",
    "SELECT base, name FROM pilot GROUP BY base",
    "SELECT name, count(*) FROM pilot",
    "SELECT name, min(age) FROM pilot WHERE id IN (3, 4)",
    "SELECT name, base, max(age) FROM pilot GROUP BY base",
    "SELECT pilot_id FROM flight GROUP BY pilot_id ORDER BY count(*) DESC LIMIT 1",
    "SELECT name FROM pilot WHERE id = (SELECT pilot_id FROM flight GROUP BY pilot_id "
    "ORDER BY count(*) DESC LIMIT 1)",
]


@pytest.mark.parametrize("sql", [*STABLE, *UNSTABLE])
def test_an_answer_is_stable_exactly_if_no_tie_shows(tmp_path, sql):
    with closing(Bench(airline(tmp_path), timeout=5, max_rows=100)) as bench:
        assert (bench.stable_answer(sql) is not None) == (sql in STABLE)


@pytest.mark.parametrize("sql", ["SELECT nothing FROM pilot", "", "DELETE FROM pilot", "SELECT \0"])
def test_a_query_that_fails_has_no_stable_answer(tmp_path, sql):
    with closing(Bench(airline(tmp_path), timeout=5, max_rows=100)) as bench:
        assert bench.stable_answer(sql) is None


def test_a_tie_without_a_visible_difference_is_none(tmp_path):
    path = make_database(
        tmp_path / "t.sqlite", "CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 2), (1, 2);"
    )
    with closing(Bench(path, timeout=5, max_rows=100)) as bench:
        assert bench.stable_answer("SELECT a FROM t ORDER BY b LIMIT 1") is not None
