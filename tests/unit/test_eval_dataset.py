"""Questions find their database and schema, and bad input is named by file, line and item."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from eval.dataset import DatasetError, Question, open_dataset
from eval.task.example import ExampleError
from eval.task.samples import sample_examples, sample_schema
from eval.task.schema import DdlError, parse_ddl

ROW = {"id": "a1", "db_id": "band", "question": "How many?", "sql": "SELECT COUNT(*) FROM singer"}
DDL = 'CREATE TABLE singer (id INTEGER PRIMARY KEY, name TEXT, "first album" TEXT)'


@pytest.fixture
def data(tmp_path):
    (tmp_path / "databases").mkdir()
    with closing(sqlite3.connect(tmp_path / "databases/band.sqlite")) as db:
        db.executescript(f"{DDL}; CREATE INDEX by_name ON singer (name)")
    path = tmp_path / "dev.jsonl"
    write(path, ROW, ROW | {"id": "a2"})
    return path


def write(path: Path, *rows: dict[str, str]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def questions(data: Path, **options: Any) -> tuple[Question, ...]:
    with open_dataset(str(data), **options) as dataset:
        return dataset.questions


def test_without_a_schema_file_the_database_says_what_its_tables_are(data):
    question = questions(data)[0]
    assert question.database == data.parent / "databases/band.sqlite"
    assert question.ddl == f"{DDL};\n"
    assert parse_ddl(question.ddl) == question.schema


def test_a_schema_file_is_sent_as_it_stands(data):
    text = "-- our bands\nCREATE TABLE singer (id int, age int);\n"
    (data.parent / "schemas").mkdir()
    (data.parent / "schemas/band.sql").write_text(text)
    question = questions(data)[0]
    assert question.ddl == text
    assert question.schema.tables[0].column_names == ("id", "age")


def test_folders_may_lie_elsewhere(data, tmp_path):
    (tmp_path / "databases").rename(tmp_path / "files")
    (tmp_path / "ddl").mkdir()
    (tmp_path / "ddl/band.sql").write_text("CREATE TABLE other (x int)")
    question = questions(data, databases=tmp_path / "files", schemas=tmp_path / "ddl")[0]
    assert question.database == tmp_path / "files/band.sqlite"
    assert question.schema.find("other")


def test_the_limit_takes_the_first_questions(data):
    assert [q.example.id for q in questions(data, limit=1)] == ["a1"]
    assert len(questions(data, limit=99)) == 2


def test_questions_on_one_database_share_its_schema(data):
    first, second = questions(data)
    assert first.schema is second.schema


def test_the_samples_are_built_for_as_long_as_they_are_open():
    with open_dataset("samples") as dataset:
        examples = [question.example for question in dataset.questions]
        paths = {question.database for question in dataset.questions}
        assert all(path.is_file() for path in paths)
        for question in dataset.questions:
            assert question.schema == sample_schema(question.example.db_id)
            assert "INSERT" not in question.ddl
    assert dataset.name == "samples/test.jsonl"
    assert examples == sample_examples("test")
    assert not any(path.exists() for path in paths)


def test_a_malformed_line_is_named_with_file_and_number(data):
    data.write_text(json.dumps(ROW) + "\n{nope\n")
    with pytest.raises(ExampleError, match=r"dev\.jsonl:2: not JSON"):
        questions(data)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ExampleError, match=r"nothing\.jsonl: can't be read"):
        questions(tmp_path / "nothing.jsonl")


def test_a_missing_database_is_named_with_item_and_option(data):
    write(data, ROW, ROW | {"id": "b7", "db_id": "gone"})
    with pytest.raises(DatasetError, match=r"item 'b7': no database file .*gone\.sqlite") as caught:
        questions(data)
    assert "--databases" in str(caught.value)


def test_a_database_that_is_none_is_named(data):
    (data.parent / "databases/band.sqlite").write_text("not a database, only some words of text")
    with pytest.raises(DatasetError, match=r"band\.sqlite: file is not a database"):
        questions(data)


def test_a_database_whose_ddl_can_not_be_parsed_is_read_by_sqlite_itself(data):
    with closing(sqlite3.connect(data.parent / "databases/band.sqlite")) as db:
        db.executescript("CREATE VIRTUAL TABLE notes USING fts5(body)")
    schema = questions(data)[0].schema
    names = {table.name: table.column_names for table in schema.tables}
    assert names["notes"] == ("body",)
    assert names["singer"] == ("id", "name", "first album")


def test_a_database_without_tables_is_named(data):
    with closing(sqlite3.connect(data.parent / "databases/band.sqlite")) as db:
        db.execute("DROP TABLE singer")
    with pytest.raises(DdlError, match=r"band\.sqlite: the database has no tables"):
        questions(data)


def test_a_broken_schema_file_is_named(data):
    (data.parent / "schemas").mkdir()
    (data.parent / "schemas/band.sql").write_text("DROP TABLE singer")
    with pytest.raises(DatasetError, match=r"schemas/band\.sql: only CREATE TABLE"):
        questions(data)
    (data.parent / "schemas/band.sql").write_bytes(b"\xff\xfe")
    with pytest.raises(DatasetError, match=r"schemas/band\.sql: .*utf-8"):
        questions(data)


def test_another_dialect_than_sqlite_is_refused(data):
    write(data, ROW | {"dialect": "postgres"})
    with pytest.raises(DatasetError, match="item 'a1': dialect 'postgres'; only sqlite"):
        questions(data)
    write(data, ROW | {"dialect": "sqlite3"})
    assert len(questions(data)) == 1


@pytest.mark.parametrize("db_id", ["../databases/band", "/etc/passwd", "a/b", ".."])
def test_a_db_id_can_not_leave_its_folder(data, db_id):
    write(data, ROW | {"db_id": db_id})
    with pytest.raises(DatasetError, match=r"plain file name|no database file"):
        questions(data)
