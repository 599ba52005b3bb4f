"""Canonical gold SQL: cases as data, and the same answers before and after on real databases."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlglot.errors import SqlglotError

from eval.task.ordering import is_ordered
from eval.task.rows import same_rows
from eval.task.samples import FOLDER, build_databases, sample_examples, sample_schema
from eval.task.schema import Schema, parse_ddl
from eval.task.sql import check_sql
from eval.task.sqlite_judge import open_readonly, run_query
from trainer.clean import canonical_sql

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


def read_cases() -> list[tuple[str, str]]:
    blocks = CASES.read_text(encoding="utf-8").split("\n\n")
    pairs = [block.strip("\n").split("\n" + GIVES) for block in blocks if "\n" + GIVES in block]
    return [(given, given if found == "=" else found) for given, found in pairs]


ALL_CASES = read_cases()


@pytest.fixture(scope="module")
def schema() -> Schema:
    return parse_ddl(DDL)


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(DDL + ROWS)
        yield db


def test_the_file_holds_cases() -> None:
    assert len(ALL_CASES) > 25


@pytest.mark.parametrize(("given", "found"), ALL_CASES)
def test_case(given: str, found: str, schema: Schema) -> None:
    assert canonical_sql(given, schema, "sqlite", full_names=True) == found


@pytest.mark.parametrize("found", [found for _, found in ALL_CASES])
def test_canonical_sql_is_its_own_canonical_form(found: str, schema: Schema) -> None:
    assert canonical_sql(found, schema, "sqlite", full_names=True) == found


@pytest.mark.parametrize(
    ("given", "found"), [case for case in ALL_CASES if check_sql(case[0], parse_ddl(DDL)).valid]
)
def test_a_valid_case_stays_valid_and_gives_the_same_rows(
    given: str, found: str, schema: Schema, database: sqlite3.Connection
) -> None:
    assert check_sql(found, schema).violations == ()
    before, after = run_query(database, given), run_query(database, found)
    assert before.error is None and after.error is None
    assert same_rows(before.rows, after.rows, ordered=is_ordered(given))


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("select T1.NAME from SINGER as T1 -- x", "SELECT T1.NAME FROM SINGER AS T1"),
        ("SELECT T1.name FROM singer T1, band", "SELECT T1.name FROM singer AS T1 CROSS JOIN band"),
        ("SELECT `Name` FROM singer WHERE age!=3;", 'SELECT "Name" FROM singer WHERE age <> 3'),
    ],
)
def test_names_as_written_are_only_regenerated(given: str, found: str, schema: Schema) -> None:
    assert canonical_sql(given, schema, "sqlite", full_names=False) == found


@pytest.mark.parametrize("full", [True, False])
def test_other_dialects_by_any_of_their_names(full: bool, schema: Schema) -> None:
    assert canonical_sql("SELECT age::text FROM singer", schema, "pg", full_names=full) == (
        "SELECT CAST(age AS TEXT) FROM singer"
    )
    assert canonical_sql("SELECT `qty` FROM `order items`", schema, "mariadb", full_names=full) == (
        "SELECT `qty` FROM `order items`"
    )


def test_what_can_not_be_parsed_is_an_error(schema: Schema) -> None:
    with pytest.raises(SqlglotError):
        canonical_sql("SELECT (", schema, "sqlite", full_names=True)


@pytest.mark.skipif(not (FOLDER / "train.jsonl").is_file(), reason="the samples are being written")
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_samples_give_the_same_rows_before_and_after(split: str, tmp_path: Path) -> None:
    build_databases(tmp_path)
    examples = sample_examples(split)
    assert len({example.db_id for example in examples}) == 6
    for example in examples:
        schema = sample_schema(example.db_id)
        sql = canonical_sql(example.sql, schema, example.dialect, full_names=True)
        assert check_sql(sql, schema).violations == (), example.id
        with closing(open_readonly(tmp_path / f"{example.db_id}.sqlite")) as db:
            before, after = run_query(db, example.sql), run_query(db, sql)
        assert before.error is after.error is None, example.id
        assert same_rows(before.rows, after.rows, ordered=is_ordered(example.sql)), example.id
        assert canonical_sql(sql, schema, example.dialect, full_names=True) == sql, example.id
