"""A share of questions with its standard error. Knows nothing of SQL or servers."""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

# Half the width of a 95 % interval in standard errors.
NORMAL_95 = 1.96


@dataclass(frozen=True, slots=True)
class Measure:
    """A mean over `n` items in `num_clusters` clusters; no `stderr` where one item gives none."""

    value: float
    stderr: float | None
    n: int
    num_clusters: int

    @property
    def is_clustered(self) -> bool:
        """False where all items lie in one cluster, so that `stderr` takes them as independent."""
        return self.num_clusters > 1

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of a share, `value` ± 1.96 standard errors, kept within 0..1."""
        if self.stderr is None:
            return None
        half = NORMAL_95 * self.stderr
        return max(0.0, self.value - half), min(1.0, self.value + half)


def clustered_mean(values: Sequence[float], clusters: Sequence[Hashable]) -> Measure:
    """The mean of `values` with its standard error clustered by `clusters` (one label a value).

    With one cluster only, where no clustered error exists, the error is `iid_stderr`.

    Raises:
        ValueError: no values, or another number of labels than of values.
    """
    if not values or len(values) != len(clusters):
        raise ValueError(f"{len(values)} values with {len(clusters)} cluster labels")
    num_clusters = len(set(clusters))
    stderr = clustered_stderr(values, clusters) if num_clusters > 1 else iid_stderr(values)
    return Measure(_mean(values), stderr, len(values), num_clusters)


def clustered_stderr(values: Sequence[float], clusters: Sequence[Hashable]) -> float | None:
    """sqrt(G / (G - 1) · sum over the G clusters of (sum of its residuals)²) / n.

    The cluster-robust variance of a mean: Cameron and Miller, "A Practitioner's Guide to
    Cluster-Robust Inference" (2015), equation 11 with the constant as only regressor and the
    correction c = G / (G - 1); the same as inspect_ai's `stderr(cluster=…)`. None for G < 2.
    """
    mean = _mean(values)
    sums: dict[Hashable, float] = defaultdict(float)
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] += value - mean
    if len(sums) < 2:
        return None
    squares = math.fsum(total * total for total in sums.values())
    return math.sqrt(squares * len(sums) / (len(sums) - 1)) / len(values)


def iid_stderr(values: Sequence[float]) -> float | None:
    """Sample standard deviation over sqrt(n), the error if all items were independent.

    For shares that is sqrt(p(1 - p) / (n - 1)). None for fewer than two values.
    """
    return clustered_stderr(values, range(len(values)))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
