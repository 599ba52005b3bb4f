"""The check, against cases that are data, against SQLite itself, and against parse bombs."""

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.task.dialect import DIALECTS, DialectError
from eval.task.schema import Schema, parse_ddl
from eval.task.sql import SqlCheck, check_sql
from eval.task.statement import normalize_sql
from eval.task.violation import CODES
from tests.unit.sql_cases import FIXTURES, Case, read_cases, said, stray_blocks

CASES = FIXTURES / "check_sql.sql"
DDL = """
CREATE TABLE singer (singer_id INTEGER PRIMARY KEY, name TEXT, country TEXT, age INT, band_id INT);
CREATE TABLE band (band_id INTEGER PRIMARY KEY, name TEXT, founded INT);
CREATE TABLE concert (concert_id INTEGER PRIMARY KEY, title TEXT, year INT);
CREATE TABLE performance (singer_id INT, concert_id INT, fee REAL);
CREATE TABLE "order items" ("item id" INT, "group" TEXT, qty INT);
"""
# The first two have tests of their own; the last one a server says.
CODES_HERE = set(CODES) - {"empty", "too_complex", "truncated"}


ALL_CASES = read_cases(CASES)


def case_id(case: Case) -> str:
    return str(case)


@pytest.fixture(scope="module")
def schema() -> Schema:
    return parse_ddl(DDL)


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(DDL)
        yield db


def codes(check: SqlCheck) -> list[str]:
    return [violation.code for violation in check.violations]


def test_the_file_holds_cases_of_every_code() -> None:
    assert len(ALL_CASES) >= 90
    assert {case.code for case in ALL_CASES} == {"ok", *CODES_HERE}


def test_every_block_of_the_file_is_a_case_or_a_comment() -> None:
    assert stray_blocks(CASES) == []


@pytest.mark.parametrize("case", ALL_CASES, ids=case_id)
def test_case(case: Case, schema: Schema) -> None:
    check = case.check(schema)
    assert check.valid == (case.code == "ok"), (case.sql, check)
    if not check.valid:
        assert case.code in codes(check), (case.sql, check)
    if case.name is not None:
        assert case.name in {v.name for v in check.violations if v.code == case.code}, check
    if case.gives is not None:
        assert check.sql == case.gives
    if case.says:
        assert said(check, case.sql) == case.says


@pytest.mark.parametrize(
    "case", [c for c in ALL_CASES if c.code == "ok" and c.dialect == "sqlite"], ids=case_id
)
def test_sqlite_itself_takes_what_is_valid(
    case: Case, schema: Schema, database: sqlite3.Connection
) -> None:
    sql = check_sql(case.sql, schema).sql
    assert database.execute(f"EXPLAIN {sql}").fetchall()


@pytest.mark.parametrize("case", [c for c in ALL_CASES if c.code == "ok"], ids=case_id)
def test_what_is_valid_is_stable(case: Case, schema: Schema) -> None:
    """The regenerated text passes the check too, and gives itself."""
    first = check_sql(case.sql, schema, case.dialect)
    again = check_sql(first.sql, schema, case.dialect)
    assert again.valid and again.sql == first.sql


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\x0b\u2003"])
def test_no_text_is_empty(text: str, schema: Schema) -> None:
    assert codes(check_sql(text, schema)) == ["empty"]


def test_a_refused_statement_is_never_regenerated_as_valid(schema: Schema) -> None:
    check = check_sql("SELECT 1; DROP TABLE singer", schema)
    assert check.sql == "SELECT 1; DROP TABLE singer"
    assert not check.valid


def test_an_unknown_dialect_is_an_error(schema: Schema) -> None:
    with pytest.raises(DialectError, match=r"known: .*postgres"):
        check_sql("SELECT 1", schema, "postgras")
    with pytest.raises(DialectError):
        check_sql("SELECT 1", schema, "sqlite", "sqlite4")


def test_tables_and_columns_are_named_as_in_the_schema(schema: Schema) -> None:
    sql = "SELECT S.NAME FROM Singer AS s WHERE AGE > (SELECT AVG(qty) FROM `ORDER ITEMS`)"
    check = check_sql(sql, schema)
    assert check.tables == ("order items", "singer")
    assert check.columns == ("order items.qty", "singer.age", "singer.name")


