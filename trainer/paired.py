"""Paired differences on the same questions, with errors that are clustered by database.

What `eval.stats` does for reports, as far as the trainer needs it and with `math` alone. Knows
nothing of models or SQL.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean, or a ratio of sums, with its clustered standard error; None where there is none."""

    value: float
    stderr: float | None

    def text(self, form: str, scale: float = 1.0) -> str:
        """Both numbers times `scale`, in the format `form`; the error without a sign."""
        error = "" if self.stderr is None else f" ± {scale * self.stderr:{form.lstrip('+')}}"
        return f"{scale * self.value:{form}}{error}"


def ratio(over: Sequence[float], under: Sequence[float], clusters: Sequence[str]) -> Mean:
    """Σ over / Σ under; the mean of `over` where `under` is all ones.

    Standard error: sqrt(G / (G - 1) · Σ over the G clusters of (sum of over - value · under)²) /
    Σ under, Cameron and Miller, "A Practitioner's Guide to Cluster-Robust Inference" (2015),
    equation 11, as in `eval.stats`. None for one item; in one cluster, questions are the clusters.

    Raises:
        ValueError: nothing is given, or not as many of each.
    """
    if not (total := math.fsum(under)):
        raise ValueError("a mean of nothing")
    value = math.fsum(over) / total
    is_clustered = len(set(clusters)) > 1
    sums: defaultdict[object, float] = defaultdict(float)
    for number, (above, below, cluster) in enumerate(zip(over, under, clusters, strict=True)):
        sums[cluster if is_clustered else number] += above - value * below
    if len(sums) < 2:
        return Mean(value, None)
    squares = math.fsum(residual * residual for residual in sums.values())
    return Mean(value, math.sqrt(squares * len(sums) / (len(sums) - 1)) / total)


def mcnemar_p(fixed: int, broke: int) -> float:
    """Two-sided p of a fair coin that falls `fixed` and `broke` times, exact; 1 without a toss.

    McNemar, "Note on the sampling error of the difference between correlated proportions" (1947).
    It takes questions as independent, so it is too small where a database's rise and fall together.
    """
    tosses = fixed + broke
    tail = sum(math.comb(tosses, heads) for heads in range(min(fixed, broke) + 1))
    return float(min(1, 2 * tail / 2**tosses))
