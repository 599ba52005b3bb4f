"""The questions that a benchmark asks: our samples or a JSONL file with its schemas beside it."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from pathlib import Path

from benchmarks.plan import BenchError
from eval.task.dialect import DialectError
from eval.task.example import Example, ExampleError, load_examples
from eval.task.prompt import PromptFormat
from eval.task.samples import sample_examples, sample_schema
from eval.task.schema import DdlError, Schema, parse_ddl

SAMPLES = "samples"


@dataclass(frozen=True, slots=True)
class Question:
    """One question with all that any of the APIs needs to be asked it.

    `ddl` is None where `db_id` is a database that the server ships with.
    """

    text: str
    db_id: str
    dialect: str
    prompt: str
    ddl: str | None = None


@dataclass(frozen=True)
class Workload:
    """Named questions in the order of their file."""

    name: str
    questions: tuple[Question, ...]

    def endless(self, seed: int) -> Iterator[Question]:
        """All questions in an order that `seed` fixes, again and again.

        Shuffled, so that neighbours share a schema (and the prefix cache) only by chance.
        """
        order = list(self.questions)
        random.Random(seed).shuffle(order)
        return cycle(order)


def load_workload(data: str) -> Workload:
    """Load `samples` or the JSONL file at path `data`, with its schemas in `schemas/DB_ID.sql`.

    Raises:
        BenchError: a file is missing or malformed.
    """
    if data == SAMPLES:
        examples = sample_examples("test") + sample_examples("train")
        return Workload(SAMPLES, tuple(_question(e, sample_schema(e.db_id)) for e in examples))
    path = Path(data)
    try:
        examples = load_examples(path)
    except ExampleError as error:
        raise BenchError(f"--data: {error}") from error
    return Workload(path.name, tuple(_file_question(e, path.parent / "schemas") for e in examples))


def _question(example: Example, schema: Schema, ddl: str | None = None) -> Question:
    prompt = PromptFormat().render(schema, example.question, example.dialect)
    return Question(example.question, example.db_id, example.dialect, prompt, ddl)


def _file_question(example: Example, folder: Path) -> Question:
    schema, ddl = _read_schema(folder / f"{example.db_id}.sql", example.dialect)
    return _question(example, schema, ddl)


@cache
def _read_schema(path: Path, dialect: str) -> tuple[Schema, str]:
    try:
        ddl = path.read_text(encoding="utf-8")
        return parse_ddl(ddl, dialect), ddl
    except (OSError, UnicodeDecodeError, DdlError, DialectError) as error:
        raise BenchError(f"--data: schema {path} can't be used: {error}") from error
