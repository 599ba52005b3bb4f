"""How far confidences can be believed: calibration error, ranking, and what abstaining would buy.

Knows nothing of queries: a confidence and a verdict for each item come in.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eval.record import Bin, Calibration, RiskPoint

NUM_BINS = 15
MAX_RISK_POINTS = 50

Floats = NDArray[np.float64]


def calibration(
    confidences: Sequence[float | None], corrects: Sequence[bool], *, num_bins: int = NUM_BINS
) -> Calibration | None:
    """All figures over the items that have a confidence; None where fewer than two have one.

    - `ece`, expected calibration error: Σ over bins of n_bin / n · |accuracy - mean confidence|,
      Guo et al., "On Calibration of Modern Neural Networks" (2017), with bins of equal mass
      instead of equal width: Nixon et al., "Measuring Calibration in Deep Learning" (2019).
    - `auroc`: the chance that a right item has more confidence than a wrong one, a tie counts
      half; Hanley and McNeil, "The Meaning and Use of the Area under a ROC Curve" (1982).
    - `brier`: mean (confidence - verdict)², Brier (1950); `brier_skill`: 1 - brier / that of
      always saying the accuracy, so that 0 is worth nothing.
    - `risk_coverage`: El-Yaniv and Wiener, "On the Foundations of Noise-free Selective
      Classification" (2010), at no more than 50 thresholds.

    Items of equal confidence stay together in bins and points, so that order never matters.

    Raises:
        ValueError: another number of verdicts than of confidences, a confidence outside 0..1, or
            `num_bins` below 1.
    """
    if len(confidences) != len(corrects) or num_bins < 1:
        given = f"{len(confidences)} confidences, {len(corrects)} verdicts, {num_bins} bins"
        raise ValueError(f"{given}: expected one verdict a confidence and a bin or more")
    pairs = sorted(
        (c, float(right)) for c, right in zip(confidences, corrects, strict=True) if c is not None
    )
    if odd := [confidence for confidence, _ in pairs if not 0 <= confidence <= 1]:
        raise ValueError(f"confidence {odd[0]} is outside 0..1")
    if len(pairs) < 2:
        return None
    confidence, correct = np.array(pairs).T
    bins = _bins(confidence, correct, num_bins)
    brier = float(np.mean((confidence - correct) ** 2))
    by_chance = float(correct.var())
    return {
        "n": len(pairs),
        "ece": sum(b["n"] * abs(b["accuracy"] - b["confidence"]) for b in bins) / len(pairs),
        "num_bins": len(bins),
        "auroc": _auroc(confidence, correct),
        "brier": brier,
        "brier_skill": 1 - brier / by_chance if by_chance else None,
        "bins": bins,
        "risk_coverage": _risk_coverage(confidence, correct),
    }


def _bins(confidence: Floats, correct: Floats, num_bins: int) -> list[Bin]:
    """Runs of about n / `num_bins` items by rising confidence, each ending where a tie ends."""
    n = len(confidence)
    wanted = (np.arange(1, num_bins + 1) * n) // num_bins
    last = confidence[wanted[wanted > 0] - 1]
    ends = np.unique(np.searchsorted(confidence, last, side="right"))
    return [
        {
            "confidence": float(confidence[start:end].mean()),
            "accuracy": float(correct[start:end].mean()),
            "n": int(end - start),
        }
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]


def _auroc(confidence: Floats, correct: Floats) -> float | None:
    """The Mann-Whitney statistic by mean ranks over the number of (right, wrong) pairs."""
    num_right = float(correct.sum())
    num_wrong = len(correct) - num_right
    if not num_right or not num_wrong:
        return None
    _, inverse, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    above = float(ranks @ correct) - num_right * (num_right + 1) / 2
    return above / (num_right * num_wrong)


def _risk_coverage(confidence: Floats, correct: Floats) -> list[RiskPoint]:
    n = len(confidence)
    thresholds, starts = np.unique(confidence, return_index=True)
    num_points = min(len(starts), MAX_RISK_POINTS)
    picked = np.linspace(len(starts) - 1, 0, num_points).round().astype(np.int64)
    return [
        {
            "threshold": float(thresholds[i]),
            "coverage": float((n - starts[i]) / n),
            "risk": float(1 - correct[starts[i] :].mean()),
        }
        for i in picked
    ]
