"""From examples to token ids: what is dropped and why, and where the loss is."""

import json
from pathlib import Path
from typing import Any

import pytest

from eval.task.base_model import BaseModelError
from eval.task.bundle import sha256_file
from eval.task.example import Example, ExampleError
from eval.task.samples import FOLDER, sample_examples
from eval.task.schema import DdlError, parse_ddl
from trainer.config import RecipeError, TrainConfig
from trainer.data import Corpus, Pair, Tokens, load_corpus, tokenise, tokenise_pair

DDL = "CREATE TABLE singer (id INT, Name TEXT); CREATE TABLE band (id INT, founded INT);"
BOS, EOS = 1, 2


class CharTokenizer:
    """One token a character, with a token at the start where special tokens are wanted."""

    eos_token_id: int | None = EOS

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool]] = []

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        self.asked.append((text, add_special_tokens))
        start = [BOS] if add_special_tokens else []
        return {"input_ids": start + [ord(letter) for letter in text]}


def row(**changes: str) -> dict[str, str]:
    number = changes.pop("n", "1")
    base = {"id": number, "db_id": "music", "question": f"Q{number}?", "sql": "SELECT 1"}
    return base | changes


def write(folder: Path, name: str, *rows: dict[str, str]) -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "music.sql").write_text(DDL)
    return tmp_path


def config(*data: str, **fields: Any) -> TrainConfig:
    return TrainConfig("mine", data=data, **fields)


def test_every_dropped_row_has_a_reason(folder: Path) -> None:
    path = write(
        folder,
        "train.jsonl",
        row(n="1", sql="SELECT name FROM singer"),
        row(n="2", question="  "),
        row(n="3", sql="SELECT nme FROM singer"),
        row(n="4", sql="SELECT 1 FROM nowhere"),
        row(n="5", sql="DROP TABLE singer"),
        row(n="6", sql="SELECT ("),
        row(n="7", sql=""),
        row(n="8", sql="SELECT 1; SELECT 2"),
        row(n="9", sql="SELECT load_extension('x')"),
        row(n="10", sql="SELECT id FROM singer, band"),
        row(n="11", sql="WITH d AS (DELETE FROM singer RETURNING *) SELECT * FROM d"),
    )
    corpus = load_corpus(config(path))
    assert [pair.example.id for pair in corpus.pairs] == ["1"]
    assert corpus.dropped == {
        "empty_question": 1,
        "unknown_column": 1,
        "unknown_table": 1,
        "not_a_query": 1,
        "unparsable": 1,
        "empty": 1,
        "not_one_statement": 1,
        "denied_function": 1,
        "ambiguous_column": 1,
        "denied_node": 1,
    }
    assert corpus.summary().startswith("1 examples kept, 10 dropped (")


def test_duplicates_are_found_after_cleaning(folder: Path) -> None:
    one = write(
        folder,
        "one.jsonl",
        row(n="1", question="Q?", sql="SELECT name FROM singer"),
        row(n="2", question="Q?", sql="select T1.NAME from Singer as T1 -- x"),
        row(n="3", question="Q!", sql="SELECT name FROM singer"),
        row(n="4", question="Q?", sql="SELECT id FROM singer"),
    )
    two = write(folder, "two.jsonl", row(n="5", question="Q?", sql="SELECT Name FROM singer"))
    corpus = load_corpus(config(one, two))
    assert [pair.example.id for pair in corpus.pairs] == ["1", "3", "4"]
    assert corpus.dropped == {"duplicate": 2}


@pytest.mark.parametrize(
    ("names", "sql"),
    [("full", "SELECT Name FROM singer"), ("written", "SELECT T1.name FROM SINGER AS T1")],
)
def test_sql_is_cleaned_as_the_recipe_says(names: str, sql: str, folder: Path) -> None:
    path = write(folder, "train.jsonl", row(sql="SELECT T1.name FROM SINGER AS T1;"))
    (pair,) = load_corpus(config(path, names=names)).pairs
    assert pair.example == Example("1", "music", "Q1?", sql)


def test_a_schema_stands_beside_the_file_or_in_its_folder_schemas(tmp_path: Path) -> None:
    path = write(tmp_path, "train.jsonl", row())
    with pytest.raises(RecipeError, match=r"no schema of 'music'; looked for .*schemas/music\.sql"):
        load_corpus(config(path))
    (tmp_path / "music.sql").write_text("CREATE TABLE beside (a INT)")
    assert load_corpus(config(path)).pairs[0].schema.find("beside")
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "music.sql").write_text("CREATE TABLE inside (a INT)")
    assert load_corpus(config(path)).pairs[0].schema.find("inside")


def test_a_schema_is_read_in_the_dialect_of_its_examples(folder: Path) -> None:
    ddl = "CREATE TABLE t (a INT AUTO_INCREMENT, KEY k (a)) ENGINE=InnoDB COMMENT='x'"
    (folder / "schemas" / "my.sql").write_text(ddl)
    path = write(folder, "train.jsonl", row(db_id="my", sql="SELECT `a` FROM t", dialect="mariadb"))
    (pair,) = load_corpus(config(path)).pairs
    assert pair.schema.tables[0].column_names == ("a",)
    assert pair.example.sql == "SELECT `a` FROM t"


