"""The judge: queries that can't hurt, and answers that are the same."""

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from eval.task.sqlite_judge import (
    Answer,
    JudgeError,
    Row,
    Verdict,
    is_ordered,
    judge,
    open_readonly,
    run_query,
    same_rows,
)

SCRIPT = """
CREATE TABLE t (a INT, b TEXT, r REAL);
INSERT INTO t VALUES (1, 'x', 0.1), (2, 'y', 0.2), (2, 'y', 0.2), (NULL, NULL, NULL);
CREATE TABLE big (n INT);
WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 500)
INSERT INTO big SELECT i FROM c;
"""
RUNAWAY = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) SELECT {} FROM c"
CORRECT = Verdict(correct=True, runs=True)
WRONG = Verdict(correct=False, runs=True)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "data base?#.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(SCRIPT)
    return path


@pytest.fixture
def db(database: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_readonly(database)) as db:
        yield db


@pytest.mark.parametrize(
    ("gold", "predicted", "verdict"),
    [
        ("SELECT a FROM t", "SELECT t.a FROM t AS t", CORRECT),
        ("SELECT a FROM t", "SELECT a FROM t ORDER BY a DESC", CORRECT),
        # A bag: duplicates count.
        ("SELECT a FROM t", "SELECT DISTINCT a FROM t", WRONG),
        ("SELECT a FROM t", "SELECT a FROM t UNION ALL SELECT 2", WRONG),
        ("SELECT a FROM t WHERE a > 0", "SELECT a FROM t WHERE a > 0 UNION SELECT 1", WRONG),
        # Order counts where the outermost gold query has it.
        ("SELECT a FROM t ORDER BY a", "SELECT a FROM t ORDER BY a", CORRECT),
        ("SELECT a FROM t ORDER BY a", "SELECT a FROM t ORDER BY a DESC", WRONG),
        ("SELECT a FROM (SELECT a FROM t ORDER BY a)", "SELECT a FROM t ORDER BY a DESC", CORRECT),
        (
            "SELECT a FROM t UNION SELECT 9 ORDER BY a",
            "SELECT a FROM t UNION SELECT 9 ORDER BY a DESC",
            WRONG,
        ),
        ("SELECT a, 'order by' FROM t", "SELECT a, 'order by' FROM t ORDER BY a DESC", CORRECT),
        # Columns: by place, not by name.
        ("SELECT a AS x FROM t", "SELECT a AS y FROM t", CORRECT),
        ("SELECT a, b FROM t", "SELECT b, a FROM t", WRONG),
        ("SELECT a FROM t", "SELECT a, b FROM t", WRONG),
        # Values.
        ("SELECT 0.3", "SELECT 0.1 + 0.2", CORRECT),
        ("SELECT 1", "SELECT 1.0", CORRECT),
        ("SELECT 1", "SELECT '1'", WRONG),
        ("SELECT 'a'", "SELECT 'A'", WRONG),
        ("SELECT NULL", "SELECT NULL", CORRECT),
        ("SELECT NULL", "SELECT 0", WRONG),
        ("SELECT NULL", "SELECT ''", WRONG),
        ("SELECT r FROM t", "SELECT r + 0.0000000000001 FROM t", CORRECT),
        ("SELECT r FROM t", "SELECT r + 0.00001 FROM t", WRONG),
        # Empty answers.
        ("SELECT a FROM t WHERE 0", "SELECT a FROM t WHERE a > 9", CORRECT),
        ("SELECT a FROM t WHERE 0", "SELECT a FROM t", WRONG),
        ("SELECT a FROM t", "SELECT a FROM t WHERE 0", WRONG),
    ],
)
def test_verdicts(gold: str, predicted: str, verdict: Verdict, database: Path) -> None:
    assert judge(database, gold, predicted) == verdict


