"""Names of dialects, and parsing that raises SqlglotError or nothing."""

import pytest
from sqlglot import Dialect
from sqlglot.errors import ParseError, SqlglotError

from eval.task.dialect import (
    ALIASES,
    DIALECTS,
    DialectError,
    parse_statements,
    resolve_dialect,
)
from eval.task.limits import MAX_OPEN_JOINS, MAX_REPEATS, TooComplexError


@pytest.mark.parametrize("name", sorted(DIALECTS | ALIASES.keys()))
def test_every_name_means_a_dialect_of_sqlglot(name: str) -> None:
    found = resolve_dialect(name)
    assert found in DIALECTS
    assert Dialect.get(found) is not None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("pg", "postgres"),
        ("postgresql", "postgres"),
        ("PostgreSQL", "postgres"),
        (" MySQL\n", "mysql"),
        ("mariadb", "mysql"),
        ("mssql", "tsql"),
        ("sqlserver", "tsql"),
        ("sqlite3", "sqlite"),
        ("bq", "bigquery"),
        ("snowflake", "snowflake"),
    ],
)
def test_aliases_and_case(name: str, found: str) -> None:
    assert resolve_dialect(name) == found


@pytest.mark.parametrize(
    "name", ["", " ", "prql", "dax", "postgres\x00", "sql", "sqlite, version=3", "пg", "x" * 9999]
)
def test_an_unknown_dialect_is_an_error_and_never_a_default(name: str) -> None:
    with pytest.raises(
        DialectError, match=r"unknown dialect .*; known: athena, .*postgres"
    ) as found:
        resolve_dialect(name)
    assert len(str(found.value)) < 1000


def test_no_alias_hides_a_dialect() -> None:
    assert not ALIASES.keys() & DIALECTS
    assert set(ALIASES.values()) <= DIALECTS


def parse(text: str, dialect: str = "sqlite") -> list[str]:
    found = parse_statements(text, dialect, max_bytes=4000, max_tokens=200)
    return [statement.sql() for statement in found]


def test_empty_statements_are_left_out() -> None:
    assert parse(";; SELECT 1 ; ; -- x\n; SELECT 2; -- y") == ["SELECT 1", "SELECT 2"]
    assert parse("") == parse(" ; ") == parse("/* x */") == []


def test_an_alias_of_a_dialect_is_known() -> None:
    assert parse("SELECT 1::int", "pg") == ["SELECT CAST(1 AS INT)"]
    with pytest.raises(DialectError):
        parse("SELECT 1", "nonesuch")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT '" + "x" * 4000 + "'", "over 4000 bytes"),
        ("SELECT '" + "é" * 2000 + "'", "over 4000 bytes"),
        ("SELECT " + "1," * 200 + "1", "over 200 tokens"),
        ("(" * 40, "brackets nest deeper than 32"),
        ("SELECT CAST(1 AS " + "ARRAY<" * 40, "brackets nest deeper than 32"),
        ("SELECT " + "- " * 70, "over 64 prefix operators"),
        ("SELECT " + "CASE WHEN " * 65, "over 64 prefix operators, CASEs or brackets are open"),
        ("SELECT * FROM t " + "JOIN t " * (MAX_OPEN_JOINS + 1), "JOINs without ON"),
        ("SELECT " + ".".join("abcdefghijkl"), "a name of over 8 parts"),
        ("SELECT " + "AT " * (MAX_REPEATS + 1), "AT stands there over 100 times"),
        ("SELECT " + "f(1, NOT NOT NOT NOT " * 15, "over 64 prefix operators"),
        ("SELECT " + "IF " * 17, "IF stands there over 16 times"),
        (f"SELECT a -> '{'[0]' * 1001}'", "a string of over 1000 dots"),
    ],
)
def test_guards(text: str, message: str) -> None:
    with pytest.raises(TooComplexError, match=message):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM t " + "JOIN t " * MAX_OPEN_JOINS,
        "SELECT * FROM t " + "JOIN t ON 1 = 1 " * 30,
        "SELECT * FROM t " + "CROSS JOIN t " * 30,
        "SELECT * FROM t WHERE " + " AND ".join(["a < 1"] * 45),
        "SELECT " + ", ".join(["CASE WHEN 1 THEN 2 END"] * 10),
        "SELECT * FROM t WHERE " + " AND ".join(["a > 1"] * 40),
        "SELECT " + ", ".join(["-1"] * 60),
        "SELECT 'JOIN' " + ", 'JOIN ( IF'" * 60,
        "SELECT 1 -- " + "( JOIN " * 60,
        "SELECT a.b, c.d, e.f, g.h, i.j, k.l, m.n, o.p, q.r, s.t FROM t",
    ],
)
def test_guards_let_pass_what_does_not_nest(text: str) -> None:
    assert len(parse(text)) == 1


@pytest.mark.parametrize(
    "text", ["SELECT ->", "SELECT 'a", "SELECT (", ")", "SELECT f(->)", "\x00'"]
)
def test_broken_sql_raises_an_error_of_sqlglot(text: str) -> None:
    with pytest.raises(SqlglotError):
        parse(text)


def test_an_error_of_the_parser_itself_is_a_parse_error() -> None:
    with pytest.raises(ParseError, match="TypeError"):
        parse("SELECT ->")
