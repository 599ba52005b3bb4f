"""A measurement as a record (for machines), as tables (for people) and as a figure."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from benchmarks.measures import Block, Estimate, Outcome, percentile, summarise
from benchmarks.plan import BenchError, Plan, Target
from benchmarks.workload import Workload
from eval.task.figure import Figure

FIGURE_NAME = re.compile(r"[a-z0-9_]{1,80}")
MEASURE = re.compile(
    r"(request|output)_throughput|(ttft|itl|tpot|e2el|send_lag|server_\w+)_ms_(mean|p50|p90|p99)"
)
UNITS = {"request_throughput": "requests/s", "output_throughput": "tokens/s"}


def record(
    command: str, target: Target, plan: Plan, workload: Workload, blocks: Sequence[Block]
) -> dict[str, Any]:
    """All of a measurement as one JSON object."""
    outcomes = [outcome for block in blocks for outcome in block.outcomes]
    done = [outcome for block in blocks for outcome in block.done]
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    return {
        "bench": command,
        "regime": _regime(target, plan, workload, done),
        "sent": len(outcomes),
        "completed": len(done),
        "failed": len(failed),
        "errors": dict(Counter(str(outcome.error) for outcome in failed)),
        "first_error": failed[0].message if failed else None,
        "seconds": [block.seconds for block in blocks],
        "measures": {name: asdict(e) for name, e in _shown(summarise(blocks), plan).items()},
    }


def _regime(
    target: Target, plan: Plan, workload: Workload, done: Sequence[Outcome]
) -> dict[str, Any]:
    prompts = [o.prompt_tokens for o in done if o.prompt_tokens is not None]
    return {
        "loop": plan.loop,
        **asdict(plan),
        **asdict(target),
        "answered_by": sorted({o.model for o in done if o.model}),
        "data": workload.name,
        "questions": len(workload.questions),
        "prompt_tokens_p50": percentile(prompts, 50) if prompts else None,
        "prompt_tokens_p95": percentile(prompts, 95) if prompts else None,
    }


def _shown(estimates: dict[str, Estimate], plan: Plan) -> dict[str, Estimate]:
    """In a closed loop every request is sent when it is meant to be: no lag to show."""
    lag = "send_lag_ms" if plan.loop == "closed" else "nothing"
    return {name: e for name, e in sorted(estimates.items()) if not name.startswith(lag)}


def unit(measure: str) -> str:
    """The unit of a measure, which its name ends or implies."""
    return UNITS.get(measure, "ms")


def table(result: dict[str, Any]) -> Table:
    """The measures as a table; the title states the regime."""
    shown = Table(title=Text(_title(result)), title_justify="left", box=box.SIMPLE)
    for name in ("measure", "mean over blocks", "95 % interval", "over all requests", "unit"):
        shown.add_column(name, justify="left" if name in ("measure", "unit") else "right")
    for name, estimate in result["measures"].items():
        interval = "–".join(f"{bound:,.2f}" for bound in estimate["interval"] or ())
        numbers = f"{estimate['mean']:,.2f}", interval, f"{estimate['pooled']:,.2f}"
        shown.add_row(name, *numbers, unit(name))
    return shown


def _title(result: dict[str, Any]) -> str:
    regime = result["regime"]
    pace = f"concurrency {regime['concurrency']}"
    if regime["rate"] is not None:
        pace = f"{regime['rate']:g} requests/s, Poisson, seed {regime['seed']}"
    streamed = "streamed" if regime["stream"] else "not streamed"
    p50, p95 = regime["prompt_tokens_p50"], regime["prompt_tokens_p95"]
    lines = (
        f"{result['bench']}: {regime['api']}, model {', '.join(regime['answered_by']) or '?'}",
        f"{regime['loop']} loop, {pace}, {streamed}; {result['completed']} completed, "
        f"{result['failed']} failed; warm-up {regime['warmup']}, blocks {regime['blocks']}",
        f"{regime['data']}, {regime['questions']} questions, prompt tokens p50 {p50}, p95 {p95}",
    )
    return "\n".join(lines)


def check_names(figure: str | None, measure: str) -> None:
    """Refuse a figure's or a measure's name before anything is measured.

    Raises:
        BenchError: the name can't be one.
    """
    if figure is not None and not FIGURE_NAME.fullmatch(figure):
        raise BenchError(f"--figure must match {FIGURE_NAME.pattern}, is {figure!r}")
    if not MEASURE.fullmatch(measure):
        raise BenchError(f"--measure: no measure has the name {measure!r}, as e2el_ms_p99 has")


def figure(name: str, measure: str, result: dict[str, Any]) -> Figure:
    """The figure whose value is the mean over blocks of `measure`; all measures are its rows.

    Raises:
        BenchError: nothing was measured for `measure`.
    """
    found = result["measures"].get(measure)
    if found is None:
        raise BenchError(f"--measure: {measure!r} was not measured here; see the table")
    low_high = found["interval"]
    whole = Figure(name, found["mean"], unit(measure), result["completed"])
    return replace(
        whole,
        interval=(low_high[0], low_high[1]) if low_high else None,
        notes=f"{measure}; {' '.join(_title(result).splitlines())}",
        rows=[{"measure": n, **estimate} for n, estimate in result["measures"].items()],
    )