def test_what_is_wrong_with_a_file_is_said(folder: Path) -> None:
    with pytest.raises(ExampleError, match="can't be read"):
        load_corpus(config(str(folder / "none.jsonl")))
    with pytest.raises(ExampleError, match="unknown dialect 'klingon'"):
        load_corpus(config(write(folder, "a.jsonl", row(dialect="klingon"))))
    (folder / "schemas" / "bad.sql").write_text("DROP TABLE x")
    with pytest.raises(DdlError):
        load_corpus(config(write(folder, "b.jsonl", row(db_id="bad"))))
    with pytest.raises(RecipeError, match=r"nothing left to train on: 0 examples kept, 1 dropped"):
        load_corpus(config(write(folder, "c.jsonl", row(sql="DROP TABLE singer"))))


def test_any_alias_of_a_dialect_may_stand_in_the_data(folder: Path) -> None:
    path = write(folder, "train.jsonl", row(sql="SELECT name::text FROM singer", dialect="pg"))
    (pair,) = load_corpus(config(path)).pairs
    assert pair.example.sql == "SELECT CAST(Name AS TEXT) FROM singer"


def test_sources_name_each_file_with_its_hash(folder: Path) -> None:
    one = write(folder, "one.jsonl", row(n="1", source="spider"), row(n="2", sql="x"))
    two = write(folder, "two.jsonl", row(n="3"), row(n="4"))
    assert load_corpus(config(one, two)).sources == [
        {"name": "spider", "sha256": sha256_file(Path(one)), "examples": 1},
        {"name": "two", "sha256": sha256_file(Path(two)), "examples": 2},
    ]


def test_only_the_examples_that_are_trained_on_are_counted(folder: Path) -> None:
    one = write(folder, "one.jsonl", *[row(n=str(n)) for n in range(5)])
    two = write(folder, "two.jsonl", *[row(n=str(n)) for n in range(5, 10)])
    corpus = load_corpus(config(one, two, max_examples=7))
    assert [pair.example.id for pair in corpus.pairs] == list("0123456")
    assert [source["examples"] for source in corpus.sources] == [5, 2]
    assert len(load_corpus(config(one, two)).pairs) == 10


def test_the_samples_are_kept_whole() -> None:
    corpus = load_corpus(config("samples"))
    assert len(corpus.pairs) == len(sample_examples("train")) > 100
    assert corpus.dropped == {}
    (source,) = corpus.sources
    assert source["name"] == "sqlwright"
    assert source["sha256"] == sha256_file(FOLDER / "train.jsonl")


PAIR = Pair(Example("1", "music", "How\nmany?", "SELECT Name FROM singer"), parse_ddl(DDL))


def test_the_loss_is_on_the_completion_and_its_end_only() -> None:
    recipe = config("samples")
    tokens = tokenise_pair(PAIR, CharTokenizer(), recipe)
    prompt = recipe.prompt_format.render(PAIR.schema, PAIR.example.question, "sqlite")
    completion = [ord(letter) for letter in "SELECT Name FROM singer"] + [EOS]
    assert tokens.input_ids == [BOS, *map(ord, prompt), *completion]
    assert tokens.completion_mask == [0] * (1 + len(prompt)) + [1] * len(completion)
    learnt = [i for i, m in zip(tokens.input_ids, tokens.completion_mask, strict=True) if m]
    assert learnt == completion


def test_the_prompt_is_tokenised_alone_as_the_server_does() -> None:
    tokenizer = CharTokenizer()
    tokenise_pair(PAIR, tokenizer, config("samples", template="{schema}|{question}|"))
    (prompt, with_special), (completion, without) = tokenizer.asked
    assert prompt.endswith("|How many?|") and with_special
    assert completion == "SELECT Name FROM singer" and not without


def test_the_dialect_of_the_example_stands_in_the_prompt() -> None:
    tokenizer = CharTokenizer()
    example = Example("1", "music", "Q?", "SELECT 1", dialect="mysql")
    tokenise_pair(Pair(example, PAIR.schema), tokenizer, config("samples"))
    assert tokenizer.asked[0][0].startswith("-- mysql\n")


def test_a_tokenizer_without_an_end_is_refused() -> None:
    tokenizer = CharTokenizer()
    tokenizer.eos_token_id = None
    with pytest.raises(BaseModelError, match="no end-of-sequence token"):
        tokenise_pair(PAIR, tokenizer, config("samples"))


def test_a_row_that_is_too_long_is_dropped_and_counted() -> None:
    longer = Pair(Example("2", "music", "How many? " * 9, "SELECT 1"), PAIR.schema)
    length = len(tokenise_pair(PAIR, CharTokenizer(), config("samples")).input_ids)
    corpus = Corpus([PAIR, longer], sources=[{"name": "music", "examples": 2}])
    rows = tokenise(corpus, CharTokenizer(), config("samples", max_length=length))
    assert [len(row.input_ids) for row in rows] == [length]
    assert corpus.dropped == {"too_long": 1}
    assert corpus.sources == [{"name": "music", "examples": 1}]
    none = Corpus([PAIR], sources=[{"name": "music", "examples": 1}])
    with pytest.raises(RecipeError, match=f"max_length: no example fits {length - 1} tokens"):
        tokenise(none, CharTokenizer(), config("samples", max_length=length - 1))


def test_tokens_have_one_mark_each() -> None:
    corpus = load_corpus(config("samples", max_examples=20))
    rows = tokenise(corpus, CharTokenizer(), config("samples"))
    assert len(rows) == 20
    for tokens in rows:
        assert isinstance(tokens, Tokens)
        assert len(tokens.input_ids) == len(tokens.completion_mask)
        assert tokens.completion_mask == sorted(tokens.completion_mask)
        assert tokens.input_ids[-1] == EOS and tokens.completion_mask[-1] == 1
