"""The first rows of an answer as JSON, for people to read. Knows nothing of verdicts."""

import math
from typing import Any

from eval.record import Preview
from eval.task.sqlite_judge import Answer

ROWS = 20
TEXT_CHARACTERS = 200


def preview(answer: Answer) -> Preview | None:
    """The first `ROWS` rows, long text cut; None where the query failed."""
    if answer.error is not None:
        return None
    return {
        "columns": [_cut(name) for name in answer.columns],
        "rows": [[_cell(value) for value in row] for row in answer.rows[:ROWS]],
        "num_rows": len(answer.rows),
    }


def answer_of(shown: Preview | None, error: str | None) -> Answer:
    """What `preview` kept of an answer."""
    if shown is None:
        return Answer(error=error or "no answer")
    return Answer(tuple(tuple(row) for row in shown["rows"]), columns=tuple(shown["columns"]))


def _cell(value: object) -> Any:
    """`value` where JSON has it; blobs as SQL writes them, NaN and infinities as text."""
    match value:
        case None | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case bytes():
            return _cut(f"x'{value[:TEXT_CHARACTERS].hex()}'")
    return _cut(str(value))


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_CHARACTERS else text[: TEXT_CHARACTERS - 1] + "…"
