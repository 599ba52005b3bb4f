"""Questions find their database and schema, and bad input is named by file, line and item."""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from eval.dataset import DatasetError, Folders, Question, open_dataset
from eval.live.url import LiveDatabaseError
from eval.task.dialect import DialectError
from eval.task.example import Example, ExampleError
from eval.task.samples import sample_examples, sample_schema
from eval.task.schema import DdlError, parse_ddl

ROW: dict[str, Any] = {
    "id": "a1",
    "db_id": "band",
    "question": "How many?",
    "sql": "SELECT COUNT(*) FROM singer",
}
DDL = 'CREATE TABLE singer (id INTEGER PRIMARY KEY, name TEXT, "first album" TEXT)'


@pytest.fixture
def data(tmp_path):
    (tmp_path / "databases").mkdir()
    with closing(sqlite3.connect(tmp_path / "databases/band.sqlite")) as db:
        db.executescript(f"{DDL}; CREATE INDEX by_name ON singer (name)")
    path = tmp_path / "dev.jsonl"
    write(path, ROW, ROW | {"id": "a2"})
    return path


def write(path: Path, *rows: Mapping[str, object]) -> None:
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
        paths = {Path(question.database) for question in dataset.questions}
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


def test_sql_of_another_dialect_than_the_database_speaks_is_refused(data):
    write(data, ROW | {"dialect": "postgres"})
    with pytest.raises(DatasetError, match=r"item 'a1': .* 'postgres', its database speaks sqlite"):
        questions(data)
    write(data, ROW | {"dialect": "sqlite3"})
    assert [question.dialect for question in questions(data)] == ["sqlite"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://me:s3cret@h/{db_id}", "'sqlite', its database speaks postgres"),
        ("mysql+pymysql://me:s3cret@h/{db_id}", "'sqlite', its database speaks mysql"),
        ("mariadb://me:s3cret@h/{db_id}", "'sqlite', its database speaks mysql"),
        ("klingon://me:s3cret@h/{db_id}", "unknown dialect 'klingon'"),
        ("postgresql://[:s3cret@h/{db_id}", "'sqlite', its database speaks postgres"),
        ("://", "unknown dialect ''"),
    ],
)
def test_a_url_that_does_not_fit_the_sql_is_refused_without_its_password(data, url, said):
    with pytest.raises((DatasetError, DialectError)) as caught:
        questions(data, databases=url)
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["postgresql://me:s3cret@127.0.0.1:1/{db_id}", "postgresql://[:s3cret@h/{db_id}"]
)
def test_a_server_that_can_not_be_asked_is_named_without_its_password(data, url):
    write(data, ROW | {"dialect": "postgres"})
    with pytest.raises(LiveDatabaseError) as caught:
        questions(data, databases=url)
    assert "s3cret" not in str(caught.value)


def test_the_name_of_a_database_is_escaped_in_a_url():
    folders = Folders("postgresql://h/{db_id}?x=1", Path())
    assert folders.database("a/b?c#d e") == "postgresql://h/a%2Fb%3Fc%23d%20e?x=1"


def test_an_id_that_stands_there_twice_is_named(data):
    write(data, ROW, ROW | {"id": "a2"}, ROW | {"question": "Another?"})
    with pytest.raises(DatasetError, match=r"dev\.jsonl: item 'a1': the id stands there twice"):
        questions(data)
    assert len(questions(data, limit=2)) == 2  # the third is not looked at


def test_several_golds_are_kept_in_their_order(data):
    write(data, ROW | {"alternatives": ["SELECT 3", "SELECT 2"]})
    (question,) = questions(data)
    assert question.example.golds == (ROW["sql"], "SELECT 3", "SELECT 2")


def test_a_list_of_examples_is_a_dataset_too(data):
    examples = [Example(**ROW), Example(**ROW | {"id": "\ud800"})]
    folder = data.parent / "databases"
    with open_dataset(examples, databases=folder) as dataset:
        assert [question.example for question in dataset.questions] == examples
        assert (dataset.name, len(dataset.sha256)) == ("list", 64)
    with open_dataset(examples[:1], databases=folder) as other:
        assert other.sha256 != dataset.sha256
    with pytest.raises(DatasetError, match="list: holds no examples"), open_dataset([]):
        pass


def test_the_digest_is_that_of_the_whole_file_whatever_the_limit(data):
    with open_dataset(str(data)) as whole, open_dataset(str(data), limit=1) as part:
        assert whole.sha256 == part.sha256


@pytest.mark.parametrize(
    "db_id", ["../databases/band", "/etc/passwd", "a/b", "..", "", "\0", "\ud800"]
)
def test_a_db_id_can_not_leave_its_folder(data, db_id):
    write(data, ROW | {"db_id": db_id})
    with pytest.raises(DatasetError, match=r"plain file name|no database file"):
        questions(data)
