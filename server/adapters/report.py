"""The report of a rollout: both versions side by side, as numbers for JSON."""

import statistics
from collections.abc import Sequence
from typing import Any

from server.adapters.sequential import SequentialTest
from server.adapters.trials import Observation, Trial

Z95 = 1.959964


def summary(seen: Sequence[Observation], test: SequentialTest) -> dict[str, Any]:
    """What was seen of each version and of the two together; rates with 95 % intervals."""
    active = [o.active for o in seen if o.active]
    candidate = [o.candidate for o in seen if o.candidate]
    return {
        "observations": len(seen),
        "arms": {"active": _arm(active), "candidate": _arm(candidate)},
        "pairs": test.pairs,
        "difference": round(test.mean, 4),
        "agreement": None if test.agreement is None else round(test.agreement, 4),
        "compared": test.compared,
        "e_values": {name: float(f"{value:.4g}") for name, value in test.e_values().items()},
        "state": test.verdict,
        "says": test.reason,
    }


def _arm(trials: Sequence[Trial]) -> dict[str, Any]:
    tried = [trial for trial in trials if trial.ran is not None]
    latencies = sorted(trial.latency_ms for trial in trials)
    return {
        "n": len(trials),
        "failed": _rate([trial.failed for trial in trials]),
        "valid": _rate([trial.valid for trial in trials]),
        "ran": _rate([bool(trial.ran) for trial in tried]),
        "usable": _rate([trial.score == 1 for trial in trials]),
        "latency_ms_p50": _quantile(latencies, 50),
        "latency_ms_p99": _quantile(latencies, 99),
    }


def _rate(flags: Sequence[bool]) -> dict[str, Any] | None:
    """A share with Wilson's interval (Wilson 1927); None of nothing."""
    n = len(flags)
    if not n:
        return None
    p = sum(flags) / n
    middle = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * ((p * (1 - p) + Z95**2 / (4 * n)) / n) ** 0.5
    ends = [round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)]
    return {"value": round(p, 4), "interval": ends, "n": n}


def _quantile(ordered: Sequence[float], percent: int) -> float | None:
    if len(ordered) < 2:
        return round(ordered[0], 1) if ordered else None
    return round(statistics.quantiles(ordered, n=100, method="inclusive")[percent - 1], 1)
