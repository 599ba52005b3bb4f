"""Means and paired differences, against sums done by hand and a second way to the same number."""

import math
import random

import numpy as np
import pytest
from scipy.stats import binomtest, permutation_test, t

from eval.stats import Estimate, error_reduction, estimate, mcnemar_p, paired, sign_flip_p


def reference(values: list[float], clusters: list[str]) -> float:
    """The double sum over pairs of one cluster, as inspect_ai writes it."""
    n, mean = len(values), sum(values) / len(values)
    pairs = sum(
        (values[i] - mean) * (values[j] - mean)
        for i in range(n)
        for j in range(n)
        if clusters[i] == clusters[j]
    )
    groups = len(set(clusters))
    return math.sqrt(pairs * groups / (groups - 1)) / n


def test_a_sum_done_by_hand():
    # Mean 1/2; the residuals of a, b and c sum to 1, 0 and -1:
    # sqrt((1 + 0 + 1) * 3/2) / 6 = sqrt(3) / 6. Student's t with 2 degrees of freedom: 4.303.
    found = estimate([1, 1, 1, 0, 0, 0], ["a", "a", "b", "b", "c", "c"])
    assert (found.value, found.n, found.num_clusters) == (0.5, 6, 3)
    assert found.stderr == pytest.approx(math.sqrt(3) / 6)
    wide = estimate([1, 0, 1, 0, 1, 0, 0, 0, 1, 1], list("aabbccddee"))
    assert wide.stderr == pytest.approx(math.sqrt((1 + 1) * 5 / 4) / 10)
    assert wide.interval == pytest.approx(
        (0.5 - 2.7764451 * math.sqrt(2.5) / 10, 0.5 + 2.7764451 * math.sqrt(2.5) / 10)
    )


def test_the_order_of_items_does_not_matter():
    rows = [(1.0, "a"), (0.0, "b"), (1.0, "b"), (1.0, "c"), (0.0, "a")]
    shuffled = random.Random(3).sample(rows, len(rows))
    one, other = (estimate(*zip(*r, strict=True)) for r in (rows, shuffled))
    assert one.stderr == pytest.approx(other.stderr)
    assert one.bootstrap == pytest.approx(other.bootstrap)


@pytest.mark.parametrize("seed", range(5))
def test_unequal_clusters_agree_with_the_double_sum(seed):
    rng = random.Random(seed)
    values = [float(rng.random() < 0.4) for _ in range(60)]
    clusters = [rng.choice("abcdefg") for _ in values]
    found = estimate(values, clusters)
    assert found.stderr == pytest.approx(reference(values, clusters))
    half = t.ppf(0.975, 6) * reference(values, clusters)
    assert found.interval == pytest.approx((found.value - half, found.value + half))


