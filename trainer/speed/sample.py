"""What both trainers are given: token ids of some rows to train on, and of others to compare on.

Rows to compare on are of databases that no row trained on has. Knows nothing of trainers.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.task.prompt import PromptFormat
from trainer.pipeline.load import load_source
from trainer.pipeline.row import Row
from trainer.pipeline.source import DataError
from trainer.pipeline.tokens import tokenise

# Rows that are tokenised at a time, until there are enough.
CHUNK_ROWS = 500


@dataclass(frozen=True)
class Sample:
    """Data sets of `input_ids` and `completion_mask`."""

    train: Any
    dev: Any

    @property
    def num_tokens(self) -> int:
        """Tokens of prompts and completions that are trained on."""
        return sum(self.lengths)

    @property
    def lengths(self) -> list[int]:
        return [len(ids) for ids in self.train["input_ids"]]

    def first(self, num_tokens: int) -> "Sample":
        """As many of the rows as have `num_tokens` together, at least one."""
        return Sample(_cut(self.train, num_tokens), self.dev)


def load_rows(path: Path) -> list[Row]:
    """The rows of a data file, or of a file of rows as the data pipeline has them (`schema_json`).

    Raises:
        DataError: the file can't be read.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            if "schema_json" not in json.loads(next(lines, "{}")):
                return load_source(str(path)).rows
            lines.seek(0)
            return [Row(**json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: can't be read: {error}") from error


def draw(
    rows: Sequence[Row],
    tokenizer: Any,
    *,
    num_tokens: int,
    dev_rows: int,
    max_length: int,
    prompt_format: PromptFormat,
    seed: int = 1,
) -> Sample:
    """At least `num_tokens` tokens of rows in random order (all, where there are fewer), and about
    `dev_rows` rows of other databases, whole databases in random order.

    Raises:
        DataError: the rows are all of one database, or none is short enough.
    """
    held_out = _held_out(rows, dev_rows, seed)
    train = [row for row in rows if row.db_id not in held_out]
    random.Random(f"{seed}:train").shuffle(train)
    dev = [row for row in rows if row.db_id in held_out]
    chunks = _tokenised(train, tokenizer, prompt_format, max_length)
    return Sample(
        _cut(_enough(chunks, num_tokens), num_tokens),
        tokenise(dev, tokenizer, prompt_format, max_length).dataset,
    )


def _held_out(rows: Sequence[Row], dev_rows: int, seed: int) -> set[str]:
    databases = sorted({row.db_id for row in rows})
    if len(databases) < 2:
        raise DataError("data: rows of at least two databases are needed, to hold out those of one")
    random.Random(f"{seed}:dev").shuffle(databases)
    held_out: set[str] = set()
    for name in databases[:-1]:
        if sum(row.db_id in held_out for row in rows) >= dev_rows:
            break
        held_out.add(name)
    return held_out


def _tokenised(
    rows: Sequence[Row], tokenizer: Any, prompt_format: PromptFormat, max_length: int
) -> Iterator[Any]:
    for start in range(0, len(rows), CHUNK_ROWS):
        chunk = rows[start : start + CHUNK_ROWS]
        yield tokenise(chunk, tokenizer, prompt_format, max_length).dataset


def _enough(chunks: Iterator[Any], num_tokens: int) -> Any:
    from datasets import concatenate_datasets

    parts: list[Any] = []
    found = 0
    while found < num_tokens and (part := next(chunks, None)) is not None:
        parts.append(part)
        found += sum(map(len, part["input_ids"]))
    return concatenate_datasets(parts)


def _cut(dataset: Any, num_tokens: int) -> Any:
    taken = found = 0
    for ids in dataset["input_ids"]:
        if found >= num_tokens:
            break
        taken, found = taken + 1, found + len(ids)
    return dataset.select(range(taken))
