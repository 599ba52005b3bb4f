"""Queries that can't hurt: they read, within limits, or say why not."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from eval.task.sqlite_judge import Answer, JudgeError, open_readonly, run_query

SCRIPT = """
CREATE TABLE t (a INT, b TEXT, r REAL);
INSERT INTO t VALUES (1, 'x', 0.1), (2, 'y', 0.2), (2, 'y', 0.2), (NULL, NULL, NULL);
CREATE TABLE big (n INT);
WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 500)
INSERT INTO big SELECT i FROM c;
"""
RUNAWAY = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) SELECT {} FROM c"


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
    "sql", ["", " ", ";", "-- nothing", "/* SELECT 1 */", "/* SELECT 1", "\ufeff", ";;", "REINDEX"]
)
def test_what_returns_no_rows_by_nature_is_no_query(sql: str, db: sqlite3.Connection) -> None:
    assert run_query(db, sql) == Answer(error="not a query")


def test_an_answer_has_rows_and_columns(db: sqlite3.Connection) -> None:
    found = run_query(db, "SELECT a, b AS x FROM t WHERE a < 2")
    assert found == Answer(((1, "x"),), columns=("a", "x"))
    assert run_query(db, "SELECT a FROM t WHERE 0") == Answer(columns=("a",))


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
def test_what_does_not_run_says_why(sql: str, error: str, db: sqlite3.Connection) -> None:
    found = run_query(db, sql)
    assert found.error and error in found.error
    assert not found.rows


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
        "SELECT fts3_tokenizer('simple')",
        "SELECT FTS3_TOKENIZER('simple', x'4141414141414141')",
        "SELECT \"fts3_tokenizer\"('simple')",
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
    assert run_query(db, "SELECT COUNT(*) FROM t").rows == ((4,),)
    assert database.read_bytes() == before
    assert list(database.parent.iterdir()) == [database]


def test_reading_leaves_nothing_on_disk(database: Path, db: sqlite3.Connection) -> None:
    assert run_query(db, "SELECT b FROM t, big ORDER BY b, n").rows
    assert list(database.parent.iterdir()) == [database]


@pytest.mark.parametrize("column", ["COUNT(*)", "MAX(i)"])
def test_a_runaway_query_is_stopped(column: str, db: sqlite3.Connection) -> None:
    assert run_query(db, RUNAWAY.format(column), timeout=0.1) == Answer(error="over 0.1 s")
    assert run_query(db, "SELECT 1").rows == ((1,),)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT COUNT(*) FROM big a, big b, big c, big d",
        # Few steps, each of which takes long: the clock is looked at between rows too.
        "SELECT LENGTH(REPLACE(HEX(ZEROBLOB(4000000 + n)), '0', '1')) FROM big",
    ],
)
def test_slow_queries_are_stopped(sql: str, db: sqlite3.Connection) -> None:
    assert run_query(db, sql, timeout=0.1) == Answer(error="over 0.1 s")


def test_rows_are_limited(db: sqlite3.Connection) -> None:
    assert len(run_query(db, "SELECT n FROM big", max_rows=500).rows) == 500
    assert run_query(db, "SELECT n FROM big", max_rows=499) == Answer(error="over 499 rows")
    assert run_query(db, RUNAWAY.format("i"), max_rows=50) == Answer(error="over 50 rows")


def test_an_answer_is_limited_in_bytes(db: sqlite3.Connection) -> None:
    sql = "SELECT HEX(ZEROBLOB(500)) FROM big"
    assert len(run_query(db, sql, max_bytes=500_000).rows) == 500
    assert run_query(db, sql, max_bytes=499_999) == Answer(error="an answer of over 499999 bytes")


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("SELECT zeroblob(900000000)", "string or blob too big"),
        ("SELECT LENGTH(randomblob(900000000))", "string or blob too big"),
        ("SELECT 'x' LIKE HEX(ZEROBLOB(501))", "LIKE or GLOB pattern too complex"),
        ("SELECT 'x' GLOB HEX(ZEROBLOB(501))", "LIKE or GLOB pattern too complex"),
    ],
)
def test_one_cell_can_not_take_all(sql: str, error: str, db: sqlite3.Connection) -> None:
    assert run_query(db, sql) == Answer(error=error)


def test_what_a_query_keeps_is_held_in_a_bounded_memory(db: sqlite3.Connection) -> None:
    """Not in temporary files, which would fill the disk."""
    sql = (
        "WITH RECURSIVE c(i, s) AS (SELECT 1, '' UNION "
        "SELECT i + 1, ZEROBLOB(9000000 + i) FROM c) SELECT COUNT(*) FROM c"
    )
    assert run_query(db, sql, timeout=60) == Answer(error="out of memory")
    assert run_query(db, "SELECT 1").rows == ((1,),)


def test_text_that_is_not_utf8_is_read(db: sqlite3.Connection) -> None:
    assert run_query(db, "SELECT CAST(x'61ff' AS TEXT)").rows == (("a\ufffd",),)


def test_a_missing_database_is_an_error_and_is_not_made(tmp_path: Path) -> None:
    for path in (tmp_path / "none.sqlite", tmp_path):
        with pytest.raises(JudgeError, match="no database file"):
            open_readonly(path)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "text.sqlite"
    path.write_text("long enough to be looked at, and still no database. " * 9)
    with closing(open_readonly(path)) as db:
        assert run_query(db, "SELECT * FROM t") == Answer(error="file is not a database")
