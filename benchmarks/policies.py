"""`python -m benchmarks.policies`: the ways to decode, measured against each other on one server.

Asks the same questions once for each policy of `/generate-sql`, through `sqlwright-eval` as a
process of its own, and pairs each result with that of free decoding. Results stay in a folder, so
that a run that was stopped goes on. Writes the figures `spider_dev_ex_best_policy` (rows: every
policy), `spider_dev_valid_free` and `spider_dev_valid_auto`.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from eval.task.figure import RESULTS, Figure, write_figure

# What each policy adds to a request. The first is what the others are compared with.
POLICIES: Mapping[str, Mapping[str, Any]] = {
    "free": {"decoding": "free"},
    "constrained": {"decoding": "constrained"},
    "auto": {"decoding": "auto"},
    "auto, continue": {"decoding": "auto", "repair": "continue"},
    "auto, agree": {"decoding": "auto", "repair": "agree"},
    "free, n=4": {"decoding": "free", "n": 4},
    "auto, n=4": {"decoding": "auto", "n": 4},
    "constrained, n=4": {"decoding": "constrained", "n": 4},
    "auto, n=8": {"decoding": "auto", "n": 8},
    "constrained, n=8": {"decoding": "constrained", "n": 8},
    "auto, execute": {"decoding": "auto", "repair": "execute"},
}
FREE, AUTO, EXECUTE = "free", "auto", "auto, execute"
EX = "execution_accuracy"


class PolicyError(RuntimeError):
    """An evaluation failed; the message is what it said."""


@dataclass(frozen=True, slots=True)
class Asking:
    """What all policies share; `by_name`: databases are registered at the server."""

    base_url: str
    data: str
    folder: Path
    concurrency: int = 32
    model: str = ""
    limit: int = 0
    by_name: bool = False
    timeout: float = 120.0

    def command(self, policy: str) -> list[str]:
        """The evaluation of one policy."""
        words = [
            sys.executable, "-m", "eval", "run", "--base-url", self.base_url, "--data", self.data,
            "--concurrency", str(self.concurrency), "--output", str(self.result(policy)),
            "--timeout", str(self.timeout), "--no-page",
            "--extra-body", json.dumps(POLICIES[policy]),
        ]  # fmt: skip
        words += ["--model", self.model] if self.model else []
        words += ["--limit", str(self.limit)] if self.limit else []
        return [*words, *(["--by-name"] if self.by_name or policy == EXECUTE else [])]

    def result(self, policy: str) -> Path:
        return self.folder / f"{policy.replace(', ', '-').replace('=', '')}.json"


def ask(asking: Asking, policy: str) -> dict[str, Any]:
    """The result of one policy; asked anew only where there is none yet.

    Raises:
        PolicyError: the evaluation failed.
    """
    path = asking.result(policy)
    if not path.is_file():
        _run(asking.command(policy))
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def paired(asking: Asking, policy: str) -> dict[str, Any]:
    """What `policy` changes against free decoding: a `Change` of `eval.comparison`, in shares.

    Raises:
        PolicyError: the two results can't be compared.
    """
    output = asking.result(policy).with_suffix(".against-free.json")
    free = asking.result(FREE)
    words = ["compare", str(free), str(asking.result(policy)), "--output", str(output)]
    _run([sys.executable, "-m", "eval", *words])
    comparison = json.loads(output.read_text(encoding="utf-8"))
    change: dict[str, Any] = comparison["measures"][EX]
    return change


def _run(command: Sequence[str]) -> None:
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise PolicyError(run.stderr.strip()[-500:])


def row_of(policy: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Scores, tokens and latency of one policy; shares over all questions."""
    items, measures = record["items"], record["measures"]
    latencies = [item["latency_ms"] for item in items if item["latency_ms"] is not None]
    tokens = [item["completion_tokens"] or 0 for item in items]
    cuts = statistics.quantiles(latencies, n=100, method="inclusive")
    return {
        "policy": policy,
        "n": len(items),
        "accuracy": measures[EX]["value"],
        "stderr": measures[EX]["stderr"],
        "interval": measures[EX]["interval"],
        "valid": sum(bool(item["server_valid"]) for item in items) / len(items),
        "runs": measures["runs"]["value"],
        "completion_tokens_mean": round(statistics.fmean(tokens), 1),
        "latency_ms_p50": round(cuts[49], 1),
        "latency_ms_p99": round(cuts[98], 1),
        "failed": record["num_errors"],
    }


