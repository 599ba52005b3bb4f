"""Token ids: where the loss is, what is too long, and how long rows are."""

from pathlib import Path
from typing import Any

import pytest

from eval.task.base_model import BaseModelError
from eval.task.prompt import PromptFormat
from eval.task.schema import parse_ddl
from trainer.pipeline import tokens
from trainer.pipeline.row import Row, dump_schema
from trainer.pipeline.source import DataError
from trainer.pipeline.tokens import Spread, Tokenised, tokenise

SCHEMA = parse_ddl('CREATE TABLE singer (id INT, "full name" TEXT);')
BOS, EOS = 1, 2
FORMAT = PromptFormat("{dialect}|{schema}|{question}>")
BARE = PromptFormat("{schema}{question}")


class CharTokenizer:
    """One token a character, with a token at the start where special tokens are wanted."""

    eos_token_id: int | None = EOS

    def __init__(self, vocabulary: str = "characters") -> None:
        self.asked: list[tuple[list[str], bool]] = []
        self.vocabulary = vocabulary

    def __call__(self, texts: list[str], add_special_tokens: bool = True) -> dict[str, Any]:
        self.asked.append((texts, add_special_tokens))
        start = [BOS] if add_special_tokens else []
        return {"input_ids": [start + [ord(letter) for letter in text] for text in texts]}

    @property
    def backend_tokenizer(self) -> "CharTokenizer":
        return self

    def to_str(self) -> str:
        return self.vocabulary


def row(number: int = 1, question: str = "Who?", sql: str = "SELECT 1", **changes: str) -> Row:
    schema = changes.pop("schema_json", dump_schema(SCHEMA))
    return Row(f"r{number}", "music", question, sql, schema_json=schema, **changes)


def lengthy(*lengths: int) -> list[Row]:
    """Rows of so many tokens under `BARE`: the start, the question, one of SQL, the end."""
    return [row(n, "q" * (length - 3), "S", schema_json="") for n, length in enumerate(lengths)]


def ids_of(made: Tokenised) -> list[list[int]]:
    return list(made.dataset["input_ids"])


def test_the_loss_is_on_the_completion_and_its_end_only() -> None:
    asked = row(question="How\n many é?", sql='SELECT "full name"\nFROM singer', dialect="mysql")
    (record,) = tokenise([asked], CharTokenizer(), FORMAT, 1000).dataset
    prompt = FORMAT.render(SCHEMA, asked.question, "mysql")
    completion = [*map(ord, asked.sql), EOS]
    assert prompt.startswith("mysql|table singer:")
    assert record["input_ids"] == [BOS, *map(ord, prompt), *completion]
    assert record["completion_mask"] == [0] * (1 + len(prompt)) + [1] * len(completion)


def test_the_prompt_is_tokenised_alone_as_the_server_does() -> None:
    tokenizer = CharTokenizer()
    tokenise([row(), row(2, "Why?")], tokenizer, FORMAT, 1000)
    (prompts, with_special), (completions, without) = tokenizer.asked
    assert [prompt.rpartition("|")[2] for prompt in prompts] == ["Who?>", "Why?>"]
    assert completions == ["SELECT 1"] * 2
    assert with_special and not without


def test_another_completion_can_be_asked_for() -> None:
    made = tokenise(
        [row()], CharTokenizer(), BARE, 1000, completion=lambda row: f"-- {row.db_id}\n{row.sql}"
    )
    (record,) = made.dataset
    learnt = [t for t, m in zip(record["input_ids"], record["completion_mask"], strict=True) if m]
    assert "".join(map(chr, learnt[:-1])) == "-- music\nSELECT 1"


def test_a_row_without_a_schema_has_a_prompt_without_one() -> None:
    (record,) = tokenise([row(schema_json="")], CharTokenizer(), FORMAT, 99).dataset
    assert record["input_ids"][: len("sqlite||Who?>") + 1] == [BOS, *map(ord, "sqlite||Who?>")]


def test_a_tokenizer_without_an_end_is_refused() -> None:
    tokenizer = CharTokenizer()
    tokenizer.eos_token_id = None
    with pytest.raises(BaseModelError, match="the base model: its tokenizer has no end-of-seq"):
        tokenise([row()], tokenizer, FORMAT, 1000)


