"""Two results on the same questions, side by side: what changed, and by how much.

Knows nothing of how the results were made, nor of gates (see eval.comparison.gates).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from eval.comparison.pairing import CompareError, Names, Pair, notes_on, pair_items, same_suite
from eval.queries.shape import HARDNESS, SHAPES
from eval.record import HEADLINE, Item, Record
from eval.stats import ErrorReduction, Interval, Paired, error_reduction, paired


class Side(TypedDict):
    """One of the two results."""

    model: str
    versions_used: list[str]
    data: dict[str, Any]  # name, sha256, n
    created: str


class Change(TypedDict):
    """One measure over the items for which both results have it; shares, not percent.

    `fixed` and `broke` count the items that score higher and lower in B, `both_right` those at 1
    in both. For intervals and p-values see `eval.stats.Paired`.
    """

    n: int
    num_clusters: int
    a: float
    b: float
    difference: float  # b - a
    stderr: float | None  # of the difference, clustered by database
    interval: list[float] | None  # of the difference, 95 %
    bootstrap: list[float] | None  # of the difference, 95 %, databases resampled
    fixed: int
    broke: int
    both_right: int
    both_wrong: int
    p_mcnemar: float | None  # takes questions as independent; None for fractional measures
    p_clusters: float  # takes databases as independent


class GroupChange(TypedDict):
    """Execution accuracy of the items of one hardness or shape."""

    n: int
    a: float
    b: float
    fixed: int
    broke: int


class ErrorReductionRecord(TypedDict):
    """Share of A's errors in execution accuracy that B does without: (b - a) / (1 - a)."""

    value: float
    interval: list[float] | None


class ComparisonRecord(TypedDict):
    """A comparison as JSON: the page, `--output` and bundle evidence hold it. A is the reference,
    B the candidate; ids in the order of A's items."""

    a: Side
    b: Side
    measures: dict[str, Change]
    error_reduction: ErrorReductionRecord | None  # None where A makes no error
    groups: dict[str, dict[str, GroupChange]]  # "hardness", "shape": by execution accuracy
    fixed: list[str]  # ids, by execution accuracy
    broke: list[str]
    notes: list[str]


@dataclass(frozen=True)
class Comparison:
    """What changed from A, the reference, to B, the candidate, on the same items.

    `fixed` and `broke` hold ids, in the order of A's items, by execution accuracy, as do `groups`
    and `error_reduction`.
    """

    a: Side
    b: Side
    measures: dict[str, Paired]
    error_reduction: ErrorReduction | None
    groups: dict[str, dict[str, GroupChange]]
    fixed: tuple[str, ...]
    broke: tuple[str, ...]
    notes: tuple[str, ...]


def compare(a: Record, b: Record, *, names: Names = ("A", "B")) -> Comparison:
    """Compare every measure that both results have; `names` stand for them in messages.

    A measure is taken over the items for which both results have it. What differs in the making
    of the two and leaves them comparable becomes a note; test-suite measures made on different
    generated databases are left out.

    Raises:
        CompareError: the items, their questions or golds differ, columns may be permuted in one
            only, execution accuracy is missing, or a file is malformed.
    """
    pairs = pair_items(a, b, names)
    notes = notes_on(a, b, names)
    scores, left_out = _common_scores(pairs, names, is_same_suite=same_suite(a, b))
    if HEADLINE not in scores:
        raise CompareError(f"{names[0]} and {names[1]} have no {HEADLINE} in common")
    headline = scores[HEADLINE]
    return Comparison(
        a=_side(a),
        b=_side(b),
        measures={name: paired(s.a, s.b, s.db_ids) for name, s in scores.items()},
        error_reduction=error_reduction(headline.a, headline.b, headline.db_ids),
        groups={
            "hardness": _groups(headline, [[i["hardness"]] for i in headline.items], HARDNESS),
            "shape": _groups(headline, [item["shape"] for item in headline.items], SHAPES),
        },
        fixed=tuple(item["id"] for item, p, q in headline.rows if q > p),
        broke=tuple(item["id"] for item, p, q in headline.rows if q < p),
        notes=(*notes, *left_out),
    )


