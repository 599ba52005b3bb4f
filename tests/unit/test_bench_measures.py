"""Measures by hand: percentiles, Student's t, TPOT from usage, failures counted apart."""

import math

import pytest

from benchmarks.measures import T_975, Block, Outcome, measures, percentile, summarise, t_interval


def outcome(e2el_ms: float, **more) -> Outcome:
    return Outcome(e2el_ms=e2el_ms, **more)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([7.0], 99, 7.0),
        ([1.0, 2.0], 50, 1.5),
        ([4.0, 1.0, 3.0, 2.0], 50, 2.5),
        ([10.0, 20.0, 30.0, 40.0, 50.0], 90, 46.0),
        ([10.0, 20.0, 30.0], 100, 30.0),
        ([10.0, 20.0, 30.0], 0, 10.0),
    ],
)
def test_percentile_interpolates_linearly(values, percent, expected):
    assert percentile(values, percent) == pytest.approx(expected)


def t_cdf(t: float, freedom: int) -> float:
    """Student's distribution function at t > 0 by Simpson's rule over its density."""
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2))
    scale /= math.sqrt(freedom * math.pi)

    def density(x: float) -> float:
        return scale * math.pow(1 + x * x / freedom, -(freedom + 1) / 2)

    steps = 2000
    width = t / steps
    odd = sum(density(i * width) for i in range(1, steps, 2))
    even = sum(density(i * width) for i in range(2, steps, 2))
    return 0.5 + width / 3 * (density(0) + 4 * odd + 2 * even + density(t))


@pytest.mark.parametrize("freedom", range(1, len(T_975) + 1))
def test_each_t_quantile_is_the_distributions_own(freedom):
    assert t_cdf(T_975[freedom - 1], freedom) == pytest.approx(0.975, abs=4e-5)  # three decimals


def test_interval_of_three_blocks_by_hand():
    # mean 12, standard deviation 2, two degrees of freedom: 12 ± 4.303 * 2 / √3
    assert t_interval([10.0, 12.0, 14.0]) == pytest.approx((12 - 4.96868, 12 + 4.96868), abs=1e-4)


def test_one_block_has_no_interval():
    assert t_interval([5.0]) is None
    assert summarise([Block((outcome(5.0),), 1.0)])["e2el_ms_p50"].interval is None


def test_many_blocks_keep_the_last_quantile():
    values = [0.0, 1.0] * 50
    half = 2.042 * math.sqrt(100 * 0.25 / 99) / 10
    assert t_interval(values) == pytest.approx((0.5 - half, 0.5 + half))


def test_tpot_leaves_the_first_token_out():
    assert outcome(110.0, ttft_ms=10.0, completion_tokens=11).tpot_ms == 10.0


@pytest.mark.parametrize(
    "more",
    [{"completion_tokens": 5}, {"ttft_ms": 1.0}, {"ttft_ms": 1.0, "completion_tokens": 1}],
    ids=["not streamed", "no usage", "one token"],
)
def test_tpot_is_undefined(more):
    block = Block((outcome(9.0, **more),), 1.0)
    assert block.outcomes[0].tpot_ms is None
    assert not [name for name in measures(block) if name.startswith("tpot")]


def test_itl_is_pooled_over_requests():
    block = Block((outcome(9, gaps_ms=(1.0, 1.0, 1.0)), outcome(9, gaps_ms=(5.0,))), 1.0)
    assert measures(block)["itl_ms_mean"] == 2.0  # a mean of means would be 3


def test_throughput_by_hand():
    done = (outcome(1, completion_tokens=30), outcome(2, completion_tokens=10))
    found = measures(Block((*done, Outcome(error="429")), 4.0))
    assert (found["request_throughput"], found["output_throughput"]) == (0.5, 10.0)


def test_output_throughput_is_left_out_where_a_usage_is_missing():
    found = measures(Block((outcome(1, completion_tokens=30), outcome(2)), 4.0))
    assert "output_throughput" not in found


def test_failed_requests_enter_no_latency():
    found = measures(Block((outcome(10.0), Outcome(error="timeout")), 1.0))
    assert {found[f"e2el_ms_{p}"] for p in ("mean", "p50", "p90", "p99")} == {10.0}


def test_only_failures_measure_only_a_throughput_of_zero():
    assert measures(Block((Outcome(error="500"),), 2.0)) == {"request_throughput": 0.0}


def test_the_servers_own_parts_are_measured():
    found = measures(Block((outcome(9, server_ms={"check": 2.0}), outcome(9)), 1.0))
    assert found["server_check_ms_p50"] == 2.0


def test_mean_over_blocks_and_percentile_over_all_requests_differ():
    fast = Block(tuple(outcome(v) for v in (1.0, 1.0, 1.0)), 1.0)
    slow = Block((outcome(100.0),), 1.0)
    estimate = summarise([fast, slow])["e2el_ms_p50"]
    assert (estimate.mean, estimate.pooled, estimate.blocks) == (50.5, 1.0, (1.0, 100.0))


def test_a_block_in_which_all_failed_has_no_latency_but_a_throughput():
    estimates = summarise([Block((outcome(4.0),), 1.0), Block((Outcome(error="500"),), 1.0)])
    assert estimates["e2el_ms_p50"].blocks == (4.0,)
    assert estimates["request_throughput"].blocks == (1.0, 0.0)
