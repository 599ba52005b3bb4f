"""`sqlwright-bench latency|throughput`: measure a server over HTTP; the last line is JSON."""

import asyncio
import json
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NoReturn

import aiohttp
import typer
from rich.console import Console
from rich.progress import Progress

from benchmarks import report
from benchmarks.client import check_model, send
from benchmarks.load import Clock, MonotonicClock, run_plan
from benchmarks.measures import Block, Outcome
from benchmarks.plan import DEFAULT_MAX_TOKENS, Api, BenchError, Plan, Target
from benchmarks.workload import SAMPLES, Question, Workload, load_workload
from eval.task.figure import write_figure

# Console width where the output is no terminal: tables are then read from a log or a file.
WIDTH = 140
REQUESTS = {"latency": 30, "throughput": 256}
CONCURRENCY = {"latency": 1, "throughput": 16}
MEASURES = {"latency": "e2el_ms_p50", "throughput": "request_throughput"}

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


def fail(text: str) -> NoReturn:
    print(f"sqlwright-bench: error: {text}", file=sys.stderr, flush=True)
    raise typer.Exit(1)


def bench(
    context: typer.Context,
    base_url: Annotated[str, typer.Option(help="Server; a closing /v1 may stay.")] = (
        "http://127.0.0.1:8000"
    ),
    api: Annotated[Api, typer.Option(help="Route to measure.")] = Api.GENERATE_SQL,
    model: Annotated[
        str | None, typer.Option(help="Default: the server's, or its only one.")
    ] = None,
    api_key: Annotated[str | None, typer.Option(envvar="SQLWRIGHT_API_KEY")] = None,
    data: Annotated[
        str, typer.Option(help="`samples`, or a JSONL file beside schemas/.")
    ] = SAMPLES,
    requests: Annotated[int | None, typer.Option(help="A block's requests; 30 or 256.")] = None,
    seconds: Annotated[float | None, typer.Option(help="A block's length, in their place.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Closed loop; 1 or 16 clients.")] = None,
    rate: Annotated[float | None, typer.Option(help="Open loop: requests a second.")] = None,
    seed: Annotated[int, typer.Option(help="Of the questions' order and the arrivals.")] = 0,
    warmup: Annotated[int, typer.Option(help="Requests before, not measured.")] = 4,
    blocks: Annotated[int, typer.Option(help="Repeat so often; intervals are over blocks.")] = 1,
    max_tokens: Annotated[int | None, typer.Option(help="Completions and chat; 128.")] = None,
    logprobs: Annotated[bool, typer.Option(help="Completions: ask for logprobs.")] = False,
    stream: Annotated[
        bool | None, typer.Option(help="Completions and chat; latency: on, throughput: off.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that one request may take.")] = 300.0,
    output: Annotated[Path | None, typer.Option(help="Write the JSON to this file too.")] = None,
    figure: Annotated[
        str | None, typer.Option(help="Write benchmarks/results/FIGURE.json.")
    ] = None,
    measure: Annotated[str | None, typer.Option(help="The figure's value.")] = None,
) -> None:
    command = context.info_name or ""
    value = measure or MEASURES[command]
    openai = api is not Api.GENERATE_SQL
    if stream is None:
        stream = openai and command == "latency"
    if requests is None and seconds is None:
        requests = REQUESTS[command]
    if concurrency is None and rate is None:
        concurrency = CONCURRENCY[command]
    if max_tokens is None and openai:
        max_tokens = DEFAULT_MAX_TOKENS
    try:
        report.check_names(figure, value)
        _keep_key_out(context, figure)
        target = Target(base_url, api, model, max_tokens, logprobs, stream, timeout)
        plan = Plan(requests, seconds, concurrency, rate, warmup, blocks, seed)
        workload = load_workload(data)
        target, measured = asyncio.run(_measure(target, plan, workload, api_key))
        result = report.record(command, target, plan, workload, measured)
        _show(result, output)
        if figure and result["completed"]:
            write_figure(report.figure(figure, value, result))
    except BenchError as error:
        fail(str(error))
    except OSError as error:
        fail(f"can't write {error.filename or 'a file'}: {error.strerror or error}")
    if not result["completed"]:
        fail(f"all {result['sent']} requests failed; the first: {result['first_error']}")


app.command("latency", help="Time of single requests: TTFT, ITL, TPOT, E2EL.")(bench)
app.command("throughput", help="Requests and completion tokens a second under load.")(bench)


def _keep_key_out(context: typer.Context, figure: str | None) -> None:
    """A figure records its command line; a key in it would be committed."""
    source = context.get_parameter_source("api_key")  # an enum of click, or of typer's copy of it
    if figure and source and source.name == "COMMANDLINE":
        raise BenchError("--figure records the command: set SQLWRIGHT_API_KEY, not --api-key")


async def _measure(
    target: Target, plan: Plan, workload: Workload, api_key: str | None
) -> tuple[Target, list[Block]]:
    clock: Clock = MonotonicClock()
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),  # the loop bounds the requests, not the pool
        timeout=aiohttp.ClientTimeout(total=target.timeout_seconds),
        headers=headers,
    ) as session:
        target = replace(target, model=await check_model(session, target))
        with _progress() as progress:
            total = plan.warmup + plan.requests * plan.blocks if plan.requests else None
            bar = progress.add_task("requests", total=total) if progress else None

            async def ask(question: Question, intended: float) -> Outcome:
                outcome = await send(session, target, question, intended=intended, now=clock.now)
                if progress and bar is not None:
                    progress.advance(bar)
                return outcome

            return target, await run_plan(plan, workload.endless(plan.seed), ask, clock)


def _progress() -> AbstractContextManager[Progress | None]:
    if not sys.stderr.isatty():
        return nullcontext()
    return Progress(console=Console(stderr=True), transient=True)


def _show(result: dict[str, Any], output: Path | None) -> None:
    Console(width=None if sys.stdout.isatty() else WIDTH).print(report.table(result), markup=False)
    for kind, number in result["errors"].items():
        print(f"failed: {number} x {kind}")
    print(json.dumps(result))
    if output:
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def run() -> None:
    """Entry point of `sqlwright-bench`."""
    app()


if __name__ == "__main__":
    run()
