"""`python -m benchmarks.adapters`: more adapters than slots, ours against plain vLLM.

Starts both servers itself, each with its own engine of equal settings, and gives them the same
streamed completions in turns: requests are spread over the first 2, 8, 32 and 128 adapters, evenly
and by Zipf's law. The adapters are variants of one, so that they cost alike. Writes the figure
`adapters_many`, with a row for each number, spread and server.
"""

import asyncio
import json
import random
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import typer

from benchmarks.children import Child, PlainEngine, free_port
from benchmarks.client import check_model, send
from benchmarks.load import MonotonicClock, run_plan
from benchmarks.measures import Block, Outcome, summarise, t_interval
from benchmarks.plan import Api, BenchError, Plan, Target
from benchmarks.variants import BUNDLED, factors, make_variants
from benchmarks.workload import SAMPLES, Question, Workload, load_workload
from eval.task.base_model import BASE_MODEL, BaseModelError, resolve_base_model
from eval.task.bundle import BundleError, read_bundle
from eval.task.figure import RESULTS, Figure, write_figure
from eval.task.store import point_alias

OURS, PLAIN = "sqlwright", "vllm"
SPREADS = ("uniform", "zipf")
LOWEST = 0.8  # factor of the last variant
MEASURES = {
    "request_throughput": "requests_per_second",
    "output_throughput": "output_tokens_per_second",
    "ttft_ms_p50": "ttft_ms_p50",
    "ttft_ms_p99": "ttft_ms_p99",
}


@dataclass(frozen=True)
class Case:
    """So many adapters, and how requests are spread over them."""

    adapters: int
    spread: str

    def names(self, seed: int) -> Iterator[str]:
        """The adapter of each request, without end; the first is the likeliest under `zipf`."""
        names = [name_of(number) for number in range(self.adapters)]
        weights = [1 / (rank if self.spread == "zipf" else 1) for rank in range(1, len(names) + 1)]
        source = random.Random(seed)
        while True:
            yield from source.choices(names, weights, k=64)


@dataclass(frozen=True)
class Measured:
    """The blocks of one case by server; those of one number follow each other."""

    case: Case
    blocks: Mapping[str, Sequence[Block]]

    def rows(self) -> list[dict[str, Any]]:
        return [self._row(server) for server in (OURS, PLAIN)]

    def ratios(self) -> list[float]:
        """Our requests/s by those of plain vLLM, one for each pair of blocks."""
        pairs = zip(self.blocks[OURS], self.blocks[PLAIN], strict=True)
        rates = [[len(block.done) / block.seconds for block in pair] for pair in pairs]
        return [ours / plain if plain else 0.0 for ours, plain in rates]

    def _row(self, server: str) -> dict[str, Any]:
        blocks = self.blocks[server]
        found = summarise(blocks)
        outcomes = [outcome for block in blocks for outcome in block.outcomes]
        tokens = sum(outcome.completion_tokens or 0 for outcome in outcomes)
        row = {
            "adapters": self.case.adapters,
            "spread": self.case.spread,
            "server": server,
            "requests": len(outcomes),
            "failed": sum(outcome.error is not None for outcome in outcomes),
            **{to: round(found[name].pooled, 2) for name, to in MEASURES.items() if name in found},
            "tokens_per_request": round(tokens / max(1, len(outcomes)), 1),
        }
        return row | ({"ratio": _mean(self.ratios())} if server == OURS else {})


def name_of(number: int) -> str:
    """The public name of an adapter."""
    return f"a{number:03}"


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 3)


def fill_store(bundle: Path, store: Path, count: int) -> dict[str, Path]:
    """Put `count` variants into `store`, each under a name of its own; their folders by name.

    Raises:
        BenchError: they can't be made.
    """
    versions = make_variants(bundle, store, factors(count, LOWEST))
    for number, version in enumerate(versions):
        point_alias(store, name_of(number), version, actor="benchmark")
    return {name_of(n): (store / version).absolute() for n, version in enumerate(versions)}


