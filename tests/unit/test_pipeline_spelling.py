"""Canonical gold SQL: cases as data, and the same answers before and after on real databases."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlglot.errors import SqlglotError

from eval.task.ordering import is_ordered
from eval.task.rows import same_rows
from eval.task.samples import build_databases, sample_examples, sample_schema
from eval.task.schema import Schema, parse_ddl
from eval.task.sql import check_sql
from eval.task.sqlite_judge import open_readonly, run_query
from trainer.pipeline.spelling import Names, canonical_sql

CASES = Path(__file__).parents[1] / "fixtures" / "canonical.sql"
GIVES = "-- gives: "
DDL = """
CREATE TABLE singer (singer_id INTEGER PRIMARY KEY, Name TEXT, country TEXT, age INT, band_id INT);
CREATE TABLE band (band_id INTEGER PRIMARY KEY, Name TEXT, founded INT);
CREATE TABLE concert (concert_id INTEGER PRIMARY KEY, title TEXT, year INT);
CREATE TABLE performance (singer_id INT, concert_id INT, fee REAL);
CREATE TABLE "order items" ("item id" INT, "group" TEXT, qty INT);
"""
ROWS = """
INSERT INTO singer VALUES (1, 'a', 'US', 30, 1), (2, 'b', 'UK', 20, 1), (3, 'c', 'US', 45, 2),
    (4, 'a', 'FR', 20, NULL), (5, 'e', 'FR', 61, 3);
