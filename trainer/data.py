"""Examples to token ids: load, clean, filter, render, tokenise; every dropped row has a reason."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlglot.errors import SqlglotError

from eval.task import samples
from eval.task.base_model import BaseModelError
from eval.task.bundle import sha256_file
from eval.task.example import Example, load_examples
from eval.task.schema import Schema, parse_ddl
from eval.task.sql import check_sql
from trainer.clean import canonical_sql
from trainer.config import SAMPLES, RecipeError, TrainConfig


@dataclass(frozen=True)
class Pair:
    """One example with the schema that it is asked on; `source` counts the files of `data`."""

    example: Example
    schema: Schema
    source: int = 0


@dataclass
class Corpus:
    """What is trained on: the kept pairs, how many were dropped and why, and the files' hashes."""

    pairs: list[Pair] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    sources: list[dict[str, Any]] = field(default_factory=list)

    def summary(self) -> str:
        reasons = ", ".join(f"{reason} {count}" for reason, count in self.dropped.most_common())
        return f"{len(self.pairs)} examples kept, {self.dropped.total()} dropped" + (
            f" ({reasons})" if reasons else ""
        )


@dataclass(frozen=True)
class Tokens:
    """One example as the model sees it; both lists have one entry a token."""

    input_ids: list[int]
    completion_mask: list[int]


def _invalid(pair: Pair) -> str | None:
    check = check_sql(pair.example.sql, pair.schema, pair.example.dialect)
    return None if check.valid else check.violations[0].code


def _empty_question(pair: Pair) -> str | None:
    return None if pair.example.question.strip() else "empty_question"


FILTERS: tuple[Callable[[Pair], str | None], ...] = (_empty_question, _invalid)


def load_corpus(config: TrainConfig) -> Corpus:
    """Load every file of `config.data`, clean and filter it.

    Raises:
        ExampleError, RecipeError, DdlError: a file or schema is missing or malformed, or nothing
            is left.
    """
    corpus = Corpus()
    seen: set[tuple[str, str, str]] = set()
    for number, name in enumerate(config.data):
        path = samples.FOLDER / "train.jsonl" if name == SAMPLES else Path(name)
        examples = load_examples(path)
        dialects = {e.db_id: e.dialect for e in examples}
        schemas = {db_id: _schema(path, db_id, dialect) for db_id, dialect in dialects.items()}
        before = len(corpus.pairs)
        for example in examples:
            if not config.max_examples or len(corpus.pairs) < config.max_examples:
                _add(corpus, Pair(example, schemas[example.db_id], number), config, seen)
        kept = len(corpus.pairs) - before
        source = {
            "name": _source_name(name, examples),
            "sha256": sha256_file(path),
            "examples": kept,
        }
        corpus.sources.append(source)
    if not corpus.pairs:
        raise RecipeError(f"data: nothing left to train on: {corpus.summary()}")
    return corpus


def _source_name(name: str, examples: list[Example]) -> str:
    return examples[0].source or Path(name).stem


def _schema(data: Path, db_id: str, dialect: str) -> Schema:
    places = (data.parent / "schemas" / f"{db_id}.sql", data.parent / f"{db_id}.sql")
    for place in places:
        if place.is_file():
            return parse_ddl(place.read_text(encoding="utf-8"), dialect)
    raise RecipeError(f"data: no schema of {db_id!r}; looked for {places[0]} and {places[1]}")


def _add(corpus: Corpus, pair: Pair, config: TrainConfig, seen: set[tuple[str, str, str]]) -> None:
    for reason in (check(pair) for check in FILTERS):
        if reason:
            corpus.dropped[reason] += 1
            return
    example = pair.example
    try:
        full = config.names == "full"
        sql = canonical_sql(example.sql, pair.schema, example.dialect, full_names=full)
    except (SqlglotError, RecursionError):
        corpus.dropped["unparsable"] += 1
        return
    key = (example.db_id, example.question, sql)
    if key in seen:
        corpus.dropped["duplicate"] += 1
        return
    seen.add(key)
    corpus.pairs.append(replace(pair, example=replace(example, sql=sql)))


def tokenise(corpus: Corpus, tokenizer: Any, config: TrainConfig) -> list[Tokens]:
    """Token ids of every pair that fits `max_length`; the others are counted as `too_long`, and
    their source has so many examples fewer.

    The prompt's ids are those that the server sends: tokenised alone, nothing merged over its end.
    """
    rows = []
    for pair in corpus.pairs:
        row = tokenise_pair(pair, tokenizer, config)
        if len(row.input_ids) > config.max_length:
            corpus.dropped["too_long"] += 1
            corpus.sources[pair.source]["examples"] -= 1
        else:
            rows.append(row)
    if not rows:
        raise RecipeError(f"max_length: no example fits {config.max_length} tokens")
    return rows


def tokenise_pair(pair: Pair, tokenizer: Any, config: TrainConfig) -> Tokens:
    """Prompt ids, then completion ids with the end-of-sequence token; the loss is on the latter.

    Raises:
        BaseModelError: the tokenizer has no end-of-sequence token.
    """
    example = pair.example
    prompt = config.prompt_format.render(pair.schema, example.question, example.dialect)
    if tokenizer.eos_token_id is None:
        raise BaseModelError(f"{config.base_model}: its tokenizer has no end-of-sequence token")
    prompt_ids = tokenizer(prompt)["input_ids"]
    completion_ids = tokenizer(example.sql, add_special_tokens=False)["input_ids"]
    completion_ids = [*completion_ids, tokenizer.eos_token_id]
    mask = [0] * len(prompt_ids) + [1] * len(completion_ids)
    return Tokens(prompt_ids + completion_ids, mask)
