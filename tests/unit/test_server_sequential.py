"""The sequential test keeps its promise however often one looks, and decides with few questions."""

import random

import pytest

from server.adapters.sequential import Pairing, Rules, SequentialTest
from server.adapters.trials import Observation, Trial

GOOD, BAD = Trial(False, True), Trial(False, False)


def course(
    difference: float, seed: int, *, differing: float = 0.2, agreement: float | None = None
) -> SequentialTest:
    """A test of a candidate that is better by `difference` on average, looked at all the time."""
    draw = random.Random(seed)
    test = SequentialTest(Rules(max_pairs=3000))
    while test.verdict == "go_on":
        place = draw.random()
        better = place < (differing + difference) / 2
        seen = 1.0 if better else -1.0 if place < differing else 0.0
        test.add(seen, None if agreement is None else draw.random() < agreement)
    return test


def verdicts(difference: float, runs: int = 100, **more: float) -> list[str]:
    return [course(difference, seed, **more).verdict for seed in range(runs)]


def test_a_candidate_that_is_worse_by_the_margin_is_seldom_promoted():
    assert verdicts(-0.05, runs=400).count("promote") <= 30  # 20 may be expected, at most


def test_an_equal_candidate_is_seldom_dropped():
    found = verdicts(0.0)
    assert found.count("roll_back") <= 5
    assert found.count("promote") >= 90


def test_a_much_worse_candidate_is_dropped_soon_and_a_better_one_promoted():
    assert set(verdicts(-0.15)) == {"roll_back"}
    assert set(verdicts(0.1)) == {"promote"}
    assert course(-0.15, 1).pairs < 400


def test_a_candidate_that_answers_something_else_is_dropped():
    assert set(verdicts(0.0, differing=0.0, agreement=0.05)) == {"roll_back"}
    assert set(verdicts(0.1, agreement=0.5)) == {"promote"}


def test_nothing_is_decided_before_the_least_number_of_pairs():
    test = SequentialTest(Rules(min_pairs=50))
    for _ in range(49):
        test.add(-1.0)
    seen = [test.verdict]
    test.add(-1.0)
    assert [*seen, test.verdict] == ["go_on", "roll_back"]


def test_a_verdict_is_kept():
    test = SequentialTest(Rules(min_pairs=1))
    while test.verdict == "go_on":
        test.add(-1.0)
    pairs = test.pairs
    for _ in range(1000):
        test.add(1.0)
    assert (test.verdict, test.pairs) == ("roll_back", pairs)


def test_what_stays_open_is_undecided_and_may_be_decided_yet():
    test = SequentialTest(Rules(min_pairs=1, max_pairs=4))
    for seen in (1.0, -1.0, 1.0, -1.0):
        test.add(seen)
    found = [test.verdict]
    for _ in range(200):
        test.add(1.0)
    assert [*found, test.verdict] == ["undecided", "promote"]


def test_long_courses_neither_overflow_nor_lose_their_report():
    test = SequentialTest(Rules(max_pairs=100_000, min_pairs=100_000))
    for _ in range(50_000):
        test.add(1.0, agreed=True)
    assert test.e_values()["promote"] > 1e100
    assert (test.mean, test.agreement) == (1.0, 1.0)
    assert "+100.0 points" in test.reason


def test_a_pair_is_a_difference_at_once():
    assert Pairing().add(Observation(GOOD, BAD)) == [-1.0]
    assert Pairing().add(Observation(BAD, GOOD)) == [1.0]


def test_a_canary_is_set_against_a_block_of_the_active_version():
    pairing = Pairing.of_share(0.25)
    assert pairing.add(Observation(candidate=GOOD)) == []
    assert pairing.add(Observation(active=GOOD)) == []
    assert pairing.add(Observation(active=BAD)) == []
    assert pairing.add(Observation(active=BAD)) == [pytest.approx(2 / 3)]
    for _ in range(3):
        found = pairing.add(Observation(active=GOOD))
    assert found == []  # nothing of the candidate's is waiting
    assert pairing.add(Observation(candidate=BAD)) == [-1.0]


def canary_of_drifting_traffic(seed: int) -> str:
    """The verdict on a candidate that is worse by the margin, where questions are harder at times
    and twice as many askers as was said get it."""
    draw = random.Random(seed)
    test, pairing = SequentialTest(Rules()), Pairing.of_share(0.1)
    for number in range(draw.randrange(4000), 60_000):
        usable = 0.95 if number % 4000 < 2000 else 0.75
        if draw.random() < 0.2:
            seen = Observation(candidate=Trial(False, draw.random() < usable - 0.05))
        else:
            seen = Observation(active=Trial(False, draw.random() < usable))
        for difference in pairing.add(seen):
            test.add(difference)
        if test.verdict != "go_on":
            break
    return test.verdict


def test_a_canary_is_not_misled_by_questions_that_grow_harder():
    assert [canary_of_drifting_traffic(seed) for seed in range(60)].count("promote") <= 6


@pytest.mark.parametrize(("share", "block"), [(0.5, 1), (0.1, 9), (0.01, 20), (1.0, 1)])
def test_the_block_follows_the_share(share, block):
    assert Pairing.of_share(share).block == block


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("margin", 0),
        ("margin", 1),
        ("error", 0),
        ("min_pairs", 0),
        ("min_pairs", 6000),
        ("min_agreement", 1),
        ("min_agreement", -0.1),
    ],
)
def test_rules_out_of_range_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=field):
        Rules(**{field: value})


@pytest.mark.parametrize(
    ("trial", "score"),
    [
        (Trial(False, True), 1),
        (Trial(False, True, True), 1),
        (Trial(False, True, False), 0),
        (Trial(False, False), 0),
        (Trial(True, False), 0),
    ],
)
def test_the_score_of_a_trial(trial, score):
    assert trial.score == score