def changed(change: Mapping[str, Any]) -> dict[str, Any]:
    """The paired part of a row, in points."""
    interval = change["interval"]
    return {
        "points_over_free": round(100 * change["difference"], 2),
        "points_interval": interval and [round(100 * end, 2) for end in interval],
        "fixed": change["fixed"],
        "broke": change["broke"],
        "p_mcnemar": change["p_mcnemar"],
    }


def figures_of(rows: Sequence[dict[str, Any]], asking: Asking, models: str) -> list[Figure]:
    """The best policy by accuracy, and the valid share of the two that have a figure."""
    best = max(rows, key=lambda row: float(row["accuracy"]))
    notes = (
        f"model {models}; {asking.concurrency} requests at a time, so latencies include waiting; "
        "valid: the server's own check; completion tokens: of all that was decoded for a question"
    )
    chosen = f"best policy: {best['policy']}, chosen by these very questions; {notes}"
    ends = best["interval"]
    found = [
        Figure(
            "spider_dev_ex_best_policy",
            value=best["accuracy"],
            unit="share of questions",
            n=best["n"],
            interval=(ends[0], ends[1]) if ends else None,
            notes=chosen,
            rows=list(rows),
        )
    ]
    for row in rows:
        if row["policy"] in (FREE, AUTO):
            name = f"spider_dev_valid_{row['policy']}"
            found.append(Figure(name, row["valid"], "share of questions", row["n"], notes=notes))
    return found


def measure(asking: Asking, policies: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
    """A row a policy, and the versions that answered; says each as it comes.

    Raises:
        PolicyError: an evaluation failed.
    """
    rows, models = [], set()
    for policy in dict.fromkeys([FREE, *policies]):
        began = time.monotonic()
        record = ask(asking, policy)
        models |= set(record["versions_used"])
        row = row_of(policy, record)
        if policy != FREE:
            row |= changed(paired(asking, policy))
        rows.append(row)
        typer.echo(_line(row, time.monotonic() - began), err=True)
    return rows, ", ".join(sorted(models))


def _line(row: Mapping[str, Any], seconds: float) -> str:
    return (
        f"policies: {row['policy']}: {100 * row['accuracy']:.1f} % right, "
        f"{100 * row['valid']:.1f} % valid, p50 {row['latency_ms_p50']:,.0f} ms, "
        f"p99 {row['latency_ms_p99']:,.0f} ms; {seconds:.0f} s"
    )


def main(
    base_url: Annotated[str, typer.Option(help="Address of the server.")],
    data: Annotated[str, typer.Option(help="JSONL file of examples.")] = "data/dev.jsonl",
    policy: Annotated[list[str] | None, typer.Option(help="These only; more than once.")] = None,
    folder: Annotated[Path, typer.Option(help="Where results stay.")] = Path("runs/policies"),
    model: Annotated[str, typer.Option(help="Adapter; default: the server's.")] = "",
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at a time.")] = 32,
    limit: Annotated[int, typer.Option(min=0, help="The first so many questions; 0: all.")] = 0,
    by_name: Annotated[bool, typer.Option(help="Name databases, send no schemas.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds a request may take.")] = 120.0,
    results: Annotated[Path, typer.Option(help="Where the figures are written.")] = RESULTS,
) -> None:
    """Measure policies of decoding; "auto, execute" needs databases that the server has files of,
    and SQLWRIGHT_RUN_QUERIES."""
    usual = [name for name in POLICIES if name != EXECUTE or by_name]
    if unknown := [name for name in policy or () if name not in POLICIES]:
        typer.echo(f"policies: error: --policy {unknown[0]!r}; known: {list(POLICIES)}", err=True)
        raise typer.Exit(1)
    asking = Asking(base_url, data, folder, concurrency, model, limit, by_name, timeout)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        rows, models = measure(asking, policy or usual)
    except (PolicyError, OSError) as error:
        typer.echo(f"policies: error: {error}", err=True)
        raise typer.Exit(1) from error
    paths = [str(write_figure(figure, results)) for figure in figures_of(rows, asking, models)]
    typer.echo(json.dumps({"rows": rows, "figures": paths}))


if __name__ == "__main__":
    typer.run(main)
