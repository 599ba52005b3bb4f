"""Shows on which generated database a prediction and its gold query part, for people to read."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from eval.suite.distil import MAX_ROWS, TIMEOUT_SECONDS, differs
from eval.suite.stable import Bench
from eval.task.sqlite_judge import Answer


@dataclass(frozen=True, slots=True)
class Exposure:
    """The database that tells two queries apart, and both answers cut to a few rows."""

    database: Path
    expected: Answer
    found: Answer
    num_expected: int
    num_found: int


def expose(
    predicted: str, gold: str, suite: Sequence[Path], *, num_rows: int = 10
) -> Exposure | None:
    """Of the databases in `suite` that tell `predicted` from `gold` the one with the shortest
    gold answer; None where no database does."""
    found = [e for path in suite if (e := _expose_on(predicted, gold, path, num_rows))]
    return min(found, key=lambda exposure: exposure.num_expected, default=None)


def _expose_on(predicted: str, gold: str, path: Path, num_rows: int) -> Exposure | None:
    with closing(Bench(path, timeout=TIMEOUT_SECONDS, max_rows=MAX_ROWS)) as bench:
        expected, found = bench.run(gold), bench.run(predicted)
    if expected.error is not None or not differs(gold, expected, found):
        return None
    return Exposure(
        path,
        _cut(expected, num_rows),
        _cut(found, num_rows),
        len(expected.rows),
        len(found.rows),
    )


def _cut(answer: Answer, num_rows: int) -> Answer:
    return Answer(answer.rows[:num_rows], answer.error, answer.columns)
