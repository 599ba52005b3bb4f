"""Answers and verdicts of an earlier result, and the scores that travel with a bundle."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eval.api import Answer
from eval.dataset import Question
from eval.report import Result
from eval.score import JUDGE
from eval.task.bundle import put_evidence, read_bundle


class EvidenceError(ValueError):
    """A result file that can't be used; the message names it and what is wrong."""


def _items(path: Path) -> dict[str, dict[str, Any]]:
    """The items of a result file by id."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {item["id"]: item for item in record["items"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvidenceError(f"{path}: no result of sqlwright-eval: {error}") from error


def read_answers(path: Path, questions: Sequence[Question]) -> list[Answer]:
    """The answers that an earlier run got to `questions`, in their order.

    Raises:
        EvidenceError: the file is no result, or holds no answer to one of the questions.
    """
    items = _items(path)
    if missing := [q.example.id for q in questions if q.example.id not in items]:
        raise EvidenceError(f"{path}: no answer to {len(missing)} questions, first {missing[0]!r}")
    return [_answer(items[question.example.id]) for question in questions]


def _answer(item: dict[str, Any]) -> Answer:
    names = (
        "predicted", "error", "model", "confidence", "server_valid", "truncated",
        "completion_tokens", "latency_ms",
    )  # fmt: skip
    values: dict[str, Any] = {name: item.get(name) for name in names}
    return Answer(**values)


def write_evidence(result: Result, folder: Path, against: Path | None) -> Path:
    """Write the scores to `folder/evidence/eval.json`; with `against`, a result of the base on the
    same questions, also how many answers the adapter fixed and how many it broke.

    Raises:
        BundleError: `folder` is no whole bundle.
        EvidenceError: `against` is no result, or is of other questions.
    """
    bundle = read_bundle(folder)
    record: dict[str, Any] = {
        "digest": bundle.digest,
        "model": result.model,
        "data": {"name": result.dataset.name, "sha256": result.dataset.sha256},
        "judge": JUDGE,
        "measures": {name: asdict(measure) for name, measure in result.measures.items()},
    }
    if against:
        record["against_base"] = _paired(result, against)
    return put_evidence(folder, "eval.json", record)


def _paired(result: Result, against: Path) -> dict[str, Any]:
    items = _items(against)
    pairs = [
        (bool(items.get(question.example.id, {}).get("correct")), outcome.correct)
        for question, outcome in zip(result.dataset.questions, result.outcomes, strict=True)
    ]
    if set(items) != {question.example.id for question in result.dataset.questions}:
        raise EvidenceError(f"{against}: holds other questions than {result.dataset.name}")
    return {
        "base_execution_accuracy": sum(base for base, _ in pairs) / len(pairs),
        "fixed": sum(now and not base for base, now in pairs),
        "broke": sum(base and not now for base, now in pairs),
        "n": len(pairs),
    }
