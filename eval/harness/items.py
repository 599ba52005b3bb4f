"""Questions that a harness asks in its own way, and our verdicts on what it got.

Knows no harness. Queries run in this process: with their limits of time and rows, but without the
memory limit that `sqlwright-eval` puts on its workers.
"""

import atexit
from contextlib import ExitStack
from pathlib import Path

from eval.ask.chat import Message, messages
from eval.dataset import SAMPLES, Question, open_dataset
from eval.execution import Database, Target, open_database
from eval.score import Case, Judging, judge_case
from eval.task.dialect import resolve_dialect
from eval.task.prompt import PromptFormat, extract_sql

MEASURES = ("execution_accuracy", "valid_sql", "runs")
MAX_TOKENS = 256

# The samples' databases lie in a temporary folder: answers are judged long after they are opened.
_until_exit = ExitStack()
atexit.register(_until_exit.close)


def open_items(
    data: str = SAMPLES,
    *,
    databases: str | None = None,
    schemas: str | None = None,
    limit: int | None = None,
) -> tuple[Question, ...]:
    """The questions of `data` (see `open_dataset`), to be judged until this process ends.

    Raises:
        DatasetError, ExampleError, DdlError: the message names the file, line or database.
    """
    opened = open_dataset(
        data,
        databases=databases,
        schemas=Path(schemas) if schemas else None,
        limit=limit,
    )
    return _until_exit.enter_context(opened).questions


def prompt_of(question: Question) -> str:
    """What an adapter of ours was trained to complete."""
    example = question.example
    dialect = resolve_dialect(example.dialect)
    return PromptFormat().render(question.schema, example.question, dialect)


def chat_of(question: Question) -> list[Message]:
    """What a general model is asked: a system and a user message."""
    example = question.example
    return messages(question.ddl, example.question, resolve_dialect(example.dialect))


def verdicts(question: Question, completion: str) -> dict[str, float]:
    """What `sqlwright-eval` would say of the SQL in `completion`, by name of the measure.

    Raises:
        ScoreError: the gold query fails.
    """
    case = Case(question, extract_sql(completion))
    with ExitStack() as stack:

        def opened(target: Target) -> Database:
            database = open_database(target)
            stack.callback(database.close)
            return database

        scores = judge_case(case, opened, Judging(measures=MEASURES)).scores
    return {name: scores[name] or 0.0 for name in MEASURES}