def test_a_star_reads_every_column(schema: Schema) -> None:
    assert check_sql("SELECT * FROM band", schema).columns == (
        "band.band_id",
        "band.founded",
        "band.name",
    )
    assert check_sql("SELECT b.* FROM band b, concert", schema).columns == (
        "band.band_id",
        "band.founded",
        "band.name",
    )


def test_columns_are_traced_through_derived_tables_and_ctes(schema: Schema) -> None:
    sql = "WITH a AS (SELECT name AS n FROM band) SELECT x.n FROM (SELECT n FROM a) AS x"
    check = check_sql(sql, schema)
    assert check.tables == ("band",)
    assert check.columns == ("band.name",)


@pytest.mark.parametrize(
    ("sql", "suggestions"),
    [
        ("SELECT nam FROM singer", ("name",)),
        ("SELECT s.contry FROM singer s", ("s.country",)),
        ("SELECT 1 FROM singr", ("singer",)),
        ("SELECT 1 FROM ORDER_ITEMS", ("order items",)),
        ("SELECT zzz FROM singer", ()),
    ],
)
def test_did_you_mean(sql: str, suggestions: tuple[str, ...], schema: Schema) -> None:
    (violation,) = check_sql(sql, schema).violations
    assert violation.suggestions == suggestions
    assert all(f"did you mean {s}" in violation.message for s in suggestions)


def test_each_unknown_name_is_reported_once(schema: Schema) -> None:
    check = check_sql("SELECT x, x, y FROM singer WHERE x = 1", schema)
    assert [v.name for v in check.violations] == ["x", "y"]


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_no_dialect_lets_a_write_pass(dialect: str, schema: Schema) -> None:
    """A guard once was off for one alias of a dialect: each is asked."""
    for text in (
        "DROP TABLE singer",
        "DELETE FROM singer",
        "SELECT 1; DROP TABLE singer",
        "WITH d AS (DELETE FROM singer RETURNING *) SELECT * FROM d",
        "SELECT * INTO x FROM singer",
        "SELECT evil(name) FROM singer",
        "SELECT * FROM hidden",
    ):
        assert not check_sql(text, schema, dialect).valid, text


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_a_plain_query_is_valid_in_every_dialect(dialect: str, schema: Schema) -> None:
    text = "SELECT country, COUNT(*) FROM singer WHERE age > 3 GROUP BY country"
    assert check_sql(text, schema, dialect).violations == ()


