"""Calibration figures, against sums done by hand and SciPy."""

import math
import random

import pytest
from scipy.stats import mannwhitneyu

from eval.calibration import calibration
from eval.record import Calibration


def found(confidences, corrects, **options) -> Calibration:
    result = calibration(confidences, corrects, **options)
    assert result is not None
    return result


def test_figures_done_by_hand():
    result = found([0.9, 0.8, 0.6, 0.3], [True, True, False, False], num_bins=2)
    assert result["bins"] == [
        {"confidence": pytest.approx(0.45), "accuracy": 0.0, "n": 2},
        {"confidence": pytest.approx(0.85), "accuracy": 1.0, "n": 2},
    ]
    assert result["ece"] == pytest.approx(0.5 * 0.45 + 0.5 * 0.15)
    assert result["brier"] == pytest.approx((0.01 + 0.04 + 0.36 + 0.09) / 4)
    assert result["brier_skill"] == pytest.approx(1 - 0.125 / 0.25)
    assert result["auroc"] == 1.0
    assert [point["coverage"] for point in result["risk_coverage"]] == [0.25, 0.5, 0.75, 1.0]
    assert [point["risk"] for point in result["risk_coverage"]] == pytest.approx([0, 0, 1 / 3, 0.5])
    assert result["risk_coverage"][0]["threshold"] == 0.9


@pytest.mark.parametrize(
    ("confidences", "corrects", "auroc"),
    [
        ([0.2, 0.4], [True, False], 0.0),
        ([0.5, 0.5], [True, False], 0.5),
        ([0.9, 0.5, 0.5, 0.1], [True, True, False, False], 3.5 / 4),
        ([0.9, 0.8], [True, True], None),
        ([0.9, 0.8], [False, False], None),
    ],
)
def test_the_chance_that_a_right_answer_ranks_above_a_wrong_one(confidences, corrects, auroc):
    assert found(confidences, corrects)["auroc"] == auroc


@pytest.mark.parametrize("seed", range(3))
def test_ranking_with_ties_agrees_with_the_mann_whitney_statistic(seed):
    rng = random.Random(seed)
    confidences = [round(rng.random(), 1) for _ in range(300)]
    corrects = [rng.random() < confidence for confidence in confidences]
    right, wrong = (
        [c for c, is_right in zip(confidences, corrects, strict=True) if is_right is kind]
        for kind in (True, False)
    )
    expected = mannwhitneyu(right, wrong).statistic / (len(right) * len(wrong))
    assert found(confidences, corrects)["auroc"] == pytest.approx(expected)


def test_bins_hold_equal_shares_of_the_items():
    result = found([i / 150 for i in range(150)], [True, False] * 75)
    assert result["num_bins"] == 15
    assert [one["n"] for one in result["bins"]] == [10] * 15


def test_the_order_of_items_never_matters():
    confidences = [0.5] * 10 + [0.7] * 6 + [0.9] * 4
    corrects = [True, False] * 10
    rows = list(zip(confidences, corrects, strict=True))
    results = []
    for seed in range(3):
        random.Random(seed).shuffle(rows)
        results.append(found(*zip(*rows, strict=True), num_bins=5))
    assert results[0] == results[1] == results[2]
    # Items that tie share a bin: three are left of five, of ten, six and four items.
    assert [one["n"] for one in results[0]["bins"]] == [10, 6, 4]
    assert len(results[0]["risk_coverage"]) == 3


def test_confidence_that_says_the_accuracy_has_no_error_and_no_skill():
    result = found([0.75] * 4, [True, True, True, False])
    assert (result["ece"], result["num_bins"], result["brier_skill"]) == (0.0, 1, 0.0)


@pytest.mark.parametrize("right", [True, False])
def test_all_right_and_all_wrong_have_no_ranking_and_no_skill(right):
    result = found([0.5, 0.75, 1.0], [right] * 3)
    assert result["auroc"] is None and result["brier_skill"] is None
    assert result["ece"] == pytest.approx(0.25 if right else 0.75)
    assert all(point["risk"] == (0.0 if right else 1.0) for point in result["risk_coverage"])


def test_items_without_a_confidence_are_left_out():
    result = found([0.5, None, 0.7], [True, False, True])
    assert result["n"] == 2 and result["auroc"] is None


@pytest.mark.parametrize("confidences", [[], [0.5], [None, None], [None, 0.5]])
def test_fewer_than_two_confidences_tell_nothing(confidences):
    assert calibration(confidences, [True] * len(confidences)) is None


def test_risk_coverage_keeps_its_ends_within_fifty_points():
    result = found([i / 1000 for i in range(1000)], [i % 3 > 0 for i in range(1000)])
    points = result["risk_coverage"]
    assert len(points) == 50
    assert points[0]["coverage"] == 0.001 and points[-1]["coverage"] == 1.0
    assert points[-1]["risk"] == pytest.approx(334 / 1000)
    coverages = [point["coverage"] for point in points]
    assert coverages == sorted(set(coverages))


@pytest.mark.parametrize("odd", [-0.1, 1.01, math.nan, math.inf])
def test_confidence_outside_0_to_1_is_refused(odd):
    with pytest.raises(ValueError, match=r"outside 0\.\.1"):
        calibration([0.5, odd, 0.2], [True, True, False])


def test_verdicts_must_match_the_confidences():
    with pytest.raises(ValueError, match="one verdict a confidence"):
        calibration([0.5, 0.5], [True])
    with pytest.raises(ValueError, match="0 bins"):
        calibration([0.5, 0.5], [True, True], num_bins=0)
