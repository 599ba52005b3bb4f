"""Everything that an evaluation found, put together as one JSON record. Judges nothing itself."""

import errno
import json
import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eval.ask.api import Answer
from eval.calibration import calibration
from eval.contamination import Contamination
from eval.dataset import Dataset, Question
from eval.golds import GoldFacts
from eval.queries.shape import HARDNESS, SHAPES, hardness, shape
from eval.record import FORMAT, HEADLINE, Estimated, Group, Item, Record
from eval.score import Outcome
from eval.stats import Estimate, estimate
from eval.task.figure import command_line, versions

# What is worth a row by hardness, shape and database; more would drown it.
GROUPED = (HEADLINE, "test_suite_accuracy", "valid_sql")
# Right on the question's own database, wrong on a generated one.
LUCKY = "lucky_match"


@dataclass(frozen=True)
class Finished:
    """One evaluation; `answers`, `outcomes` and `facts` in the order of the data's questions."""

    model: str
    api: str
    dataset: Dataset
    answers: Sequence[Answer]
    outcomes: Sequence[Outcome]
    facts: Sequence[GoldFacts]
    contamination: Contamination
    judge: Mapping[str, Any]
    seconds: Mapping[str, float]


def build_record(run: Finished) -> Record:
    """The record of `run`, with the measures over all items and by group."""
    rows = zip(run.dataset.questions, run.answers, run.outcomes, run.facts, strict=True)
    items = [_item(*row) for row in rows]
    wrong = [item for item in items if item["scores"].get(HEADLINE) != 1.0]
    return {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command_line(),
        "versions": versions(),
        "model": run.model,
        "versions_used": sorted({answer.model for answer in run.answers if answer.model}),
        "api": run.api,
        "data": {
            "name": run.dataset.name,
            "sha256": run.dataset.sha256,
            "n": len(items),
            "contamination": run.contamination.counts,
        },
        "judge": dict(run.judge),
        "measures": estimates(items),
        "groups": _groups(items, run.contamination),
        "error_classes": dict(
            Counter(
                item["error_classes"][0] for item in wrong if item["error_classes"]
            ).most_common()
        ),
        "flags": dict(Counter(flag for item in items for flag in item["flags"]).most_common()),
        "calibration": _calibration(items),
        "notes": _notes(run, items),
        "num_errors": sum(answer.error is not None for answer in run.answers),
        "seconds": dict(run.seconds),
        "databases": {
            question.example.db_id: {"ddl": question.ddl} for question in run.dataset.questions
        },
        "items": items,
    }


def _item(question: Question, answer: Answer, outcome: Outcome, facts: GoldFacts) -> Item:
    example = question.example
    return {
        "id": example.id,
        "db_id": example.db_id,
        "dialect": question.dialect,
        "question": example.question,
        "gold": outcome.gold,
        "golds": list(example.golds),
        "predicted": answer.predicted,
        "scores": outcome.scores,
        "confidence": answer.confidence,
        "error": answer.error,
        "execution_error": None if answer.error else outcome.error,
        "flags": [*facts.flags, *([LUCKY] if _is_lucky(outcome) else [])],
        "error_classes": list(outcome.error_classes),
        "hardness": hardness(example.sql, question.dialect),
        "shape": list(shape(example.sql, question.dialect)),
        "gold_answer": outcome.gold_answer,
        "predicted_answer": outcome.predicted_answer,
        "completion_tokens": answer.completion_tokens,
        "truncated": answer.truncated,
        "server_valid": answer.server_valid,
        "latency_ms": answer.latency_ms,
        "model": answer.model,
    }


def _is_lucky(outcome: Outcome) -> bool:
    return outcome.correct and outcome.scores.get("test_suite_accuracy") == 0.0


def estimates(items: Sequence[Item]) -> dict[str, Estimated]:
    """Every measure over those `items` that have it."""
    names = {name: None for item in items for name in item["scores"]}
    found = {}
    for name in names:
        pairs = [
            (value, item["db_id"])
            for item in items
            if (value := item["scores"].get(name)) is not None
        ]
        if pairs:
            values, clusters = zip(*pairs, strict=True)
            found[name] = _estimated(estimate(values, clusters))
    return found


def _estimated(found: Estimate) -> Estimated:
    return {
        "value": found.value,
        "stderr": found.stderr,
        "n": found.n,
        "num_clusters": found.num_clusters,
        "interval": list(found.interval) if found.interval else None,
        "bootstrap": list(found.bootstrap) if found.bootstrap else None,
    }


def _groups(items: Sequence[Item], contamination: Contamination) -> dict[str, dict[str, Group]]:
    groups: dict[str, dict[str, list[Item]]] = {"hardness": {}, "shape": {}, "db_id": {}}
    leaked = contamination.overlap.leaked if contamination.overlap else frozenset()
    for item in items:
        groups["hardness"].setdefault(item["hardness"], []).append(item)
        groups["db_id"].setdefault(item["db_id"], []).append(item)
        for name in item["shape"]:
            groups["shape"].setdefault(name, []).append(item)
        if contamination.overlap:
            label = "in training data" if item["id"] in leaked else "not in training data"
            groups.setdefault("training", {}).setdefault(label, []).append(item)
    order = {name: place for place, name in enumerate((*HARDNESS, *SHAPES))}
    return {
        kind: {
            name: _group(found[name]) for name in sorted(found, key=lambda n: (order.get(n, 0), n))
        }
        for kind, found in groups.items()
    }


def _group(items: Sequence[Item]) -> Group:
    found = estimates(items)
    return {"n": len(items), "measures": {name: found[name] for name in GROUPED if name in found}}


def _calibration(items: Sequence[Item]) -> Any:
    return calibration(
        [item["confidence"] for item in items],
        [item["scores"].get(HEADLINE) == 1.0 for item in items],
    )


def _notes(run: Finished, items: Sequence[Item]) -> list[str]:
    """What the reader of a score must know, most pressing first."""
    notes = []
    if failed := [answer.error for answer in run.answers if answer.error]:
        notes.append(f"{len(failed):,} requests failed and count as wrong; the first: {failed[0]}")
    models = sorted({answer.model for answer in run.answers if answer.model})
    if len(models) > 1:
        notes.append(f"more than one version answered: {', '.join(models)}")
    suite = [item["scores"].get("test_suite_accuracy") for item in items]
    if 0 < (missing := suite.count(None)) < len(items):
        notes.append(
            f"{missing:,} of {len(items):,} golds have no generated database that can judge them: "
            "left out of test_suite_accuracy"
        )
    return [*notes, *run.contamination.notes]


def check_place(path: Path) -> None:
    """Make the folder of `path`, and see that the result can be written there.

    Raises:
        OSError: it can't; names the place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    tempfile.TemporaryFile(dir=path.parent).close()


def write_record(record: Record, path: Path) -> None:
    """Write the JSON file in one step; ASCII, since a model may write lone surrogates.

    It is on the disk when this returns: the answers kept so far may then go.

    Raises:
        OSError: it can't be written; names the file, which is as it was before.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    text = json.dumps(record, indent=1, allow_nan=False) + "\n"
    try:
        with draft.open("w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
