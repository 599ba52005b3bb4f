"""From outcomes of requests to measures: percentiles over requests, intervals over blocks.

Percentiles interpolate linearly between the two nearest ranks. Failed requests enter no latency
and no throughput; they are counted apart.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

PERCENTILES = (50, 90, 99)

# Student's t, 0.975 quantile, for 1 to 30 degrees of freedom; beyond, the last is kept: too wide
# by at most 4 %, never too narrow.
T_975 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one request gave. All times start at the intended send, on the client's clock.

    `gaps_ms` are the gaps between consecutive streamed chunks that carry text: where the server
    puts several tokens in a chunk, one gap covers them all. `error` is the HTTP status or a kind
    (`timeout`, `connection`, `malformed`, `truncated`, `stream`); then only `message` is set.
    """

    e2el_ms: float = math.nan
    ttft_ms: float | None = None
    gaps_ms: tuple[float, ...] = ()
    send_lag_ms: float = 0.0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    model: str = ""
    server_ms: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    message: str = ""

    @property
    def tpot_ms(self) -> float | None:
        """(E2EL - TTFT) / (completion tokens - 1), tokens from `usage`; None where undefined."""
        if self.ttft_ms is None or self.completion_tokens is None or self.completion_tokens < 2:
            return None
        return (self.e2el_ms - self.ttft_ms) / (self.completion_tokens - 1)


@dataclass(frozen=True)
class Block:
    """One measurement: its outcomes and the seconds from its start to its last answer."""

    outcomes: tuple[Outcome, ...]
    seconds: float

    @property
    def done(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.error is None]


@dataclass(frozen=True)
class Estimate:
    """A measure: mean over blocks, its 95 % interval (two blocks or more), and over all requests.

    A mean of percentiles is no percentile: `pooled` is the percentile over the requests of all
    blocks; `interval` belongs to `mean`.
    """

    mean: float
    interval: tuple[float, float] | None
    pooled: float
    blocks: tuple[float, ...]


def percentile(values: Sequence[float], percent: float) -> float:
    """The percentile by linear interpolation between the nearest ranks; `values` is not empty."""
    ordered = sorted(values)
    rank = (len(ordered) - 1) * percent / 100
    low = math.floor(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


def t_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the mean by Student's t; None for fewer than two values."""
    if len(values) < 2:
        return None
    quantile = T_975[min(len(values) - 1, len(T_975)) - 1]
    mean = statistics.fmean(values)
    half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half


def measures(block: Block) -> dict[str, float]:
    """All measures of a block by name; one that nothing was measured for is left out."""
    done = block.done
    found = {"request_throughput": len(done) / block.seconds}
    tokens = [outcome.completion_tokens for outcome in done]
    if done and None not in tokens:
        found["output_throughput"] = sum(filter(None, tokens)) / block.seconds
    for name, values in _samples(done).items():
        found |= _spread(name, values)
    return found


def _samples(done: Iterable[Outcome]) -> dict[str, list[float]]:
    """The measured values of each kind; ITL is pooled over requests, the others one a request."""
    samples: dict[str, list[float]] = {}
    for outcome in done:
        single = {
            "ttft_ms": outcome.ttft_ms,
            "tpot_ms": outcome.tpot_ms,
            "e2el_ms": outcome.e2el_ms,
            "send_lag_ms": outcome.send_lag_ms,
            **{f"server_{part}_ms": value for part, value in outcome.server_ms.items()},
        }
        samples.setdefault("itl_ms", []).extend(outcome.gaps_ms)
        for name, value in single.items():
            if value is not None:
                samples.setdefault(name, []).append(value)
    return samples


def _spread(name: str, values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    percentiles = {f"{name}_p{percent}": percentile(values, percent) for percent in PERCENTILES}
    return {f"{name}_mean": statistics.fmean(values), **percentiles}


def summarise(blocks: Sequence[Block]) -> dict[str, Estimate]:
    """Every measure with its mean over the blocks that have it, interval and pooled value."""
    outcomes = tuple(outcome for block in blocks for outcome in block.outcomes)
    pooled = measures(Block(outcomes, sum(block.seconds for block in blocks)))
    each = [measures(block) for block in blocks]
    estimates = {}
    for name, value in pooled.items():
        values = tuple(found[name] for found in each if name in found)
        if values:
            estimates[name] = Estimate(statistics.fmean(values), t_interval(values), value, values)
    return estimates