INSERT INTO band VALUES (1, 'x', 40), (2, 'a', 25), (3, 'z', 61);
INSERT INTO concert VALUES (1, 'p', 30), (2, 'q', 20), (3, 'r', 45);
INSERT INTO performance VALUES (1, 1, 5.5), (1, 2, 2.5), (3, 1, 9.0), (5, 3, 1.0);
INSERT INTO "order items" VALUES (1, 'a', 3), (2, 'b', 4);
"""
QUALIFIED = CASES.parent / "train" / "qualified.sql"


def read_cases(path: Path) -> list[tuple[str, str]]:
    blocks = path.read_text(encoding="utf-8").split("\n\n")
    pairs = [block.strip("\n").split("\n" + GIVES) for block in blocks if "\n" + GIVES in block]
    return [(given, given if found == "=" else found) for given, found in pairs]


FULL_CASES, QUALIFIED_CASES = read_cases(CASES), read_cases(QUALIFIED)
VALID = [
    given for given, _ in FULL_CASES + QUALIFIED_CASES if check_sql(given, parse_ddl(DDL)).valid
]


@pytest.fixture(scope="module")
def schema() -> Schema:
    return parse_ddl(DDL)


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(DDL + ROWS)
        yield db


def test_the_file_holds_cases() -> None:
    assert len(FULL_CASES) > 25
    assert len(QUALIFIED_CASES) > 20
    assert len(VALID) > 45


@pytest.mark.parametrize(("given", "found"), FULL_CASES)
def test_full_names(given: str, found: str, schema: Schema) -> None:
    assert canonical_sql(given, schema, "sqlite", names="full") == found


@pytest.mark.parametrize(("given", "found"), QUALIFIED_CASES)
def test_qualified_names(given: str, found: str, schema: Schema) -> None:
    assert canonical_sql(given, schema, "sqlite", names="qualified") == found


@pytest.mark.parametrize("names", ["written", "full", "qualified"])
def test_canonical_sql_is_its_own_canonical_form(names: Names, schema: Schema) -> None:
    for given, _ in FULL_CASES + QUALIFIED_CASES:
        found = canonical_sql(given, schema, "sqlite", names=names)
        assert canonical_sql(found, schema, "sqlite", names=names) == found, given


@pytest.mark.parametrize("names", ["written", "full", "qualified"])
def test_a_valid_query_stays_valid_and_gives_the_same_rows(
    names: Names, schema: Schema, database: sqlite3.Connection
) -> None:
    for given in VALID:
        found = canonical_sql(given, schema, "sqlite", names=names)
        assert check_sql(found, schema).violations == (), given
        before, after = run_query(database, given), run_query(database, found)
        assert before.error is None and after.error is None, given
        assert same_rows(before.rows, after.rows, ordered=is_ordered(given)), given


def test_qualified_names_are_the_same_from_any_spelling(schema: Schema) -> None:
    for given, _ in FULL_CASES + QUALIFIED_CASES:
        full = canonical_sql(given, schema, "sqlite", names="full")
        assert canonical_sql(full, schema, "sqlite", names="qualified") == canonical_sql(
            given, schema, "sqlite", names="qualified"
        )


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("select T1.NAME from SINGER as T1 -- x", "SELECT T1.NAME FROM SINGER AS T1"),
        ("SELECT T1.name FROM singer T1, band", "SELECT T1.name FROM singer AS T1 CROSS JOIN band"),
        ("SELECT `Name` FROM singer WHERE age!=3;", 'SELECT "Name" FROM singer WHERE age <> 3'),
    ],
)
def test_names_as_written_are_only_regenerated(given: str, found: str, schema: Schema) -> None:
    assert canonical_sql(given, schema, "sqlite", names="written") == found


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ('SELECT 1 FROM singer WHERE Name = "it\'s"', "SELECT 1 FROM singer WHERE Name = 'it''s'"),
        ('SELECT "x" FROM band WHERE Name LIKE "%a"', "SELECT 'x' FROM band WHERE Name LIKE '%a'"),
        ('SELECT "age" FROM singer', 'SELECT "age" FROM singer'),
        ('SELECT age AS "the age" FROM singer ORDER BY "the age"', None),
        ('SELECT age FROM singer WHERE "founded" = 3', None),
        ("SELECT age FROM singer WHERE Name = `US`", 'SELECT age FROM singer WHERE Name = "US"'),
        ('WITH x("n n") AS (SELECT age FROM singer) SELECT "n n" FROM x', None),
    ],
)  # fmt: skip
def test_only_what_names_nothing_is_a_text_in_double_quotes(
    given: str, found: str | None, schema: Schema
) -> None:
    assert canonical_sql(given, schema, "sqlite", names="full") == (found or given)


def test_double_quotes_are_names_in_other_dialects(schema: Schema) -> None:
    sql = 'SELECT age FROM singer WHERE country = "US"'
    assert canonical_sql(sql, schema, "postgres", names="full") == sql


def test_without_a_schema_names_stay_as_written() -> None:
    found = canonical_sql("select T1.A from T as T1", None, "sqlite", names="qualified")
    assert found == "SELECT T1.A FROM T AS T1"


@pytest.mark.parametrize("names", ["written", "full", "qualified"])
def test_other_dialects_by_any_of_their_names(names: Names, schema: Schema) -> None:
    prefix = "singer." if names == "qualified" else ""
    assert canonical_sql("SELECT age::text FROM singer", schema, "pg", names=names) == (
        f"SELECT CAST({prefix}age AS TEXT) FROM singer"
    )


def test_a_table_with_a_reserved_name_keeps_its_quotes() -> None:
    schema = parse_ddl('CREATE TABLE "order" (id INT); CREATE TABLE x (id INT)')
    sql = 'SELECT T1.id FROM "order" AS T1 JOIN x AS T2 ON T1.id = T2.id'
    assert canonical_sql(sql, schema, "sqlite", names="full") == (
        'SELECT "order".id FROM "order" JOIN x ON "order".id = x.id'
    )


@pytest.mark.parametrize("sql", ["SELECT (", "", "SELECT 1; SELECT 2", "(" * 5000])
def test_what_is_not_one_statement_is_an_error(sql: str, schema: Schema) -> None:
    with pytest.raises(SqlglotError):
        canonical_sql(sql, schema, "sqlite", names="full")


def test_the_samples_give_the_same_rows_before_and_after(tmp_path: Path) -> None:
    build_databases(tmp_path)
    examples = [*sample_examples("train")[::5], *sample_examples("test")[::5]]
    assert len({example.db_id for example in examples}) == 6
    for example in examples:
        schema = sample_schema(example.db_id)
        sql = canonical_sql(example.sql, schema, example.dialect, names="qualified")
        assert check_sql(sql, schema).violations == (), example.id
        with closing(open_readonly(tmp_path / f"{example.db_id}.sqlite")) as db:
            before, after = run_query(db, example.sql), run_query(db, sql)
        assert before.error is after.error is None, example.id
        assert same_rows(before.rows, after.rows, ordered=is_ordered(example.sql)), example.id