def comparison_record(comparison: Comparison) -> ComparisonRecord:
    """`comparison` as the page and `--output` hold it."""
    reduction = comparison.error_reduction
    return {
        "a": comparison.a,
        "b": comparison.b,
        "measures": {name: _change(found) for name, found in comparison.measures.items()},
        "error_reduction": None
        if reduction is None
        else {"value": reduction.value, "interval": _listed(reduction.interval)},
        "groups": comparison.groups,
        "fixed": list(comparison.fixed),
        "broke": list(comparison.broke),
        "notes": list(comparison.notes),
    }


@dataclass(frozen=True)
class _Scores:
    """One measure over the items for which both results have it: (item of A, score, score)."""

    rows: list[tuple[Item, float, float]]
    num_left_out: int  # one result only has it for these

    @property
    def items(self) -> list[Item]:
        return [item for item, _, _ in self.rows]

    @property
    def a(self) -> list[float]:
        return [before for _, before, _ in self.rows]

    @property
    def b(self) -> list[float]:
        return [after for _, _, after in self.rows]

    @property
    def db_ids(self) -> list[str]:
        return [item["db_id"] for item, _, _ in self.rows]


def _common_scores(
    pairs: Sequence[Pair], names: Names, *, is_same_suite: bool
) -> tuple[dict[str, _Scores], list[str]]:
    """The scores of each measure that can be compared, and notes on what is left out."""
    common: dict[str, _Scores] = {}
    notes = []
    for name in dict.fromkeys(name for pair in pairs for item in pair for name in item["scores"]):
        scores = _scores(name, pairs)
        if not scores.rows:
            if scores.num_left_out:
                notes.append(f"{name}: not in both results, not compared")
        elif name.startswith("test_suite") and not is_same_suite:
            notes.append(f"{name}: judged on different generated databases, not compared")
        else:
            common[name] = scores
            if scores.num_left_out:
                notes.append(f"{name}: {scores.num_left_out:,} items have it in one result only")
    return common, notes


def _scores(name: str, pairs: Sequence[Pair]) -> _Scores:
    found = [(x, x["scores"].get(name), y["scores"].get(name)) for x, y in pairs]
    rows = [(item, p, q) for item, p, q in found if p is not None and q is not None]
    return _Scores(rows, sum((p is None) != (q is None) for _, p, q in found))


def _groups(
    scores: _Scores, labels: Sequence[Sequence[str]], order: Sequence[str]
) -> dict[str, GroupChange]:
    """By label, of which an item may bear several; labels outside `order` come last."""
    members: dict[str, list[tuple[float, float]]] = {}
    for (_, before, after), its_labels in zip(scores.rows, labels, strict=True):
        for label in its_labels:
            members.setdefault(label, []).append((before, after))
    place = {label: i for i, label in enumerate(order)}
    ordered = sorted(members, key=lambda label: place.get(label, len(place)))
    return {label: _group(members[label]) for label in ordered}


def _group(scores: Sequence[tuple[float, float]]) -> GroupChange:
    return {
        "n": len(scores),
        "a": sum(before for before, _ in scores) / len(scores),
        "b": sum(after for _, after in scores) / len(scores),
        "fixed": sum(after > before for before, after in scores),
        "broke": sum(after < before for before, after in scores),
    }


def _side(record: Record) -> Side:
    return {
        "model": record["model"],
        "versions_used": record["versions_used"],
        "data": record["data"],
        "created": record["created"],
    }


def _change(found: Paired) -> Change:
    difference = found.difference
    return {
        "n": difference.n,
        "num_clusters": difference.num_clusters,
        "a": found.a,
        "b": found.b,
        "difference": difference.value,
        "stderr": difference.stderr,
        "interval": _listed(difference.interval),
        "bootstrap": _listed(difference.bootstrap),
        "fixed": found.fixed,
        "broke": found.broke,
        "both_right": found.both_right,
        "both_wrong": found.both_wrong,
        "p_mcnemar": found.p_mcnemar,
        "p_clusters": found.p_clusters,
    }


def _listed(interval: Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)
