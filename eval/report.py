"""What an evaluation found: the JSON result, the table, the one-line summary and the figure.

Knows nothing of how it was found.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from eval.api import Answer
from eval.dataset import Dataset, Question
from eval.score import JUDGE, Outcome
from eval.stats import Measure
from eval.task.figure import Figure, write_figure


@dataclass(frozen=True, slots=True)
class Seconds:
    """Wall time of this run: `asking` holds no request that an earlier one, stopped, had sent."""

    asking: float
    judging: float


@dataclass(frozen=True)
class Result:
    """One finished evaluation; answers and outcomes in the order of the data set's questions."""

    model: str
    api: str
    dataset: Dataset
    answers: Sequence[Answer]
    outcomes: Sequence[Outcome]
    measures: Mapping[str, Measure]
    seconds: Seconds

    @property
    def versions_used(self) -> list[str]:
        """The models that the server named, in order of name: more than one after a switch."""
        return sorted({answer.model for answer in self.answers if answer.model})

    @property
    def num_errors(self) -> int:
        return sum(answer.error is not None for answer in self.answers)


def write_result(result: Result, path: Path) -> None:
    """Write the JSON file in one step; ASCII, since a model may write lone surrogates."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(json.dumps(_record(result), indent=1) + "\n", encoding="ascii")
    draft.replace(path)


def _record(result: Result) -> dict[str, Any]:
    dataset = result.dataset
    rows = zip(dataset.questions, result.answers, result.outcomes, strict=True)
    return {
        "model": result.model,
        "versions_used": result.versions_used,
        "data": {"name": dataset.name, "sha256": dataset.sha256, "n": len(dataset.questions)},
        "api": result.api,
        "judge": JUDGE,
        "measures": {name: asdict(measure) for name, measure in result.measures.items()},
        "num_errors": result.num_errors,
        "items": [_item(*row) for row in rows],
        "seconds": asdict(result.seconds),
    }


def _item(question: Question, answer: Answer, outcome: Outcome) -> dict[str, Any]:
    return {
        "id": question.example.id,
        "db_id": question.example.db_id,
        "predicted": answer.predicted,
        "correct": outcome.correct,
        "runs": outcome.runs,
        "valid": outcome.valid,
        "exact": outcome.exact,
        "gold_has_rows": outcome.gold_has_rows,
        "confidence": answer.confidence,
        "error": answer.error,
        "execution_error": None if answer.error else outcome.error,
        "completion_tokens": answer.completion_tokens,
        "truncated": answer.truncated,
        "server_valid": answer.server_valid,
        "latency_ms": answer.latency_ms,
        "model": answer.model,
    }


def table(result: Result) -> Table:
    """Measure, value ± standard error and n, for the terminal."""
    grid = Table(title=escape(f"{result.model} on {result.dataset.name} ({result.api})"))
    grid.add_column("measure")
    grid.add_column("value ± stderr", justify="right")
    grid.add_column("n", justify="right")
    for name, measure in result.measures.items():
        grid.add_row(name, _with_error(measure), f"{measure.n:,}")
    grid.caption = error_method(result.measures["execution_accuracy"])
    return grid


def error_method(measure: Measure) -> str:
    """How the standard errors were made."""
    if measure.is_clustered:
        return f"standard errors clustered by database ({measure.num_clusters})"
    return "one database only: standard errors take the questions as independent"


def summary(result: Result, path: Path) -> str:
    """The evaluation in one line, execution accuracy first."""
    first, *rest = result.measures.items()
    head = f"{first[0]} {_with_error(first[1])} (n={first[1].n})"
    others = [f"{name} {_with_error(measure)}" for name, measure in rest]
    return " · ".join([head, *others, f"result {path}"])


def _with_error(measure: Measure) -> str:
    stderr = "n/a" if measure.stderr is None else f"{measure.stderr:.3f}"
    return f"{measure.value:.3f} ± {stderr}"


def write_result_figure(result: Result, name: str, note: str = "") -> Path:
    """Write execution accuracy as the figure `name`: names and numbers, no text of the data."""
    accuracy = result.measures["execution_accuracy"]
    versions = ", ".join(result.versions_used) or result.model
    notes = (
        f"model {versions}; data {result.dataset.name}; api {result.api}; judge: {JUDGE}; "
        f"{error_method(accuracy)}; {result.num_errors} requests failed"
        + (f"; {note}" if note else "")
    )
    return write_figure(
        Figure(
            name,
            value=accuracy.value,
            unit="share of questions",
            n=accuracy.n,
            interval=accuracy.interval,
            notes=notes,
            rows=[
                {"measure": key, "value": m.value, "stderr": m.stderr, "n": m.n}
                for key, m in result.measures.items()
            ],
        )
    )
