"""The result of an evaluation as JSON: what `run` writes and what report, page and compare read.

Knows only the shape of the file and how to read it.
"""

import json
from pathlib import Path
from typing import Any, TypedDict

FORMAT = 2
# The measure that a result is judged by: items without it at 1 are wrong.
HEADLINE = "execution_accuracy"


class RecordError(ValueError):
    """A file that is no result of sqlwright-eval; the message names it and the remedy."""


class Estimated(TypedDict):
    """A mean over `n` items: standard error clustered by database, 95 % intervals."""

    value: float
    stderr: float | None
    n: int
    num_clusters: int
    interval: list[float] | None  # value ± t standard errors, within 0..1 for shares
    bootstrap: list[float] | None  # percentile interval, databases resampled


class Group(TypedDict):
    """The items of one hardness or shape."""

    n: int
    measures: dict[str, Estimated]


class Preview(TypedDict):
    """The first rows of an answer; cells are JSON values, text cut at 200 characters."""

    columns: list[str]
    rows: list[list[Any]]
    num_rows: int


class Item(TypedDict):
    """One question with all that was found of it. `gold` is the gold query that was compared:
    of several, the first that the prediction matches, else the first."""

    id: str
    db_id: str
    dialect: str
    question: str
    gold: str
    golds: list[str]
    predicted: str
    scores: dict[str, float | None]
    confidence: float | None
    error: str | None  # why there is no prediction: the request failed
    execution_error: str | None  # what the database said of the predicted query
    flags: list[str]  # of eval.golds.FLAGS, and "lucky_match" (see eval.result)
    error_classes: list[str]  # of eval.queries.diagnose.CLASSES, first the one that explains most
    hardness: str  # of eval.queries.shape.HARDNESS
    shape: list[str]  # of eval.queries.shape.SHAPES
    gold_answer: Preview | None
    predicted_answer: Preview | None
    completion_tokens: int | None
    truncated: bool | None
    server_valid: bool | None
    latency_ms: float | None
    model: str | None


class Bin(TypedDict):
    """One bin of the reliability diagram: means of `n` items."""

    confidence: float
    accuracy: float
    n: int


class RiskPoint(TypedDict):
    """What one gets by answering only where confidence is `threshold` or more: the share of items
    answered, and the share of wrong ones among them."""

    threshold: float
    coverage: float
    risk: float


class Calibration(TypedDict):
    """How far confidence can be believed; see eval.calibration."""

    n: int  # items with a confidence
    ece: float  # over `num_bins` bins of equal mass
    num_bins: int  # bins in use: fewer than asked for where confidences tie
    auroc: float | None  # None where all items are right, or all wrong
    brier: float
    brier_skill: float | None  # against always saying the accuracy; None as for AUROC
    bins: list[Bin]
    risk_coverage: list[RiskPoint]  # by rising coverage, the last is all items


class Record(TypedDict):
    """One finished evaluation."""

    format: int
    created: str  # UTC, ISO 8601
    command: str
    versions: dict[str, str]
    model: str
    versions_used: list[str]
    api: str
    data: dict[str, Any]  # name, sha256, n
    judge: dict[str, Any]  # description, engine, permute_columns, timeout_seconds, max_rows, suite
    measures: dict[str, Estimated]
    groups: dict[str, dict[str, Group]]  # "hardness", "shape", "db_id"
    error_classes: dict[str, int]  # by first class of each item that is not correct
    flags: dict[str, int]
    calibration: Calibration | None
    notes: list[str]  # what a reader must know: contamination, versions switched, failed requests
    num_errors: int
    seconds: dict[str, float]
    databases: dict[str, dict[str, str]]  # db_id: {"ddl": …}
    items: list[Item]


def load_record(path: Path) -> Record:
    """Read a result file.

    Raises:
        RecordError: it can't be read, is no result, or is of another format.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecordError(f"{path}: can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not JSON: {error}") from error
    if not isinstance(record, dict) or not isinstance(record.get("items"), list):
        raise RecordError(f"{path}: no result of sqlwright-eval: it holds no items")
    if record.get("format") != FORMAT:
        found = record.get("format", 1)
        raise RecordError(f"{path}: format {found}, this version reads {FORMAT}: judge it again")
    return record  # type: ignore[return-value]  # its shape is what `run` writes


def check_whole(record: Record, path: Path) -> None:
    """See that nothing is missing that `run` writes, as the page needs it all.

    Raises:
        RecordError: a field is not there; names it and the item.
    """
    parts: list[tuple[str, object, frozenset[str]]] = [("", record, Record.__required_keys__)]
    parts += [
        (f" item {number}:", item, Item.__required_keys__)
        for number, item in enumerate(record["items"], start=1)
    ]
    for where, part, fields in parts:
        if missing := sorted(fields - (part.keys() if isinstance(part, dict) else set())):
            raise RecordError(f"{path}:{where} has no field {missing[0]!r}: no whole result")
