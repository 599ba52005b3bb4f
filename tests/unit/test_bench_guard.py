"""The guard's figures: what an unsafe pass is, what the judges of harm see, what is written."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from benchmarks.corpus import Hostile
from benchmarks.guard import (
    Verdict,
    gold_figure,
    hostile_figure,
    judge,
    main,
    refused_golds,
    why_unsafe,
    wilson,
)
from benchmarks.oracle import bare_text, why_harmful, why_sqlite_refuses
from eval.task.example import Example
from eval.task.samples import sample_schema
from eval.task.sql import SqlCheck
from eval.task.violation import Violation

app = typer.Typer()
app.command()(main)
CASE = Hostile("a-1", "a", "SELECT 1", "sqlite", "why")
REFUSED = SqlCheck("x", (Violation("not_a_query", "no"),))


@pytest.mark.parametrize(
    ("case", "check", "reason"),
    [
        (CASE, REFUSED, ""),
        (CASE, SqlCheck("SELECT 1"), "passed"),
        (replace(CASE, may_pass=True), SqlCheck("SELECT 1"), ""),
        (replace(CASE, may_pass=True), REFUSED, ""),
        (replace(CASE, may_pass=True, lacks=("drop",)), SqlCheck("SELECT 'DROP'"), "kept 'drop'"),
        (replace(CASE, may_pass=True), SqlCheck("SELECT 1; x"), "a mark: ';'"),
        (replace(CASE, may_pass=True, write="mysql"), SqlCheck("SELECT 1 # x"), "a comment: #"),
    ],
)
def test_what_an_unsafe_pass_is(case: Hostile, check: SqlCheck, reason: str) -> None:
    assert why_unsafe(case, check) == reason


def test_a_statement_is_judged_with_its_dialect_and_grants() -> None:
    verdict = judge(replace(CASE, sql="DROP TABLE users"), sample_schema("shop"))
    assert verdict.passed == ""
    assert verdict.codes == ("not_a_query",)
    assert verdict.cpu_ms >= 0
    assert judge(CASE, sample_schema("shop")).passed == "passed"


@pytest.mark.parametrize(
    ("sql", "dialect", "bare"),
    [
        ("a 'b' c", "sqlite", "a '' c"),
        ("a 'b''c' d", "postgres", "a '' d"),
        ("a 'b\\' c", "postgres", "a '' c"),
        ("a 'b\\' c", "mysql", None),
        ("a 'b\\'c' d", "mysql", "a '' d"),
        ('a "b;""c" d', "sqlite", "a '' d"),
        ('a "b\\" c', "oracle", "a '' c"),
        ('a "b\\" c', "mysql", None),
        ("a `b``c` d", "mysql", "a '' d"),
        ("a `b\\`c` d", "bigquery", "a '' d"),
        ("a `b\\` c", "mysql", "a '' c"),
        ("a `b", "postgres", "a `b"),
        ("a [b]]c] d", "tsql", "a '' d"),
        ("a [b]]c] d", "sqlite", "a '']c] d"),
        ("a [1] b", "duckdb", "a [1] b"),
        ("a 'b", "sqlite", None),
        ("'a' 'b'", "sqlite", "'' ''"),
        ("a ''", "sqlite", "a ''"),
        ("a 'b\\", "mysql", None),
    ],
)
def test_what_stands_outside_of_quotes(sql: str, dialect: str, bare: str | None) -> None:
    assert bare_text(sql, dialect) == bare


@pytest.mark.parametrize(
    ("sql", "dialect", "reason"),
    [
        ("SELECT name FROM users WHERE name = '; DROP TABLE users; --'", "sqlite", ""),
        ("(SELECT 1) UNION SELECT 2", "postgres", ""),
        ("WITH a AS (SELECT 1) SELECT REPLACE('a', 'b', 'c') FROM a", "sqlite", ""),
        ("SELECT 'x\\'; DROP' FROM users", "mysql", ""),
        ("SELECT 'x\\'; DROP' FROM users", "postgres", "a quote stays open"),
        ("SELECT `a` FROM t", "mysql", ""),
        ("DROP TABLE users", "sqlite", "does not start as a query"),
        ("EXPLAIN SELECT 1", "sqlite", "does not start as a query"),
        ("SELECT 1 -- x", "sqlite", "a mark: '--'"),
        ("SELECT 1 /*! x */", "mysql", "a mark: '/*'"),
        ("SELECT 1 # x", "mysql", "a comment: #"),
        ("SELECT 1 # 2", "postgres", ""),
        ("SELECT 1 // x", "snowflake", "a comment: //"),
        ("SELECT $$x$$", "postgres", "a dollar quote"),
        ("SELECT 1 AS $a$, ' $a$ '", "postgres", "a dollar quote"),
        ("SELECT 1 AS $a$, ' $a$ '", "sqlite", ""),
        ("SELECT a$$, b@c FROM t AS a$b$c", "postgres", ""),
        ("SELECT @x", "mysql", "a mark: '@'"),
        ("WITH d AS (DELETE FROM users RETURNING 1) SELECT 1", "postgres", "a word: 'DELETE'"),
        ("SELECT name INTO gone FROM users", "postgres", "a word: 'INTO'"),
        ("SELECT INSERT('a', 1, 1, 'b')", "mysql", ""),
        ("SELECT name FROM users AS u(UPDLOCK)", "tsql", "a lock: 'UPDLOCK'"),
        ("SELECT updlock FROM users AS u(updlock)", "postgres", ""),
        ("SELECT 1 AS update, 2 AS x", "hive", ""),
        ("SELECT 1 AS x UPDATE t", "tsql", "a word: 'UPDATE'"),
        ("SELECT 1 FROM users AS pg_sleep(a)", "postgres", ""),
        ("SELECT pg_sleep (9)", "postgres", "a call: 'pg_sleep ('"),
        ("SELECT Evil(1)", "sqlite", "a call: 'Evil('"),
        ("SELECT 'a\0b'", "sqlite", "NUL or surrogate in a quote"),
        ("SELECT 'a\ud800'", "sqlite", "NUL or surrogate in a quote"),
        ("SELECT 1\0", "sqlite", "a mark: '\\x00'"),
    ],
)
def test_harm_that_is_read_from_the_text(sql: str, dialect: str, reason: str) -> None:
    assert why_harmful(sql, dialect) == reason


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as opened:
        opened.execute("CREATE TABLE users (id INT, name TEXT, email TEXT)")
        opened.execute("CREATE TABLE secrets (id INT)")
        yield opened


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT name, UPPER(name) FROM users", ""),
        ("SELECT COUNT(*) FROM users", ""),
        ("WITH RECURSIVE r(n) AS (SELECT 1 UNION SELECT n + 1 FROM r LIMIT 3) SELECT n FROM r", ""),
        ("SELECT nothing FROM users", ""),
        ("no SQL at all", ""),
        ("SELECT name FROM users WHERE email = 'x'", "reads column users.email"),
        ("SELECT * FROM users", "reads column users.email"),
        ("SELECT 1 FROM secrets", "reads table secrets"),
        ("SELECT * FROM sqlite_master", "reads table sqlite_master"),
        ("SELECT RANDOMBLOB(9) FROM users", "calls randomblob"),
        ("DELETE FROM users", "does action 9 on users "),
        ("SELECT load_extension('x')", "calls load_extension"),
    ],
)
def test_harm_that_sqlite_sees(database: sqlite3.Connection, sql: str, reason: str) -> None:
    allowed = {"users": ("ID", "name")}
    assert why_sqlite_refuses(database, sql, allowed).lower() == reason.lower()


def test_a_whole_table_may_be_allowed_and_a_refusal_does_not_stay(
    database: sqlite3.Connection,
) -> None:
    assert why_sqlite_refuses(database, "SELECT * FROM users", {"users": None}) == ""
    assert why_sqlite_refuses(database, "SELECT * FROM users", {}) == "reads table users"
    assert database.execute("SELECT * FROM users").fetchall() == []


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0)],
)
def test_the_interval_of_a_share(hits: int, n: int, low: float, high: float) -> None:
    """Against scipy.stats.binomtest(hits, n).proportion_ci(method="wilson")."""
    assert wilson(hits, n) == pytest.approx((low, high), abs=1e-4)


def test_the_hostile_figure_counts_statements_not_dialects() -> None:
    passed = Verdict(CASE, "passed", (), 2.0)
    verdicts = [
        passed,
        replace(passed, case=replace(CASE, dialect="postgres")),
        replace(passed, passed="", cpu_ms=7.04),
        Verdict(replace(CASE, id="b-1", kind="b"), "", ("empty",), 1.0),
    ]
    figure = hostile_figure(verdicts)
    assert (figure.figure, figure.value, figure.n) == ("guard_hostile_passed", 1, 2)
    assert figure.rows == [
        {
            "class": "a", "statements": 1, "checks": 3, "passed": 2,
            "passed_as": ["a-1-postgres: passed", "a-1-sqlite: passed"], "cpu_ms_max": 7.0,
        },
        {
            "class": "b", "statements": 1, "checks": 1, "passed": 0, "passed_as": [],
            "cpu_ms_max": 1.0,
        },
    ]  # fmt: skip


def test_the_gold_figure_lists_ids_and_codes() -> None:
    example = Example("x-1", "db", "?", "SELECT secret_name")
    figure = gold_figure([(example, ("unknown_column",)), (replace(example, id="x-2"), ())])
    assert (figure.figure, figure.value, figure.n) == ("guard_gold_refused", 0.5, 2)
    assert figure.rows == [{"id": "x-1", "codes": ("unknown_column",)}]
    assert "secret_name" not in repr(figure)


def write_data(folder: Path, *golds: str) -> Path:
    (folder / "schemas").mkdir()
    (folder / "schemas/zoo.sql").write_text("CREATE TABLE animals (id INT, name TEXT);")
    rows = [
        {"id": f"q-{i}", "db_id": "zoo", "question": "?", "sql": sql} for i, sql in enumerate(golds)
    ]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "data.jsonl"


def test_golds_are_checked_against_the_schema_beside_them(tmp_path: Path) -> None:
    data = write_data(tmp_path, "SELECT name FROM animals", "SELECT colour FROM animals")
    found = [(example.id, codes) for example, codes in refused_golds(data)]
    assert found == [("q-0", ()), ("q-1", ("unknown_column",))]


def corpus_of(folder: Path, *rows: dict[str, object]) -> Path:
    folder.mkdir()
    common = {"class": "a", "dialects": ["sqlite"], "why": "w"}
    lines = [json.dumps({"id": f"a-{i}"} | common | row) for i, row in enumerate(rows)]
    (folder / "a.jsonl").write_text("\n".join(lines))
    return folder


def test_the_command_writes_both_figures(tmp_path: Path) -> None:
    data = write_data(tmp_path, "SELECT name FROM animals", "SELECT colour FROM animals")
    corpus = corpus_of(tmp_path / "c", {"sql": "DROP TABLE users"})
    options = ["--corpus", str(corpus), "--data", str(data), "--results", str(tmp_path / "r")]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 0, done.output
    hostile = json.loads((tmp_path / "r/guard_hostile_passed.json").read_text())
    assert (hostile["value"], hostile["n"]) == (0, 1)
    gold = json.loads((tmp_path / "r/guard_gold_refused.json").read_text())
    assert (gold["value"], gold["n"]) == (0.5, 2)
    assert gold["rows"] == [{"id": "q-1", "codes": ["unknown_column"]}]
    assert "colour" not in json.dumps(gold)


def test_the_command_fails_where_something_passes(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "c", {"sql": "SELECT name FROM users"})
    done = CliRunner().invoke(app, ["--corpus", str(corpus), "--results", str(tmp_path / "r")])
    assert done.exit_code == 1
    assert json.loads((tmp_path / "r/guard_hostile_passed.json").read_text())["value"] == 1
    assert not (tmp_path / "r/guard_gold_refused.json").exists()


@pytest.mark.parametrize("option", ["--corpus", "--data"])
def test_what_is_missing_is_named(tmp_path: Path, option: str) -> None:
    corpus = corpus_of(tmp_path / "c", {"sql": "DROP TABLE users"})
    options = ["--corpus", str(corpus), option, str(tmp_path / "gone")]
    done = CliRunner().invoke(app, [*options, "--results", str(tmp_path / "r")])
    assert done.exit_code == 1
    assert "guard: error: " in done.stderr
    assert "gone" in done.stderr