BOMBS = {
    "parens": ("SELECT " + "(" * 5000 + "1" + ")" * 5000, "sqlite"),
    "not": ("SELECT " + "NOT " * 20_000 + "1", "sqlite"),
    "brackets": ("SELECT " + "[" * 2000, "duckdb"),
    "case": ("SELECT " + "CASE WHEN 1 THEN " * 1000 + "1" + " END" * 1000, "sqlite"),
    "ors": ("SELECT 1 WHERE " + " OR ".join(["1 = 1"] * 50_000), "sqlite"),
    "subqueries": ("SELECT * FROM " + "(SELECT * FROM " * 250 + "t" + ")" * 250, "bigquery"),
    "statements": ("SELECT 1;" * 100_000, "sqlite"),
    "values in IN": ("SELECT 1 WHERE 1 IN (" + "1, " * 150_000 + "1)", "sqlite"),
    "array types": ("SELECT CAST(1 AS " + "ARRAY<" * 250 + "INT" + ">" * 250 + ")", "spark"),
    "struct types": ("SELECT CAST(1 AS " + "STRUCT<a " * 99 + "INT" + ">" * 99 + ")", "bigquery"),
    "not, short of the byte cap": ("SELECT " + "NOT " * 3900 + "1", "sqlite"),
    "minus": ("SELECT " + "- " * 1900 + "1", "sqlite"),
    "mixed prefixes": ("SELECT " + "NOT - + ~ " * 400 + "1", "sqlite"),
    "dots": ("SELECT " + ".".join(f"a{i}" for i in range(900)), "sqlite"),
    "casts": ("SELECT 1" + "::int" * 600, "postgres"),
    "is not": ("SELECT 1 " + "IS NOT " * 900 + "NULL", "sqlite"),
    "interval": ("SELECT " + "INTERVAL " * 900 + "1", "mysql"),
    "any": ("SELECT 1 = " + "ANY " * 900 + "(SELECT 1)", "postgres"),
    "at signs": ("SELECT " + "@" * 900 + "1", "tsql"),
    "from": ("FROM " * 900 + "t", "bigquery"),
    "prior": ("SELECT " + "PRIOR " * 900 + "1", "oracle"),
    "if": ("SELECT " + "IF " * 40 + "a", "oracle"),
    "subscripts": ("SELECT a" + "[1]" * 600, "duckdb"),
    "arrows": ("SELECT a" + "->'b'" * 600, "mysql"),
    "joins": ("SELECT * FROM t " + "JOIN t " * 30, "sqlite"),
    "joins in groups": ("SELECT * FROM t " + ("JOIN t " * 5 + "ON 1 = 1 ") * 6, "sqlite"),
    "comma joins": ("SELECT * FROM t " + ", t JOIN t " * 30, "sqlite"),
    "joins with an ON inside": (
        "SELECT * FROM t " + "JOIN (SELECT DISTINCT ON (a) a FROM t) x " * 30,
        "postgres",
    ),
    "joins in a string that ends elsewhere": (
        "SELECT '\\'' " + "FROM t " + "JOIN t " * 30 + "WHERE '\\''",
        "mysql",
    ),
    "not between commas": (
        "SELECT " + ("COALESCE(1, " + "NOT " * 60) * 28 + "1" + ")" * 28,
        "mysql",
    ),
    "cases that do not end": (
        "SELECT " + ("COALESCE(1, " + "CASE WHEN 1 THEN end = " * 2) * 24 + "1" + ")" * 24,
        "postgres",
    ),
    "stars of stars": (
        "SELECT 1 FROM " + "(SELECT " + ("*, " * 50 + "* FROM (SELECT ") * 3 + "* FROM singer"
        ") AS a) AS b) AS c) AS d",
        "sqlite",
    ),
    "parens in a string that ends elsewhere": (
        "SELECT '\\'', " + "(" * 3000 + "1" + ")" * 3000 + ", '\\''",
        "mysql",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_parse_bomb_is_too_complex(name: str, schema: Schema) -> None:
    text, dialect = BOMBS[name]
    assert codes(check_sql(text, schema, dialect)) == ["too_complex"]
    assert normalize_sql(text, dialect)


@pytest.fixture
def small_stack() -> Iterator[None]:
    old = threading.stack_size(256 * 1024)
    yield
    threading.stack_size(old)


@pytest.mark.usefixtures("small_stack")
def test_parse_bombs_leave_a_small_stack_whole(schema: Schema) -> None:
    """Recursion in the compiled parser ends the process, not in an exception."""
    found: dict[str, list[str]] = {}

    def check_all() -> None:
        found.update({n: codes(check_sql(t, schema, d)) for n, (t, d) in BOMBS.items()})

    thread = threading.Thread(target=check_all)
    thread.start()
    thread.join()
    assert found == {name: ["too_complex"] for name in BOMBS}


@pytest.mark.usefixtures("small_stack")
def test_what_the_guards_let_pass_fits_a_small_stack(schema: Schema) -> None:
    texts = [
        "SELECT " + "(" * 31 + "1" + ")" * 31,
        "SELECT * FROM " + "(SELECT * FROM " * 31 + "singer" + ")" * 31,
        "SELECT " + "NOT " * 64 + "1",
        "SELECT 1 WHERE " + " OR ".join(["1 = 1"] * 400),
        "SELECT " + "CASE WHEN 1 THEN 1 ELSE " * 60 + "1" + " END" * 60,
        " UNION ".join(["SELECT 1"] * 100),
    ]
    found: list[SqlCheck] = []
    thread = threading.Thread(target=lambda: found.extend(check_sql(t, schema) for t in texts))
    thread.start()
    thread.join()
    assert [check.valid for check in found] == [True] * len(texts)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT " + ", ".join(f"singer.name AS n{i}" for i in range(200)) + " FROM singer",
        "SELECT name FROM singer WHERE age IN (" + ", ".join(map(str, range(900))) + ")",
        "SELECT name FROM singer WHERE " + " OR ".join(f"name = 'n{i}'" for i in range(90)),
        "SELECT s0.name FROM singer s0 "
        + " ".join(f"JOIN singer s{i} ON s0.age = s{i}.age" for i in range(1, 30)),
        "SELECT '" + "JOIN ( NOT [ IF " * 100 + "' FROM singer",
        "SELECT name FROM singer -- " + "JOIN ( NOT " * 100,
        "SELECT name FROM singer WHERE name = '" + "x" * 10_000 + "'",
    ],
)
def test_long_but_flat_queries_pass(text: str, schema: Schema) -> None:
    assert check_sql(text, schema).violations == ()


