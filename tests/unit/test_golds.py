"""Facts on gold queries: rows, flags, errors."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from eval.execution import Limits
from eval.golds import GoldFacts, gold_facts

SCRIPT = """
CREATE TABLE pupil (id INTEGER PRIMARY KEY, name TEXT, age INTEGER, "odd "" name" TEXT, rowid TEXT);
INSERT INTO pupil VALUES
  (1, 'Ada', 9, 'x', 'q'), (2, 'Ben', 10, 'y', 'q'), (3, 'Cem', 10, 'y', 'q');
CREATE TABLE mark (pupil_id INTEGER, mark REAL, PRIMARY KEY (pupil_id, mark)) WITHOUT ROWID;
INSERT INTO mark VALUES (1, 0.1), (1, 0.2), (2, 0.3), (3, 0.4);
CREATE TABLE total (cents INTEGER, euros REAL GENERATED ALWAYS AS (cents / 100.0));
INSERT INTO total (cents) VALUES (5), (7);
CREATE VIEW old AS SELECT * FROM pupil WHERE age > 9;
"""
COLLATED = """
CREATE TABLE tag (name TEXT COLLATE NOCASE);
INSERT INTO tag VALUES ('a'), ('A'), ('b');
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return made(tmp_path / "school base?#.sqlite", SCRIPT)


def made(path: Path, script: str) -> Path:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(script)
    return path


@pytest.mark.parametrize(
    ("sql", "flags"),
    [
        ("SELECT name FROM pupil", ""),
        ("SELECT name FROM pupil WHERE age > 99", "empty_gold"),
        ("SELECT COUNT(*) FROM pupil WHERE age > 99", "zero_gold"),
        ("SELECT SUM(age), 0.0 FROM pupil WHERE age > 99", "zero_gold"),
        ("SELECT 0 FROM pupil", ""),
        ("SELECT ''", ""),
        # Ties at a LIMIT.
        ("SELECT name FROM pupil ORDER BY age DESC LIMIT 1", "row_order_dependent"),
        ("SELECT name FROM pupil ORDER BY age LIMIT 1", ""),
        ("SELECT name FROM pupil ORDER BY age LIMIT 1 OFFSET 1", "row_order_dependent"),
        ("SELECT name FROM pupil ORDER BY age LIMIT 2", "row_order_dependent"),
        ("SELECT name FROM pupil ORDER BY age LIMIT 3", ""),
        ("SELECT name FROM pupil ORDER BY age DESC LIMIT 2", ""),
        ("SELECT name FROM pupil LIMIT 2", "row_order_dependent"),
        ("SELECT age FROM pupil ORDER BY age DESC LIMIT 1", ""),
        # Groups come sorted in any storage order, so that only the keys tell.
        ("SELECT name FROM pupil GROUP BY name ORDER BY COUNT(*) LIMIT 1", "row_order_dependent"),
        ("SELECT name FROM (SELECT * FROM pupil ORDER BY age DESC LIMIT 1)", "row_order_dependent"),
        # Ties under ORDER BY alone are the same rows.
        ("SELECT name FROM pupil ORDER BY age", ""),
        # A bare column beside GROUP BY.
        ("SELECT name, age FROM pupil GROUP BY age", "row_order_dependent"),
        ("SELECT MAX(name), age FROM pupil GROUP BY age", ""),
        ("SELECT GROUP_CONCAT(name) FROM pupil", "row_order_dependent"),
        ("SELECT RANDOM()", "row_order_dependent"),
        # Sums in another order differ by noise only; all kinds of tables are copied.
        ("SELECT SUM(mark) FROM mark", ""),
        ("SELECT euros FROM total", ""),
        ("SELECT name FROM old", ""),
        ("SELECT name FROM old LIMIT 1", "row_order_dependent"),
        ('SELECT "odd "" name", rowid FROM pupil', ""),
    ],
)
def test_flags(sql: str, flags: str, database: Path) -> None:
    [facts] = gold_facts(database, [[sql]])
    assert facts == GoldFacts("empty" not in flags, tuple(flags.split()))


def test_an_item_of_several_golds_has_the_flags_of_all(database: Path) -> None:
    golds = ["SELECT COUNT(*) FROM pupil WHERE age > 99", "SELECT name FROM pupil LIMIT 0"]
    assert gold_facts(database, [golds]) == [GoldFacts(False, ("empty_gold", "zero_gold"))]


def test_an_error_is_a_fact_and_leaves_the_other_items_alone(database: Path) -> None:
    broken, fine = gold_facts(database, [["SELECT 1", "SELECT nosuch FROM pupil"], ["SELECT 1"]])
    assert broken.error == "no such column: nosuch"
    assert fine == GoldFacts(True)


@pytest.mark.parametrize("sql", ["", "DELETE FROM pupil"])
def test_what_is_no_query_is_an_error(sql: str, database: Path) -> None:
    [facts] = gold_facts(database, [[sql]])
    assert facts.error


def test_a_runaway_gold_is_an_error(database: Path) -> None:
    sql = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) SELECT COUNT(*) FROM c"
    assert gold_facts(database, [[sql]], Limits(0.1)) == [GoldFacts(error="over 0.1 s")]


def test_a_missing_database_is_an_error_of_every_item(tmp_path: Path) -> None:
    found = gold_facts(tmp_path / "none.sqlite", [["SELECT 1"], ["SELECT 2"]])
    assert [str(facts.error)[:16] for facts in found] == ["no database file"] * 2


def test_no_items_have_no_facts(database: Path) -> None:
    assert gold_facts(database, []) == []


def test_collations_are_not_copied_so_that_nothing_is_said_of_storage(tmp_path: Path) -> None:
    database = made(tmp_path / "tags.sqlite", COLLATED)
    found = gold_facts(database, [["SELECT COUNT(DISTINCT name) FROM tag"]])
    assert found == [GoldFacts(True)]


def test_nothing_is_left_on_disk(database: Path) -> None:
    before = database.read_bytes()
    gold_facts(database, [["SELECT name FROM pupil"]])
    assert database.read_bytes() == before
    assert list(database.parent.iterdir()) == [database]
