"""Rows as a model is asked them, and how right its answers are. Knows nothing of when."""

import random
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from eval.task.cores import num_cores
from eval.task.dialect import resolve_dialect
from eval.task.prompt import PromptFormat
from trainer.pipeline.row import Row
from trainer.tuning.accuracy import Accuracy, execution_accuracy
from trainer.tuning.generate import generate, merged


class DevSetError(ValueError):
    """A row that can't be asked; the message names it."""


def prompt_of(row: Row, prompt_format: PromptFormat) -> str:
    """The prompt of a row, as the server makes it.

    Raises:
        DevSetError: it has no schema.
    """
    if row.schema is None:
        raise DevSetError(f"row {row.id!r} has no schema, so that no prompt can be made")
    return prompt_format.render(row.schema, row.question, resolve_dialect(row.dialect))


@dataclass(frozen=True)
class DevSet:
    """Dev rows and how a model is asked them.

    `max_rows` of them where there are more: the same at every call and in every process. With
    `merge` the adapter is folded into the weights meanwhile (`trainer.tuning.generate.merged`).
    """

    rows: Sequence[Row]
    prompt_format: PromptFormat
    tokenizer: Any
    workers: int = field(default_factory=num_cores)
    max_rows: int | None = None
    max_new_tokens: int = 160
    batch_size: int = 256
    merge: bool = False

    @property
    def chosen(self) -> list[Row]:
        if self.max_rows is None or len(self.rows) <= self.max_rows:
            return list(self.rows)
        places = random.Random("dev").sample(range(len(self.rows)), self.max_rows)
        return [self.rows[place] for place in sorted(places)]

    def measure(self, model: Any) -> Accuracy:
        """Greedy answers of `model` to the chosen rows, judged.

        Raises:
            DevSetError: a row has no schema.
            JudgeError: a row's database is missing.
        """
        rows = self.chosen
        with merged(model) if self.merge else nullcontext():
            answers = generate(
                model,
                self.tokenizer,
                [prompt_of(row, self.prompt_format) for row in rows],
                max_new_tokens=self.max_new_tokens,
                batch_size=self.batch_size,
            )
        return execution_accuracy([text for (text,) in answers], rows, workers=self.workers)
