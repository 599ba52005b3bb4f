"""From the answers of rounds of swaps to their rows and figures."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.measures import percentile, t_interval
from benchmarks.plan import Api
from benchmarks.swapping import Answer, Swap, verdict
from eval.task.figure import Figure

MAX_FAULTS = 20  # said in full in a round's record
WRONG = ("failed", "mixed", "stale")
Judged = Sequence[tuple[Answer, str]]


def round_record(
    blocks: Mapping[str, Sequence[Answer]], history: Sequence[Swap], tolerance: float, swaps: int
) -> dict[str, Any]:
    """A round as its file holds it: what came of the answers of its blocks `steady` and `swaps`,
    and all that is pooled later. The last `swaps` of `history` are the round's."""
    judged = {
        name: [(answer, verdict(answer, history, tolerance)) for answer in answers]
        for name, answers in blocks.items()
    }
    every = [pair for pairs in judged.values() for pair in pairs]
    return {
        "swaps": swaps,
        "verdicts": {name: Counter(v for _, v in pairs) for name, pairs in judged.items()},
        "ack_seconds": [round(s.acked - s.began, 4) for s in history[len(history) - swaps :]],
        "latencies_ms": {
            name: {str(api): _latencies(pairs, api) for api in (Api.COMPLETIONS, Api.GENERATE_SQL)}
            for name, pairs in judged.items()
        },
        "away_max": max((a.away for a, v in every if v == "right"), default=0.0),
        "faults": [_fault(a, v) for a, v in every if v != "right"][:MAX_FAULTS],
    }


def _latencies(judged: Judged, api: Api) -> list[float]:
    return [round(a.ms, 1) for a, v in judged if v != "failed" and a.api is api]


def _fault(answer: Answer, what: str) -> dict[str, Any]:
    away = answer.away if math.isfinite(answer.away) else None
    return asdict(answer) | {"away": away, "verdict": what}


def row_of(number: int, record: Mapping[str, Any]) -> dict[str, Any]:
    """A row a round; latencies are those of completions."""
    counts = Counter(record["verdicts"]["steady"]) + Counter(record["verdicts"]["swaps"])
    acked = record["ack_seconds"]
    row = {
        "round": number,
        "swaps": record["swaps"],
        "answers": sum(counts.values()),
        **{name: counts[name] for name in WRONG},
        "ack_seconds_p50": round(percentile(acked, 50), 3),
        "ack_seconds_max": max(acked),
    }
    for name in ("steady", "swaps"):
        latencies = record["latencies_ms"][name][Api.COMPLETIONS]
        row |= {f"{name}_ms_p{p}": round(percentile(latencies, p), 1) for p in (50, 99)}
    return row | {"p99_ratio": round(row["swaps_ms_p99"] / row["steady_ms_p99"], 3)}


def figures_of(records: Sequence[Mapping[str, Any]], notes: str) -> list[Figure]:
    """The three figures, each with a row a round; the ratio is that of all rounds' answers, its
    interval that of the mean over rounds."""
    rows = [row_of(number, record) for number, record in enumerate(records, 1)]
    total = {name: sum(row[name] for row in rows) for name in ("swaps", "answers", *WRONG)}
    ratio = _p99(records, "swaps") / _p99(records, "steady")
    interval = t_interval([row["p99_ratio"] for row in rows])
    said = f"{total['swaps']} swaps, {total['answers']} answers, {total['mixed']} mixed; {notes}"
    unit = "p99 of completions during swaps, by that without"
    counted = [
        Figure(f"swap_{name}", total[name], "answers", total["answers"], notes=said, rows=rows)
        for name in ("failed", "stale")
    ]
    return [
        *counted,
        Figure("swap_p99_ratio", round(ratio, 3), unit, total["swaps"], interval, said, rows),
    ]


def _p99(records: Sequence[Mapping[str, Any]], block: str) -> float:
    pooled = [ms for r in records for ms in r["latencies_ms"][block][Api.COMPLETIONS]]
    return percentile(pooled, 99)
