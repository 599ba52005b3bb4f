"""Examples from JSONL: what is read, and errors that name file, line and field."""

import json
from pathlib import Path

import pytest

from eval.task.example import FIELDS, Example, ExampleError, load_examples

GOOD = {"id": "a-1", "db_id": "shop", "question": "How many?", "sql": "SELECT 1"}


def write(path: Path, *lines: object) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data.jsonl"


def test_required_fields_and_defaults(file: Path) -> None:
    assert load_examples(write(file, GOOD)) == [Example("a-1", "shop", "How many?", "SELECT 1")]


def test_all_fields(file: Path) -> None:
    row = GOOD | {"dialect": "pg", "source": "mine"}
    others = ["SELECT 2", "SELECT 3"]
    (example,) = load_examples(write(file, row | {"alternatives": others}))
    assert example == Example(**row, alternatives=("SELECT 2", "SELECT 3"))
    assert example.golds == ("SELECT 1", "SELECT 2", "SELECT 3")
    assert {*row, "alternatives"} == set(FIELDS)


@pytest.mark.parametrize("row", [GOOD, GOOD | {"alternatives": []}])
def test_without_alternatives_the_gold_query_is_the_only_one(file: Path, row: object) -> None:
    (example,) = load_examples(write(file, row))
    assert example.golds == ("SELECT 1",)
    assert hash(example)  # a record, whatever it was read from


def test_blank_lines_are_passed_over_and_order_is_kept(file: Path) -> None:
    rows = [GOOD | {"id": str(number)} for number in range(3)]
    found = load_examples(write(file, "", rows[0], "  ", rows[1], rows[2], ""))
    assert [example.id for example in found] == ["0", "1", "2"]


def test_text_is_kept_as_it_is(file: Path) -> None:
    question = " Wie viele “Ä”?\u2028\n日本 "
    (example,) = load_examples(write(file, json.dumps(GOOD | {"question": question})))
    assert example.question == question


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("not json", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"id": ' + "1" * 5000 + "}", "not JSON"),
        ("\ufeff{}", "not JSON"),
        ([1], "expected an object, found list"),
        ("null", "expected an object, found NoneType"),
        ({k: v for k, v in GOOD.items() if k != "sql"}, "missing field 'sql'"),
        ({}, "missing field 'id'"),
        (GOOD | {"query": "x"}, "unknown field 'query'; known: id, db_id"),
        (GOOD | {"sql": 1}, "field 'sql' must be text, is int"),
        (GOOD | {"id": None}, "field 'id' must be text, is NoneType"),
        (GOOD | {"dialect": "klingon"}, "field 'dialect': unknown dialect 'klingon'"),
        (GOOD | {"alternatives": "SELECT 2"}, "field 'alternatives' must be a list of SQL texts"),
        (GOOD | {"alternatives": None}, "field 'alternatives' must be a list of SQL texts"),
        (GOOD | {"alternatives": {"sql": "x"}}, "field 'alternatives' must be a list of SQL texts"),
        (GOOD | {"alternatives": ["x", 2]}, "field 'alternatives' must be a list of SQL texts"),
        (GOOD | {"alternatives": [["x"]]}, "field 'alternatives' must be a list of SQL texts"),
    ],
)
def test_an_error_names_the_file_the_line_and_the_field(
    line: object, message: str, file: Path
) -> None:
    write(file, GOOD, "", GOOD, line, GOOD)
    with pytest.raises(ExampleError, match=message) as found:
        load_examples(file)
    assert str(found.value).startswith(f"{file}:4: ")


def test_a_missing_or_empty_file(file: Path) -> None:
    with pytest.raises(ExampleError, match="can't be read"):
        load_examples(file)
    file.write_text("\n  \n")
    with pytest.raises(ExampleError, match="holds no examples"):
        load_examples(file)


def test_a_folder_or_bytes_that_are_not_text(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ExampleError, match="can't be read"):
        load_examples(tmp_path)
    file.write_bytes(b'{"id": "\xff"}')
    with pytest.raises(ExampleError, match="can't be read"):
        load_examples(file)