def write_generation(bundle: Path, model: Path, folder: Path) -> Path:
    """A folder that has an engine stop where our server has it stop: at the adapter's own token.

    Raises:
        BenchError: the base model has no such token.
    """
    stop = read_bundle(bundle).manifest.stop
    tokenizer = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    if stop not in ids:
        raise BenchError(f"--bundle {bundle}: the base model has no token {stop!r}")
    own = json.loads((model / "config.json").read_text(encoding="utf-8"))["eos_token_id"]
    ends = sorted({ids[stop], *(own if isinstance(own, list) else [own])})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    return folder


@dataclass(frozen=True)
class Setting:
    """What both engines have alike, and how they are asked."""

    slots: int
    cpu_loras: int
    gpu_share: float
    plan: Plan
    repeats: int
    max_tokens: int


def our_server(store: Path, port: int, setting: Setting, log: Path) -> Child:
    """Our server with an engine of its own, not yet started."""
    own = {
        "SQLWRIGHT_STORE": str(store),
        "SQLWRIGHT_PORT": str(port),
        "SQLWRIGHT_MAX_LORAS": str(setting.slots),
        "SQLWRIGHT_MAX_CPU_LORAS": str(setting.cpu_loras),
        "SQLWRIGHT_GPU_MEMORY_UTILIZATION": str(setting.gpu_share),
    }
    ready = f"http://127.0.0.1:{port}/health/ready"
    return Child("our server", [sys.executable, "-m", "server"], own, ready, log)


async def measure(
    urls: Mapping[str, str], cases: Sequence[Case], setting: Setting, workload: Workload
) -> list[Measured]:
    """All cases on the servers at `urls`; each block of one server is followed by the other's.

    Raises:
        BenchError: a server does not have the adapters.
    """
    timeout = aiohttp.ClientTimeout(total=300.0)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        targets = {
            server: Target(url, Api.COMPLETIONS, "", setting.max_tokens, stream=True)
            for server, url in urls.items()
        }
        last = name_of(max(case.adapters for case in cases) - 1)
        for target in targets.values():
            await check_model(session, replace(target, model=last))
        seeds = count()  # one for each pair of blocks: a prompt seldom comes twice to an adapter
        return [await _measure(session, targets, case, setting, workload, seeds) for case in cases]


async def _measure(
    session: aiohttp.ClientSession,
    targets: Mapping[str, Target],
    case: Case,
    setting: Setting,
    workload: Workload,
    seeds: Iterator[int],
) -> Measured:
    blocks: dict[str, list[Block]] = {server: [] for server in targets}
    for repeat, seed in zip(range(setting.repeats), seeds, strict=False):
        for server in sorted(targets, reverse=bool(repeat % 2)):
            blocks[server].append(
                await _block(session, targets[server], case, setting.plan, workload, seed)
            )
    measured = Measured(case, blocks)
    if sys.stderr.isatty():
        typer.echo("\n".join(f"adapters: {json.dumps(row)}" for row in measured.rows()), err=True)
    return measured


async def _block(
    session: aiohttp.ClientSession,
    target: Target,
    case: Case,
    plan: Plan,
    workload: Workload,
    seed: int,
) -> Block:
    """One block; `seed` fixes the questions and their adapters, so that both servers get them."""
    clock, names = MonotonicClock(), case.names(seed)

    async def ask(question: Question, intended: float) -> Outcome:
        chosen = replace(target, model=next(names))
        return await send(session, chosen, question, intended=intended, now=clock.now)

    (block,) = await run_plan(plan, workload.endless(seed), ask, clock)
    return block


