"""Means with standard errors, against sums done by hand and a second way to the same number."""

import math
import random

import pytest

from eval.stats import Measure, clustered_mean, clustered_stderr, iid_stderr


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
    # sqrt((1 + 0 + 1) * 3/2) / 6 = sqrt(3) / 6.
    measure = clustered_mean([1, 1, 1, 0, 0, 0], ["a", "a", "b", "b", "c", "c"])
    assert (measure.value, measure.n, measure.num_clusters) == (0.5, 6, 3)
    assert measure.stderr == pytest.approx(math.sqrt(3) / 6)


def test_the_order_of_items_does_not_matter():
    rows = [(1.0, "a"), (0.0, "b"), (1.0, "b"), (1.0, "c"), (0.0, "a")]
    shuffled = random.Random(3).sample(rows, len(rows))
    assert clustered_stderr(*zip(*rows, strict=True)) == pytest.approx(
        clustered_stderr(*zip(*shuffled, strict=True))
    )


@pytest.mark.parametrize("seed", range(5))
def test_unequal_clusters_agree_with_the_double_sum(seed):
    rng = random.Random(seed)
    values = [float(rng.random() < 0.4) for _ in range(60)]
    clusters = [rng.choice("abcdefg") for _ in values]
    assert clustered_stderr(values, clusters) == pytest.approx(reference(values, clusters))


def test_items_that_agree_within_a_cluster_widen_the_error():
    values = [1.0] * 10 + [0.0] * 10 + [1.0] * 10 + [0.0] * 10
    clusters = [i // 10 for i in range(40)]
    clustered, independent = clustered_stderr(values, clusters), iid_stderr(values)
    assert clustered is not None and independent is not None
    assert clustered > 2 * independent


def test_one_cluster_falls_back_to_independent_items_and_says_so():
    measure = clustered_mean([1, 0, 0, 1], ["only"] * 4)
    assert measure.stderr == pytest.approx(math.sqrt(0.5 * 0.5 / 3))
    assert not measure.is_clustered
    assert clustered_stderr([1, 0, 0, 1], ["only"] * 4) is None


def test_one_item_has_no_error():
    measure = clustered_mean([1], ["a"])
    assert (measure.value, measure.stderr, measure.interval) == (1.0, None, None)


def test_the_interval_is_two_sided_and_stays_a_share():
    assert Measure(0.5, 0.1, 9, 3).interval == pytest.approx((0.304, 0.696))
    assert Measure(0.05, 0.1, 9, 3).interval == pytest.approx((0.0, 0.246))
    assert Measure(0.95, 0.1, 9, 3).interval == pytest.approx((0.754, 1.0))


@pytest.mark.parametrize(("values", "clusters"), [([], []), ([1.0], []), ([1.0], ["a", "b"])])
def test_values_without_their_labels_are_refused(values, clusters):
    with pytest.raises(ValueError, match="cluster labels"):
        clustered_mean(values, clusters)