@pytest.mark.parametrize("write", ["postgres", "mysql", "tsql"])
def test_aliases_that_double_are_not_written_out(write: str, schema: Schema) -> None:
    doubled = ", ".join(f"x{n} || x{n} AS x{n + 1}" for n in range(40))
    check = check_sql(f"SELECT name AS x0, {doubled} FROM singer", schema, "duckdb", write)
    assert codes(check) == ["not_transpilable"]


TOKENS = """SELECT FROM WHERE JOIN ON USING WITH AS RECURSIVE UNION ( ) [ ] { } , ; . * -> :: := @ ?
    : ' " ` -- /* */ CASE WHEN END NOT IN (SELECT VALUES name singer band "order 1 'x' x'0' ORDER BY
    GROUP OVER PARTITION LATERAL UNNEST INTO FOR UPDATE DELETE \x00 \ud800 é 查 $$ # % { INTERVAL
    POSITION CAST EXTRACT DISTINCT ALL ANY EXISTS IS NULL LIKE ESCAPE LIMIT PIVOT""".split()
ANY_SQL = st.lists(st.sampled_from(TOKENS), max_size=25).map(" ".join)


@settings(max_examples=200, deadline=None, database=None)
@given(text=st.one_of(st.text(), ANY_SQL), dialect=st.sampled_from(sorted(DIALECTS)))
def test_no_text_ever_raises(text: str, dialect: str) -> None:
    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)
    check = check_sql(text, parse_ddl(DDL), dialect)
    assert check.valid or set(codes(check)) <= set(CODES)
    assert isinstance(normalize_sql(text, dialect), str)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("select NAME from Singer", "SELECT name FROM singer"),
        ("SELECT name FROM singer -- x", "SELECT name FROM singer;"),
        ('SELECT "name" FROM `singer`', "SELECT name FROM singer"),
        ("SELECT count( * ) FROM t", "SELECT COUNT(*) FROM t"),
        ("SELECT a FROM t AS x", "SELECT a FROM t x"),
        ("SELECT  1\n", "SELECT 1"),
    ],
)
def test_spellings_that_are_one_query(one: str, other: str) -> None:
    assert normalize_sql(one) == normalize_sql(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT 'A'", "SELECT 'a'"),
        ("SELECT a FROM t", "SELECT a FROM t; DROP TABLE t"),
        ("SELECT a FROM t", "SELECT a FROM t; SELECT b FROM t"),
        ("SELECT a, b FROM t", "SELECT b, a FROM t"),
        ("SELECT 'a  b'", "SELECT 'a b'"),
    ],
)
def test_spellings_that_are_two_queries(one: str, other: str) -> None:
    assert normalize_sql(one) != normalize_sql(other)


def test_what_cannot_be_parsed_is_normalised_by_white_space() -> None:
    assert normalize_sql("no  SQL (\n at all") == "no SQL ( at all"


def test_normalising_knows_aliases_of_dialects() -> None:
    assert normalize_sql("SELECT a::int FROM t", "pg") == "SELECT CAST(a AS INT) FROM t"
    with pytest.raises(DialectError):
        normalize_sql("SELECT 1", "nonesuch")