def figure_of(measured: Sequence[Measured], setting: Setting) -> Figure:
    """The table; its value: our requests/s by plain vLLM's, evenly over the most adapters."""
    worst = max((m for m in measured if m.case.spread == SPREADS[0]), key=lambda m: m.case.adapters)
    rows = [row for each in measured for row in each.rows()]
    notes = (
        f"{worst.case.adapters} adapters, {setting.slots} slots, {setting.cpu_loras} in memory; "
        f"{setting.plan.concurrency} clients, streamed completions of up to {setting.max_tokens} "
        "tokens, both servers in turns; ratio: our requests/s by plain vLLM's"
    )
    requests = sum(row["requests"] for row in rows)
    ratios = worst.ratios()
    unit = "requests/s by those of plain vLLM"
    return Figure("adapters_many", _mean(ratios), unit, requests, t_interval(ratios), notes, rows)


def run(
    adapters: Sequence[int], setting: Setting, bundle: Path, data: str, folder: Path
) -> list[Measured]:
    """Start both servers and measure every case.

    Raises:
        BenchError, BaseModelError, BundleError, OSError: something is missing, or a server fails.
    """
    workload = load_workload(data)
    model, store = Path(resolve_base_model(BASE_MODEL)), (folder / "store").absolute()
    places = fill_store(bundle, store, max(adapters))
    plain = PlainEngine(
        str(model), places, free_port(), setting.slots, setting.cpu_loras,
        generation=write_generation(bundle, model, folder / "generation"),
        gpu_share=setting.gpu_share,
    )  # fmt: skip
    port = free_port()
    ours = our_server(store, port, setting, folder / "server.log")
    with ExitStack() as stack:
        children = [ours, plain.child("plain vLLM", folder / "vllm.log")]
        for child in [stack.enter_context(child) for child in children]:
            child.wait_ready()
        urls = {OURS: f"http://127.0.0.1:{port}", PLAIN: plain.url}
        cases = [Case(number, spread) for number in adapters for spread in SPREADS]
        return asyncio.run(measure(urls, cases, setting, workload))


def main(
    adapters: Annotated[list[int] | None, typer.Option(min=1, help="2, 8, 32 and 128.")] = None,
    slots: Annotated[int, typer.Option(min=1, help="Adapters in one engine step.")] = 8,
    cpu_loras: Annotated[int, typer.Option(help="In the engine's memory; 0: all.")] = 0,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at a time.")] = 64,
    requests: Annotated[int, typer.Option(min=1, help="Of a block.")] = 512,
    repeats: Annotated[int, typer.Option(min=1, help="Blocks of a case and server.")] = 2,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of a completion.")] = 64,
    gpu_share: Annotated[float, typer.Option(help="Of the GPU's memory, each.")] = 0.4,
    bundle: Annotated[Path, typer.Option(help="The adapter.")] = BUNDLED,
    data: Annotated[str, typer.Option(help="`samples`, or a JSONL file.")] = SAMPLES,
    folder: Annotated[Path, typer.Option(help="Of the store and the logs.")] = Path(
        "runs/adapters"
    ),
    results: Annotated[Path, typer.Option(help="Where the figure is written.")] = RESULTS,
) -> None:
    """Serve more adapters than the engine has slots for, and compare."""
    numbers = sorted(set(adapters or (2, 8, 32, 128)))
    try:
        plan = Plan(requests=requests, concurrency=concurrency, warmup=concurrency)
        kept = cpu_loras or max(slots, numbers[-1] + 1)  # and the bundled one
        setting = Setting(slots, kept, gpu_share, plan, repeats, max_tokens)
        folder.mkdir(parents=True, exist_ok=True)
        measured = run(numbers, setting, bundle, data, folder)
    except (BenchError, BaseModelError, BundleError, OSError) as error:
        typer.echo(f"adapters: error: {error}", err=True)
        raise typer.Exit(1) from error
    figure = figure_of(measured, setting)
    path = write_figure(figure, results)
    typer.echo(json.dumps({"rows": figure.rows, "figure": str(path)}))


if __name__ == "__main__":
    # A TERM ends the children too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    typer.run(main)
