"""`SQLDataPipeline`: raw rows in, a dataset to train on out."""

import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eval.task.base_model import BaseModelError
from eval.task.prompt import PromptFormat
from trainer.pipeline.api import IGNORED, SQLDataPipeline, load_tokenizer
from trainer.pipeline.corpus import COLUMNS, dataset_of
from trainer.pipeline.row import Row
from trainer.pipeline.source import DataError

DDL = "CREATE TABLE singer (id INT, name TEXT, age INT); CREATE TABLE band (id INT, founded INT)"
EOS = 2
ROLES = {"question": "q", "sql": "gold", "ddl": "ddl"}


@dataclass
class CharTokenizer:
    """One token a character."""

    eos_token_id: int = EOS

    def __call__(self, texts: list[str], add_special_tokens: bool = True) -> dict[str, Any]:
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}


def pipeline(**options: Any) -> SQLDataPipeline:
    quiet = {"tokenizer": CharTokenizer(), "cache": None, "say": lambda _: None, "progress": False}
    return SQLDataPipeline(**quiet | options)


def example(question: str = "Who is oldest?", sql: str = "SELECT 1", **more: str) -> dict[str, str]:
    return {"question": question, "sql": sql, "ddl": DDL} | more


GOOD = example(sql="select T1.NAME from Singer as T1 order by AGE desc limit 1;")
MIXED = [
    GOOD,
    example("  Who   is oldest? ", "SELECT name FROM singer ORDER BY age DESC LIMIT 1"),
    example("How many bands?", "SELECT COUNT(*) FROM band"),
    example("", "SELECT id FROM band"),
    example("Remove all!", "DROP TABLE singer"),
    example("Which?", "SELECT nme FROM singer"),
    example("Broken?", "SELECT ("),
]
KEPT = [
    ("Who is oldest?", "SELECT name FROM singer ORDER BY age DESC LIMIT 1"),
    ("How many bands?", "SELECT COUNT(*) FROM band"),
]


def texts(made: Any) -> list[tuple[str, str]]:
    return list(zip(made["question"], made["sql"], strict=True))


def test_rows_are_cleaned_filtered_and_tokenised() -> None:
    made = pipeline().clean_and_tokenize(MIXED)
    assert texts(made) == KEPT
    assert made.column_names == [*COLUMNS, "input_ids", "completion_mask", "labels"]
    record = made[0]
    completion = [*map(ord, KEPT[0][1]), EOS]
    schema = Row(**{name: record[name] for name in COLUMNS}).schema
    assert schema
    prompt = PromptFormat().render(schema, KEPT[0][0])
    assert record["input_ids"] == [*map(ord, prompt), *completion]
    assert record["completion_mask"] == [0] * len(prompt) + [1] * len(completion)
    assert record["labels"] == [IGNORED] * len(prompt) + completion


def test_the_report_tells_what_became_of_each_row(tmp_path: Path) -> None:
    made = pipeline()
    made.clean_and_tokenize(MIXED)
    stages = [stage.name for stage in made.report.corpus.stages]
    usual = ["poison", "clean", "filter", "duplicates", "tokenise"]
    assert stages == ["load raw", *usual]
    assert made.report.corpus.dropped.total() == 5
    assert made.report.corpus.dropped["duplicate"] == 1
    assert "unknown_column" in str(made.report)
    page = made.report.save(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "DROP TABLE singer" in page


@pytest.mark.parametrize("form", ["list", "generator", "dataset", "path", "text"])
def test_rows_are_taken_in_any_form(form: str, tmp_path: Path) -> None:
    from datasets import Dataset

    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in MIXED), encoding="utf-8")
    raw = {
        "list": MIXED,
        "generator": (row for row in MIXED),
        "dataset": Dataset.from_list(MIXED),
        "path": path,
        "text": str(path),
    }[form]
    assert texts(pipeline().clean_and_tokenize(raw)) == KEPT


def test_columns_limit_and_dialect_can_be_given() -> None:
    raw = [{"q": f"Name number {n}?", "gold": f'SELECT "name" FROM t{n}'} for n in (1, 2, 3)]
    raw = [row | {"ddl": f"CREATE TABLE t{n} (name TEXT)"} for n, row in enumerate(raw, start=1)]
    made = pipeline(columns=ROLES, dialect="pg").clean_and_tokenize(raw, limit=2)
    assert made["question"] == ["Name number 1?", "Name number 2?"]
    assert set(made["dialect"]) == {"postgres"}


def test_schemas_can_lie_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "music.sql").write_text(DDL)
    row = {"id": "1", "db_id": "music", "question": "Names?", "sql": "SELECT name FROM singer"}
    made = pipeline(schemas=str(tmp_path)).clean_and_tokenize([row])
    assert texts(made) == [("Names?", "SELECT name FROM singer")]
    with pytest.raises(DataError, match="no schema of 'music'"):
        pipeline().clean_and_tokenize([row])


def test_nothing_held_out_is_in_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "dev.jsonl"
    held = {"id": "d", "db_id": "other", "question": "How many bands?", "sql": "SELECT 1"}
    path.write_text(json.dumps(held) + "\n")
    made = pipeline(held_out=[str(path)])
    assert texts(made.clean_and_tokenize(MIXED)) == KEPT[:1]
    assert made.report.corpus.dropped["leaks_question"] == 1


def test_rows_that_are_too_long_are_left_out() -> None:
    long = example("Who " * 200 + "?", "SELECT name FROM singer")
    made = pipeline(max_length=400)
    assert texts(made.clean_and_tokenize([*MIXED, long])) == KEPT
    assert made.report.corpus.dropped["too_long"] == 1
    assert made.report.corpus.sources[0]["examples"] == 2