def test_a_row_that_is_too_long_is_dropped_under_that_reason() -> None:
    made = tokenise(lengthy(10, 11, 12, 10), CharTokenizer(), BARE, 10)
    assert [len(ids) for ids in ids_of(made)] == [10, 10]
    assert [(drop.id, drop.reason, drop.detail) for drop in made.dropped] == [
        ("r1", "too_long", "11 tokens, at most 10"),
        ("r2", "too_long", "12 tokens, at most 10"),
    ]
    assert (made.report.rows_in, made.report.rows_out) == (4, 2)
    assert made.report.dropped == {"too_long": 2}
    assert made.report.examples[1].question == "q" * 9


def test_where_no_row_fits_the_shortest_is_named() -> None:
    with pytest.raises(DataError, match="no example fits 9 tokens; the shortest has 11"):
        tokenise(lengthy(12, 11), CharTokenizer(), BARE, 9)
    with pytest.raises(DataError, match="no example fits"):
        tokenise([], CharTokenizer(), BARE, 9)


def test_rows_stay_in_order_over_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tokenise(lengthy(*range(4, 14)), CharTokenizer(), BARE, 11)
    monkeypatch.setattr(tokens, "BATCH_ROWS", 3)
    tokenizer = CharTokenizer()
    parts = tokenise(lengthy(*range(4, 14)), tokenizer, BARE, 11)
    assert len(tokenizer.asked) == 8
    assert ids_of(parts) == ids_of(whole)
    assert parts.lengths == whole.lengths and parts.dropped == whole.dropped


def test_statistics_are_of_the_rows_that_are_kept() -> None:
    lengths = tokenise(lengthy(*range(4, 24), 500), CharTokenizer(), BARE, 100).lengths
    assert lengths.total == Spread(4, 13, 22, 23)
    assert lengths.prompt == Spread(2, 11, 20, 21)
    assert lengths.completion == Spread(2, 2, 2, 2)
    assert lengths.num_tokens == sum(range(4, 24))
    assert lengths.num_completion_tokens == 40
    assert lengths.completion_share == 40 / 270


def test_the_histogram_counts_the_long_rows_too() -> None:
    lengths = tokenise(lengthy(4, 19, 20, 399, 400), CharTokenizer(), BARE, 50).lengths
    assert lengths.bin_width == 20
    assert lengths.histogram == (2, 1, *[0] * 17, 1, 1)


def test_the_histogram_has_bins_for_any_length() -> None:
    (width,) = {tokens._lengths([(n, 1)], n + 1).bin_width for n in (150_000, 199_000)}
    assert width == 5000


def test_one_row_has_all_its_percentiles() -> None:
    assert tokenise(lengthy(7), CharTokenizer(), BARE, 7).lengths.total == Spread(7, 7, 7, 7)


def test_the_same_texts_are_tokenised_once(tmp_path: Path) -> None:
    rows = lengthy(10, 30, 12)
    first = tokenise(rows, CharTokenizer(), BARE, 20, cache=tmp_path)
    tokenizer = CharTokenizer()
    said: list[str] = []
    again = tokenise(rows, tokenizer, BARE, 20, cache=tmp_path, say=said.append)
    assert tokenizer.asked == []
    assert ids_of(again) == ids_of(first)
    assert (again.lengths, again.dropped) == (first.lengths, first.dropped)
    assert again.report.cached and not first.report.cached
    assert said[0].startswith("tokenise: 3 rows, 2 left, 1 dropped (too_long 1); 22 tokens, 18.2%")


@pytest.mark.parametrize("change", ["question", "vocabulary", "end", "max_length", "completion"])
def test_another_text_or_tokenizer_is_tokenised_anew(change: str, tmp_path: Path) -> None:
    tokenise([row()], CharTokenizer(), BARE, 900, cache=tmp_path)
    tokenizer = CharTokenizer("other" if change == "vocabulary" else "characters")
    tokenizer.eos_token_id = 3 if change == "end" else EOS
    tokenise(
        [row(question="Who else?" if change == "question" else "Who?")],
        tokenizer,
        BARE,
        901 if change == "max_length" else 900,
        completion=(lambda row: "-- x") if change == "completion" else tokens.gold_sql,
        cache=tmp_path,
    )
    assert len(tokenizer.asked) == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_what_an_unknown_tokenizer_makes_is_not_kept(tmp_path: Path) -> None:
    class Slow(CharTokenizer):
        backend_tokenizer = None  # type: ignore[assignment]

    tokenise([row()], Slow(), BARE, 900, cache=tmp_path)
    assert list(tmp_path.iterdir()) == []
