"""The functions that the task files beside this one name. Knows nothing of models.

lm-evaluation-harness hands documents around as plain values, so that a document holds the number
of its question, and the questions stay here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from eval.dataset import SAMPLES, Question
from eval.harness.items import chat_of, open_items, prompt_of, verdicts

_questions: list[Question] = []


def load(
    data: str = SAMPLES,
    databases: str | None = None,
    schemas: str | None = None,
    **_: Any,  # of --metadata, where the model's own arguments are, too
) -> dict[str, Any]:
    """The test split: a document a question.

    Raises:
        DatasetError, ExampleError, DdlError: the message names the file, line or database.
    """
    from datasets import Dataset

    first = len(_questions)
    _questions.extend(open_items(data, databases=databases, schemas=schemas))
    found = enumerate(_questions[first:], start=first)
    return {"test": Dataset.from_list([_document(number, question) for number, question in found])}


def judge(document: Mapping[str, Any], completions: Sequence[str]) -> dict[str, float]:
    """Our verdicts on the completion of one document.

    Raises:
        ScoreError: the gold query fails.
    """
    return verdicts(_questions[document["number"]], completions[0])


def _document(number: int, question: Question) -> dict[str, Any]:
    example = question.example
    return {
        "number": number,
        "id": example.id,
        "db_id": example.db_id,
        "gold": example.sql,
        "prompt": prompt_of(question),
        "chat": "\n\n".join(message["content"] for message in chat_of(question)),
    }