@pytest.mark.parametrize("predicted", ["", " ", ";", "-- nothing", "/* SELECT 1 */", "REINDEX"])
def test_no_query_is_never_right(predicted: str, database: Path) -> None:
    """Not even where the right answer is empty."""
    found = judge(database, "SELECT a FROM t WHERE 0", predicted)
    assert found == Verdict(correct=False, runs=False, error="not a query")


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("SELECT nosuch FROM t", "no such column: nosuch"),
        ("SELECT 1 FROM nosuch", "no such table: nosuch"),
        ("SELECT nosuch(1)", "no such function: nosuch"),
        ("SELECT", "incomplete input"),
        ("hello", "syntax error"),
        ("SELECT 1; SELECT 2", "one statement at a time"),
        ("SELECT 1; DROP TABLE t", "one statement at a time"),
        ("SELECT ?", "bindings"),
        ("SELECT 1\x00", "null character"),
        ("SELECT '\ud800'", "surrogates not allowed"),
    ],
)
def test_what_does_not_run_says_why(sql: str, error: str, database: Path) -> None:
    found = judge(database, "SELECT a FROM t", sql)
    assert (found.correct, found.runs) == (False, False)
    assert found.error and error in found.error


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (9, 'z', 9)",
        "REPLACE INTO t VALUES (9, 'z', 9)",
        "UPDATE t SET a = 9",
        "DELETE FROM t",
        "WITH x AS (SELECT 9) INSERT INTO t (a) SELECT * FROM x",
        "DROP TABLE t",
        "CREATE TABLE x (a INT)",
        "CREATE TEMP TABLE x (a INT)",
        "CREATE TABLE x AS SELECT * FROM t",
        "CREATE VIRTUAL TABLE x USING fts5 (a)",
        "CREATE VIEW x AS SELECT 1",
        "ALTER TABLE t ADD x INT",
        "ATTACH 'x.sqlite' AS x",
        "ATTACH '' AS x",
        "ATTACH ':memory:' AS x",
        "DETACH main",
        "PRAGMA table_info(t)",
        "PRAGMA journal_mode = wal",
        "PRAGMA writable_schema = 1",
        "SELECT * FROM pragma_table_info('t')",
        "SELECT load_extension('x')",
        "SELECT writefile('x', 'y')",
        "SELECT readfile('/etc/passwd')",
        "SELECT edit('x')",
        "VACUUM",
        "VACUUM INTO 'x.sqlite'",
        "ANALYZE",
        "BEGIN",
        "COMMIT",
        "SAVEPOINT x",
    ],
)
def test_a_query_can_only_read(
    sql: str, database: Path, db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(database.parent)
    before = database.read_bytes()
    found = run_query(db, sql)
    assert found.error and not found.rows
    assert run_query(db, "SELECT COUNT(*) FROM t") == Answer(((4,),))
    assert database.read_bytes() == before
    assert list(database.parent.iterdir()) == [database]


def test_reading_leaves_nothing_on_disk(database: Path) -> None:
    judge(database, "SELECT a FROM t ORDER BY a", "SELECT b FROM t, big ORDER BY b, n")
    assert list(database.parent.iterdir()) == [database]


@pytest.mark.parametrize("column", ["COUNT(*)", "MAX(i)"])
def test_a_runaway_query_is_stopped(column: str, db: sqlite3.Connection) -> None:
    assert run_query(db, RUNAWAY.format(column), timeout=0.1) == Answer(error="over 0.1 s")
    assert run_query(db, "SELECT 1") == Answer(((1,),))


def test_a_runaway_prediction_is_wrong_and_a_runaway_gold_an_error(database: Path) -> None:
    runaway = RUNAWAY.format("COUNT(*)")
    found = judge(database, "SELECT 1", runaway, timeout=0.1)
    assert found == Verdict(correct=False, runs=False, error="over 0.1 s")
    with pytest.raises(JudgeError, match=r"gold query fails on data base\?#\.sqlite: over 0\.1 s"):
        judge(database, runaway, "SELECT 1", timeout=0.1)


def test_a_cross_join_is_stopped(db: sqlite3.Connection) -> None:
    sql = "SELECT COUNT(*) FROM big a, big b, big c, big d"
    assert run_query(db, sql, timeout=0.1) == Answer(error="over 0.1 s")


def test_rows_are_limited(db: sqlite3.Connection) -> None:
    assert len(run_query(db, "SELECT n FROM big", max_rows=500).rows) == 500
    assert run_query(db, "SELECT n FROM big", max_rows=499) == Answer(error="over 499 rows")
    assert run_query(db, RUNAWAY.format("i"), max_rows=50) == Answer(error="over 50 rows")


@pytest.mark.parametrize(
    "sql", ["SELECT zeroblob(900000000)", "SELECT LENGTH(randomblob(900000000))"]
)
def test_one_cell_can_not_fill_the_memory(sql: str, db: sqlite3.Connection) -> None:
    assert run_query(db, sql) == Answer(error="string or blob too big")


def test_text_that_is_not_utf8_is_read(db: sqlite3.Connection) -> None:
    assert run_query(db, "SELECT CAST(x'61ff' AS TEXT)") == Answer((("a\ufffd",),))


def test_a_missing_database_is_an_error_and_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(JudgeError, match="no database file"):
        judge(tmp_path / "none.sqlite", "SELECT 1", "SELECT 1")
    with pytest.raises(JudgeError, match="no database file"):
        judge(tmp_path, "SELECT 1", "SELECT 1")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "text.sqlite"
    path.write_text("long enough to be looked at, and still no database. " * 9)
    with pytest.raises(JudgeError, match="gold query fails"):
        judge(path, "SELECT * FROM t", "SELECT 1")


def test_a_gold_query_that_fails_is_an_error(database: Path) -> None:
    for gold in ("SELECT nosuch FROM t", "DELETE FROM t", ""):
        with pytest.raises(JudgeError, match="gold query fails"):
            judge(database, gold, "SELECT 1")


@pytest.mark.parametrize(
    ("sql", "ordered"),
    [
        ("SELECT a FROM t", False),
        ("SELECT a FROM t ORDER BY a", True),
        ("SELECT a FROM t ORDER BY a LIMIT 1;", True),
        ("SELECT a FROM t UNION SELECT 1 ORDER BY 1", True),
        ("WITH x AS (SELECT a FROM t) SELECT a FROM x ORDER BY a", True),
        ("WITH x AS (SELECT a FROM t ORDER BY a) SELECT a FROM x", False),
        ("SELECT a FROM (SELECT a FROM t ORDER BY a)", False),
        ("SELECT a FROM t WHERE a IN (SELECT a FROM t ORDER BY a)", False),
        ("SELECT ROW_NUMBER() OVER (ORDER BY a) FROM t", False),
        ("SELECT 'ORDER BY' -- ORDER BY a", False),
        ("SELECT a FROM t ORDER BY", False),
        ("not SQL (", False),
        ("", False),
        ("(" * 5000, False),
        ("SELECT * FROM t " + "JOIN t " * 40 + "ORDER BY a", False),
    ],
)
def test_only_the_outermost_order_counts(sql: str, ordered: bool) -> None:
    assert is_ordered(sql) is ordered


ROWS: list[tuple[list[Row], list[Row], bool]] = [
    ([], [], True),
    ([(1,)], [], False),
    ([(1,), (2,)], [(2,), (1,)], True),
    ([(1,), (1,), (2,)], [(1,), (2,), (2,)], False),
    ([(1, 2)], [(1,)], False),
    ([(1, 2)], [(2, 1)], False),
    ([(0.1 + 0.2,)], [(0.3,)], True),
    ([(1 / 3,)], [(0.333333333,)], True),
    ([(1 / 3,)], [(0.33333,)], False),
    ([(None, 1)], [(None, 1)], True),
    ([(None,)], [(0,)], False),
    ([(0.0,)], [(-0.0,)], True),
    ([(1,)], [(1.0,)], True),
    ([(12_345_678_901,)], [(12_345_678_901.0,)], True),
    ([(12_345_678_901.000_002,)], [(12_345_678_901,)], True),
    ([(12_345_678_901,)], [(12_345_678_902,)], False),
    ([(12_345_678_901.0,)], [(12_345_678_902.0,)], False),
    ([(10**9,)], [(999_999_999.999_999_9,)], True),
    ([(2**62,)], [(2**62 + 1,)], False),
    ([(1e300,)], [(1e300 * (1 + 1e-15),)], True),
    ([(math.inf,)], [(math.inf,)], True),
    ([(math.inf,)], [(-math.inf,)], False),
    ([(b"a",)], [("a",)], False),
    ([(True,)], [(1,)], True),
]


@pytest.mark.parametrize(("expected", "found", "same"), ROWS)
def test_same_rows(expected: list[Row], found: list[Row], same: bool) -> None:
    assert same_rows(expected, found, ordered=False) is same
    assert same_rows(found, expected, ordered=False) is same


def test_same_rows_in_order() -> None:
    assert not same_rows([(1,), (2,)], [(2,), (1,)], ordered=True)
    assert same_rows([(1,), (0.1 + 0.2,)], [(1.0,), (0.3,)], ordered=True)
