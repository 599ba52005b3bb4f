"""Means, paired differences and error reduction, each with the uncertainty that clusters leave.

Questions on one database share its schema, so they are no independent draws: every error here is
clustered. Knows nothing of SQL or servers: values and cluster labels come in, one label a value.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

COVERAGE = 0.95
RESAMPLES = 2000
# Up to this many clusters that differ, every flip of signs is tried (2¹⁹ sums by symmetry).
MAX_EXACT_CLUSTERS = 20
FLIPS = 9_999
# Cells of one block of random numbers, so that memory stays flat.
BLOCK_CELLS = 1 << 19
# Sums of shares that differ by less are equal.
TOLERANCE = 1e-9

Floats = NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over `n` items in `num_clusters` clusters.

    `interval` is `value` ± t standard errors, t of Student's distribution with one degree of
    freedom less than clusters; `bootstrap` is the percentile interval of resampled clusters. Both
    aim at 95 % and fall short with few clusters: of 2,000 simulated runs on databases sized as
    Spider dev's 20, 94 % and 92 % held the truth at a share of 0.45, but only 84 to 91 % at 0.97.
    All None for one item; values that are all equal give width 0, which is no certainty.
    """

    value: float
    stderr: float | None
    n: int
    num_clusters: int
    interval: Interval | None = None
    bootstrap: Interval | None = None

    @property
    def is_clustered(self) -> bool:
        """False where all items lie in one cluster, so that they are taken as independent."""
        return self.num_clusters > 1


@dataclass(frozen=True, slots=True)
class Paired:
    """What changes from `a` to `b` on the same `n` items; `difference` is of b - a.

    `fixed` and `broke` count the items with more and with less in b; of the others, `both_right`
    those at 1. `p_mcnemar` takes questions as independent, so it is too small where the questions
    of a database rise and fall together; None unless all values are 0 or 1. `p_clusters` flips
    whole clusters and can be trusted then.
    """

    a: float
    b: float
    fixed: int
    broke: int
    both_right: int
    both_wrong: int
    difference: Estimate
    p_mcnemar: float | None
    p_clusters: float


@dataclass(frozen=True, slots=True)
class ErrorReduction:
    """Share of the base's errors that are gone, with its 95 % bootstrap interval."""

    value: float
    interval: Interval | None


def estimate(
    values: Sequence[float],
    clusters: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """The mean of `values`, clustered by `clusters`; in one cluster, questions are the clusters.

    Standard error: sqrt(G / (G - 1) · Σ over the G clusters of (sum of its residuals)²) / n,
    Cameron and Miller, "A Practitioner's Guide to Cluster-Robust Inference" (2015), equation 11
    with the constant as only regressor, and t with G - 1 degrees of freedom as there in section
    VI; the same error as inspect_ai's `stderr(cluster=…)`. Bootstrap: clusters drawn with
    replacement, percentiles as in Efron and Tibshirani, "An Introduction to the Bootstrap" (1993),
    chapter 13; BCa covered no better in the simulation that `Estimate` quotes. Both intervals stay
    within 0..1 where all values do.

    Raises:
        ValueError: no values, another number of labels than of values, or a value is not finite.
    """
    _check(values, clusters)
    bounds = (0.0, 1.0) if _are_shares(values) else None
    found = _estimate(values, clusters, bounds, seed, resamples)
    return replace(found, interval=None, bootstrap=None) if len(set(values)) == 1 else found


def paired(
    a: Sequence[float],
    b: Sequence[float],
    clusters: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Paired:
    """Compare two runs on the same items.

    `p_mcnemar`: exact two-sided binomial test of fixed against broke, McNemar, "Note on the
    sampling error of the difference between correlated proportions" (1947). `p_clusters`: paired
    randomisation over clusters; both are the tests that Dror et al., "The Hitchhiker's Guide to
    Testing Statistical Significance in NLP" (2018), recommend for such data.

    Raises:
        ValueError: as `estimate`, or the two runs differ in length.
    """
    _check_pairs(a, b, clusters)
    changes = [after - before for before, after in zip(a, b, strict=True)]
    bounds = (-1.0, 1.0) if _are_shares(a) and _are_shares(b) else None
    fixed, broke = sum(change > 0 for change in changes), sum(change < 0 for change in changes)
    both_right = sum(x == y == 1 for x, y in zip(a, b, strict=True))
    is_binary = {*a, *b} <= {0.0, 1.0}
    return Paired(
        a=_mean(a),
        b=_mean(b),
        fixed=fixed,
        broke=broke,
        both_right=both_right,
        both_wrong=len(a) - fixed - broke - both_right,
        difference=_estimate(changes, clusters, bounds, seed, resamples),
        p_mcnemar=mcnemar_p(fixed, broke) if is_binary else None,
        p_clusters=sign_flip_p(_units(changes, clusters)[0], seed=seed),
    )


def error_reduction(
    base: Sequence[float],
    tuned: Sequence[float],
    clusters: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> ErrorReduction | None:
    """(tuned - base) / (1 - base) of the two means: the share of the base's errors that are gone.

    1 is no error left, 0 no gain, negative a loss; the relative error reduction of the field. None
    where the base makes no error. The interval resamples clusters, both runs together; it is None
    for one item, and where a resample leaves the base without an error.

    Raises:
        ValueError: as `paired`, or a value is no share.
    """
    _check_pairs(base, tuned, clusters)
    if not (_are_shares(base) and _are_shares(tuned)):
        raise ValueError("error reduction is defined for shares, 0..1")
    gains, _ = _units([after - before for before, after in zip(base, tuned, strict=True)], clusters)
    errors, _ = _units([1 - before for before in base], clusters)
    if errors.sum() < TOLERANCE:
        return None
    interval = _bootstrap(gains, errors, seed, resamples)
    return ErrorReduction(float(gains.sum() / errors.sum()), interval)


def mcnemar_p(fixed: int, broke: int) -> float:
    """Two-sided p of a fair coin that falls `fixed` and `broke` times, exact; 1 without a toss."""
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(fixed, broke), fixed + broke, 0.5)))