def test_a_second_call_is_answered_from_the_cache(tmp_path: Path) -> None:
    made = pipeline(cache=tmp_path, max_length=140)
    first = made.clean_and_tokenize(MIXED)
    assert len(made.balance_dataset(first)) == len(first) == 1
    assert made.clean_and_tokenize(MIXED)[:] == first[:]
    assert [stage.name for stage in made.report.corpus.stages if stage.cached] == [
        "poison", "clean", "filter", "duplicates",
    ]  # fmt: skip
    files = {path.name for path in tmp_path.glob("*/data/*")}
    assert files == {"data-00000-of-00001.arrow", "dataset_info.json", "state.json"}


def shaped(num_plain: int, num_joined: int) -> list[dict[str, str]]:
    rows = [example(f"Plain {n}?", f"SELECT name FROM singer WHERE age > {n}")
            for n in range(num_plain)]  # fmt: skip
    joined = "SELECT singer.name FROM singer JOIN band ON singer.id = band.id WHERE band.founded = "
    return rows + [example(f"Joined {n}?", f"{joined}{n}") for n in range(num_joined)]


def test_a_cleaned_dataset_is_balanced_with_all_its_columns() -> None:
    made = pipeline()
    cleaned = made.clean_and_tokenize(shaped(30, 10))
    balanced = made.balance_dataset(cleaned, strength=1.0)
    counts = Counter("JOIN" in sql for sql in balanced["sql"])
    assert abs(counts[True] - 20) <= 1 and abs(counts[False] - 20) <= 1
    assert balanced.column_names == cleaned.column_names
    assert len(set(balanced["id"])) == len(balanced)
    labels = dict(zip(cleaned["question"], cleaned["labels"], strict=True))
    assert all(row["labels"] == labels[row["question"]] for row in balanced)
    assert [stage.name for stage in made.report.corpus.stages][-2:] == ["tokenise", "balance"]
    assert made.report.corpus.sources[0]["examples"] == len(balanced) == len(made.report.corpus)
    again = made.balance_dataset(balanced, strength=1.0, seed=2)
    assert len(set(again["id"])) == len(again)


def test_no_strength_changes_nothing() -> None:
    made = pipeline()
    cleaned = made.clean_and_tokenize(shaped(5, 1))
    assert made.balance_dataset(cleaned, strength=0)[:] == cleaned[:]


def test_a_dataset_of_any_origin_can_be_balanced() -> None:
    from datasets import Dataset

    rows = [{"question": f"Q{n}", "sql": "SELECT a FROM t", "extra": n} for n in range(20)]
    rows += [{"question": "J", "sql": "SELECT a FROM t, u", "extra": 99}]
    made = pipeline()
    balanced = made.balance_dataset(Dataset.from_list(rows), strength=1)
    assert Counter(balanced["extra"])[99] == 3
    assert {row["question"] for row in balanced if row["extra"] == 99} == {"J"}
    assert len(made.report.corpus.stages) == 1
    only_text = dataset_of([Row("x", "db", "Q", "SELECT 1")] * 3)
    assert len(set(made.balance_dataset(only_text)["id"])) == 3


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([], "raw: holds no rows"),
        ([GOOD, "SELECT 1"], "raw: row 2: must be a dict, is str"),
        ([GOOD, {"question": "Q?"}], "raw: row 2: no column 'sql'"),
        ([GOOD | {"sql": object()}], "raw: row 1: Object of type object is not JSON"),
        ([GOOD, GOOD | {"sql": 5}], "raw: row 2: column 'sql' must be text, is int"),
        ([{"text": "x"}], "raw: its columns are of no known set: text; say what they hold"),
        ({"train": [GOOD], "test": []}, "raw: a dict of train, test; pass one split of it"),
        (5, "raw: must be a path, a hub id, dicts or a datasets.Dataset, is int"),
        ("none.jsonl", "none.jsonl: no such file"),
        ([example("", "SELECT 1")], "filter: no row is left of 1"),
    ],
)
def test_a_mistake_is_one_line(raw: Any, message: str) -> None:
    with pytest.raises(DataError) as raised:
        pipeline().clean_and_tokenize(raw)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value) and "/tmp" not in str(raised.value)


def test_other_mistakes_are_one_line_too(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dialect: unknown dialect 'klingon'"):
        pipeline(dialect="klingon").clean_and_tokenize(MIXED)
    with pytest.raises(DataError, match="there is no report yet: call clean_and_tokenize first"):
        pipeline().report  # noqa: B018
    for wrong in (MIXED, None, dataset_of([]).remove_columns("sql")):
        with pytest.raises(DataError, match="balance_dataset: needs a datasets"):
            pipeline().balance_dataset(wrong)
    with pytest.raises(ValueError, match="strength must be between 0 and 1"):
        pipeline().balance_dataset(dataset_of([]), strength=2)
    with pytest.raises(TypeError, match="dialct"):
        pipeline(dialct="mysql")


def test_a_base_model_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class AutoTokenizer:
        @staticmethod
        def from_pretrained(name: str) -> None:
            raise OSError(f"\nCan't load {name}\nin several lines.")  # as transformers writes them

    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(AutoTokenizer=AutoTokenizer))
    with pytest.raises(BaseModelError) as raised:
        load_tokenizer("org/none", lambda _: None)
    expected = "org/none: its tokenizer can't be loaded: Can't load org/none"
    assert str(raised.value) == expected