def test_items_that_agree_within_a_cluster_widen_both_intervals():
    values = [1.0] * 10 + [0.0] * 10 + [1.0] * 10 + [0.0] * 10
    clustered = estimate(values, [str(i // 10) for i in range(40)])
    independent = estimate(values, [str(i) for i in range(40)])
    assert clustered.stderr and independent.stderr
    assert clustered.bootstrap and independent.bootstrap
    assert clustered.stderr > 2 * independent.stderr
    assert clustered.bootstrap[0] < independent.bootstrap[0]
    assert clustered.bootstrap[1] > independent.bootstrap[1]


def test_one_cluster_falls_back_to_independent_items_and_says_so():
    found = estimate([1, 0, 0, 1], ["only"] * 4)
    assert found.stderr == pytest.approx(math.sqrt(0.5 * 0.5 / 3))
    assert not found.is_clustered
    assert found.bootstrap == (0.0, 1.0)


def test_one_item_has_no_error():
    assert estimate([1], ["a"]) == Estimate(1.0, None, 1, 1, None, None)


def test_values_that_are_all_equal_have_no_interval():
    """Six right answers are no proof that every answer will be right."""
    assert estimate([1.0] * 6, list("aabbcc")) == Estimate(1.0, 0.0, 6, 3)


def test_the_interval_of_shares_stays_a_share_and_that_of_other_values_does_not():
    clusters = list("abcd")
    low, high = estimate([1, 1, 1, 0], clusters).interval or (None, None)
    assert low == 0 and high == 1
    low, high = estimate([3, 3, 3, 0], clusters).interval or (0, 0)
    assert low < 0 and high > 3


def test_a_bootstrap_of_two_clusters_finds_its_three_means():
    # Resamples are aa, ab, ba and bb; a quarter each lies at either end, more than 2.5 %.
    assert estimate([1, 1, 0, 1], list("aabb")).bootstrap == (0.5, 1.0)


def test_a_big_cluster_weighs_by_its_items_in_the_bootstrap():
    found = estimate([1.0] * 9 + [0.0], ["big"] * 9 + ["small"], resamples=4000)
    assert found.value == 0.9 and found.bootstrap == (0.0, 1.0)


def test_seeds_make_the_bootstrap_repeatable():
    values, clusters = [1.0, 0.0, 1.0, 0.3, 0.2, 0.7], list("abcdef")
    assert estimate(values, clusters, seed=4) == estimate(values, clusters, seed=4)
    assert estimate(values, clusters, seed=4) != estimate(values, clusters, seed=5)


@pytest.mark.parametrize(("values", "clusters"), [([], []), ([1.0], []), ([1.0], ["a", "b"])])
def test_values_without_their_labels_are_refused(values, clusters):
    with pytest.raises(ValueError, match="cluster labels"):
        estimate(values, clusters)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(odd):
    with pytest.raises(ValueError, match="finite"):
        estimate([1.0, odd], ["a", "b"])
    with pytest.raises(ValueError, match="finite"):
        paired([1.0, 1.0], [odd, 1.0], ["a", "b"])


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    # Shares that differ between 20 clusters of unequal size, around a true mean of 0.5.
    rng = np.random.default_rng(11)
    sizes = np.arange(20, 60, 2)
    clusters = [str(i) for i, size in enumerate(sizes) for _ in range(size)]
    held = {"interval": 0, "bootstrap": 0}
    for _ in range(300):
        shares = np.repeat(rng.beta(10, 10, len(sizes)), sizes)
        found = estimate((rng.random(len(shares)) < shares).astype(float).tolist(), clusters)
        for name in held:
            low, high = getattr(found, name)
            held[name] += low <= 0.5 <= high
    assert all(0.90 <= count / 300 <= 0.98 for count in held.values()), held


def test_a_paired_comparison_done_by_hand():
    a = [1, 1, 0, 0, 0, 0, 1, 0]
    b = [1, 0, 1, 1, 0, 1, 1, 0]
    found = paired(a, b, list("aabbccdd"))
    assert (found.fixed, found.broke, found.both_right, found.both_wrong) == (3, 1, 2, 2)
    assert (found.a, found.b, found.difference.value) == (0.375, 0.625, 0.25)
    # Clusters change by -1, 2, 1, 0 around 1/4 an item, 1/2 a cluster.
    squares = 1.5**2 + 1.5**2 + 0.5**2 + 0.5**2
    assert found.difference.stderr == pytest.approx(math.sqrt(squares * 4 / 3) / 8)
    # 3 of 4 heads: 2 * (1 + 4) / 16.
    assert found.p_mcnemar == pytest.approx(0.625)
    # ±1 ±2 ±1: of 8 sums, 4, 2, 0, 2 and their negatives, 6 lie at 2 or beyond.
    assert found.p_clusters == pytest.approx(6 / 8)


def test_fractional_values_have_no_mcnemar_but_a_p_by_clusters():
    found = paired([0.5, 0.2, 1.0], [0.75, 0.2, 1.0], list("abc"))
    assert (found.fixed, found.broke, found.both_right, found.both_wrong) == (1, 0, 1, 1)
    assert found.p_mcnemar is None and found.p_clusters == 1.0


def test_equal_runs_differ_by_nothing_for_certain():
    found = paired([1, 0, 1], [1, 0, 1], list("abc"))
    assert found.difference.interval == (0.0, 0.0)
    assert (found.p_mcnemar, found.p_clusters) == (1.0, 1.0)


def test_a_change_that_only_gains_may_still_reach_below_zero():
    # All changes lie in 0..1, yet they are no share: the interval must not be cut at 0.
    low, high = paired([0, 0, 0], [1, 0, 0], list("abc")).difference.interval or (0, 0)
    assert -1 <= low < 0 and high == 1


def test_one_pair_is_no_evidence():
    found = paired([0], [1], ["a"])
    assert found.difference.interval is None
    assert (found.p_mcnemar, found.p_clusters) == (1.0, 1.0)


def test_runs_of_different_length_are_refused():
    with pytest.raises(ValueError, match="same items"):
        paired([1], [1, 0], ["a"])
    with pytest.raises(ValueError, match="same items"):
        error_reduction([1, 0], [1], ["a"])


@pytest.mark.parametrize(("fixed", "broke"), [(0, 0), (1, 0), (3, 9), (60, 40), (500, 430)])
def test_mcnemar_agrees_with_the_binomial_test(fixed, broke):
    expected = binomtest(fixed, fixed + broke).pvalue if fixed + broke else 1.0
    assert mcnemar_p(fixed, broke) == pytest.approx(expected)
    assert mcnemar_p(broke, fixed) == pytest.approx(expected)


def test_sign_flips_agree_with_scipy():
    changes = np.array([3.0, -1.0, 4.5, 1.0, -5.0, 9.0, 2.0, 6.0])
    expected = permutation_test((changes,), np.sum, permutation_type="samples", n_resamples=1000)
    assert sign_flip_p(changes) == pytest.approx(expected.pvalue)


def test_random_flips_come_near_the_exact_p():
    # Clusters that change by one are coins: 14 of 21 heads.
    assert sign_flip_p(np.array([1.0] * 14 + [-1.0] * 7)) == pytest.approx(
        mcnemar_p(14, 7), abs=0.015
    )


def test_random_flips_never_say_zero():
    assert sign_flip_p(np.ones(100)) == pytest.approx(1 / 10_000)


def test_fixed_questions_of_one_database_are_weaker_evidence_by_clusters():
    # All 12 gains lie on one database of six.
    clusters = ["a"] * 12 + list("bcdef")
    found = paired([0.0] * 17, [1.0] * 12 + [0.0] * 5, clusters)
    assert found.p_mcnemar is not None and found.p_mcnemar < 0.001
    assert found.p_clusters == 1.0


@pytest.mark.parametrize(
    ("base", "tuned", "value"),
    [
        ([0, 0, 0, 1], [0, 0, 1, 1], 1 / 3),
        ([0, 0, 0, 0], [1, 1, 1, 1], 1.0),
        ([1, 0, 0, 1], [1, 0, 0, 1], 0.0),
        ([1, 1, 1, 0], [1, 0, 0, 0], -2.0),
        ([0.5, 0.5, 0.5, 0.5], [0.75, 0.75, 0.75, 0.75], 0.5),
    ],
)
def test_error_reduction_is_the_share_of_errors_that_went(base, tuned, value):
    found = error_reduction(base, tuned, list("abcd"))
    assert found is not None and found.value == pytest.approx(value)


def test_error_reduction_resamples_both_runs_together():
    # Every cluster loses exactly half its errors, so that every resample does.
    found = error_reduction([0, 0, 0, 0, 0, 0], [1, 0, 1, 0, 1, 0], list("aabbcc"))
    assert found is not None and found.interval == (0.5, 0.5)


def test_error_reduction_holds_no_number_where_there_is_none():
    assert error_reduction([1, 1], [1, 0], ["a", "b"]) is None
    # A resample of a alone leaves no error to reduce.
    found = error_reduction([1, 0], [1, 1], ["a", "b"])
    assert found is not None and (found.value, found.interval) == (1.0, None)
    with pytest.raises(ValueError, match="shares"):
        error_reduction([1.5, 0], [1, 1], ["a", "b"])