def sign_flip_p(changes: Floats, *, seed: int = 0) -> float:
    """Two-sided p of the sum of `changes` (one a cluster) if each were as likely with either sign.

    Exact for up to 20 clusters that changed; above, 9,999 random flips and the p-value of Phipson
    and Smyth, "Permutation P-values Should Never Be Zero" (2010).
    """
    changes = changes[np.abs(changes) > TOLERANCE]
    enough = abs(changes.sum()) - TOLERANCE
    if len(changes) <= MAX_EXACT_CLUSTERS:
        totals = np.zeros(1)
        for change in changes[1:]:
            totals = np.concatenate([totals + change, totals - change])
        return float(np.mean(np.abs(totals + changes[:1].sum()) >= enough))
    hits = 0
    for rng, rows in _blocks(FLIPS, len(changes), seed):
        signs = rng.integers(0, 2, (rows, len(changes)), dtype=np.int8) * 2 - 1
        hits += int(np.count_nonzero(np.abs(signs @ changes) >= enough))
    return (1 + hits) / (1 + FLIPS)


def _estimate(
    values: Sequence[float],
    clusters: Sequence[str],
    bounds: Interval | None,
    seed: int,
    resamples: int,
) -> Estimate:
    value = _mean(values)
    sums, sizes = _units(values, clusters)
    stderr = _stderr(sums - value * sizes, len(values))
    return Estimate(
        value,
        stderr,
        len(values),
        len(set(clusters)),
        interval=None if stderr is None else _around(value, stderr, len(sums) - 1, bounds),
        bootstrap=_bootstrap(sums, sizes, seed, resamples),
    )


def _stderr(residuals: Floats, n: int) -> float | None:
    """See `estimate`; `residuals` are sums, one a cluster."""
    num_units = len(residuals)
    if num_units < 2:
        return None
    return math.sqrt(float(residuals @ residuals) * num_units / (num_units - 1)) / n


def _around(value: float, stderr: float, freedom: int, bounds: Interval | None) -> Interval:
    half = _student(freedom) * stderr
    low, high = bounds or (-math.inf, math.inf)
    return max(low, value - half), min(high, value + half)


@cache
def _student(freedom: int) -> float:
    """Half the width of a 95 % interval in standard errors."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + COVERAGE) / 2))


def _bootstrap(over: Floats, under: Floats, seed: int, resamples: int) -> Interval | None:
    """Percentiles of Σ over / Σ under, both summed over clusters drawn with replacement."""
    num_units = len(over)
    if num_units < 2:
        return None
    drawn = []
    for rng, rows in _blocks(resamples, num_units, seed):
        picks = rng.integers(0, num_units, (rows, num_units))
        totals = under[picks].sum(axis=1)
        if totals.min() < TOLERANCE:
            return None
        drawn.append(over[picks].sum(axis=1) / totals)
    low, high = np.quantile(np.concatenate(drawn), [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)


def _blocks(rows: int, width: int, seed: int) -> Iterator[tuple[np.random.Generator, int]]:
    """One generator with the number of rows to draw from it, until `rows` are drawn."""
    rng = np.random.default_rng(seed)
    step = max(1, BLOCK_CELLS // width)
    for start in range(0, rows, step):
        yield rng, min(step, rows - start)


def _units(values: Sequence[float], clusters: Sequence[str]) -> tuple[Floats, Floats]:
    """Sum and size of each cluster, in order of label; of each value where one cluster is all."""
    data = np.asarray(values, dtype=np.float64)
    position = {label: i for i, label in enumerate(sorted(set(clusters)))}
    if len(position) == 1:
        return data, np.ones(len(data))
    index = np.array([position[label] for label in clusters])
    sums, sizes = np.bincount(index, weights=data), np.bincount(index)
    return sums.astype(np.float64), sizes.astype(np.float64)


def _check(values: Sequence[float], clusters: Sequence[str]) -> None:
    if not values or len(values) != len(clusters):
        raise ValueError(f"{len(values)} values with {len(clusters)} cluster labels")
    if odd := [value for value in values if not math.isfinite(value)]:
        raise ValueError(f"{odd[0]} is no value: every one must be a finite number")


def _check_pairs(a: Sequence[float], b: Sequence[float], clusters: Sequence[str]) -> None:
    if len(a) != len(b):
        raise ValueError(f"{len(a)} values against {len(b)}: not the same items")
    _check(a, clusters)
    _check(b, clusters)


def _are_shares(values: Sequence[float]) -> bool:
    return min(values) >= 0 and max(values) <= 1


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
