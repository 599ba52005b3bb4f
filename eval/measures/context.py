"""What a measure may look at besides the two queries. Knows nothing of how they were made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from eval.dataset import Question
from eval.execution import Database
from eval.task.sqlite_judge import Answer

# Texts in, one unit vector each out: float32 of shape (len(texts), dimensions).
Embed = Callable[[Sequence[str]], Sequence[Sequence[float]]]


@dataclass(frozen=True)
class Context:
    """The question with its database, and what the caller chose.

    `suite` holds generated databases of the same schema, empty where none were made.
    `run` answers a query on the question's own database, from memory where it ran before.
    """

    question: Question
    database: Database
    suite: Sequence[Database] = ()
    permute_columns: bool = False
    embed: Embed | None = None
    _answers: dict[str, Answer] = field(default_factory=dict, repr=False)

    def run(self, sql: str) -> Answer:
        if sql not in self._answers:
            self._answers[sql] = self.database.run(sql)
        return self._answers[sql]


class Measure(Protocol):
    """0..1 for one prediction against one gold query; None where it is not defined."""

    __name__: str

    def __call__(self, predicted: str, gold: str, context: Context) -> float | None: ...
