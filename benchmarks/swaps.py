"""`python -m benchmarks.swaps`: an adapter is swapped again and again under steady load.

Makes variants of an adapter, asks a fresh engine without a prefix cache what each answers, then
points a name of the server's store at one after the other, in blocks that take turns with blocks
without swaps. Each answer must be what the version that it names answers, and must name no version
that had been replaced before the question. Rounds stay in a folder, so that a run that was stopped
goes on. Writes the figures `swap_failed`, `swap_stale` and `swap_p99_ratio`.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import typer

from benchmarks.client import check_model
from benchmarks.load import MonotonicClock
from benchmarks.plan import BenchError, Target
from benchmarks.reference import Scale, scale_of
from benchmarks.reference_engine import references_of
from benchmarks.swap_report import figures_of, round_record, row_of
from benchmarks.swapping import Load, Task
from benchmarks.variants import BUNDLED, factors, make_variants
from benchmarks.workload import SAMPLES, Question, load_workload
from eval.task.base_model import BASE_MODEL, BaseModelError, resolve_base_model
from eval.task.bundle import BundleError
from eval.task.figure import RESULTS, write_figure
from eval.task.store import change_alias, default_store

TIMEOUT_SECONDS = 300.0
CALIBRATED = 4  # completions a client and version


@dataclass(frozen=True)
class Swaps:
    """How often to swap, and how: `swaps` in `rounds` of equal size; the next swap comes when
    `answers_each` answers have come since the last."""

    swaps: int
    rounds: int
    answers_each: int
    steady_seconds: float

    def sizes(self) -> list[int]:
        """Swaps of each round."""
        least, more = divmod(self.swaps, self.rounds)
        return [least + (number < more) for number in range(self.rounds)]


def say(text: str) -> None:
    """Progress, for whoever watches."""
    if sys.stderr.isatty():
        typer.echo(f"swaps: {text}", err=True)


def candidates(data: str, count: int) -> list[Question]:
    """Questions to choose `count` from: on few schemas, so that prompts share long beginnings.

    Raises:
        BenchError: the workload can't be loaded.
    """
    questions = load_workload(data).questions
    longest: dict[str, int] = {}
    for question in questions:
        longest[question.db_id] = max(longest.get(question.db_id, 0), len(question.prompt))
    chosen: list[Question] = []
    for db_id in sorted(longest, key=longest.__getitem__, reverse=True):
        same = {q.prompt: q for q in questions if q.db_id == db_id}
        chosen += list(same.values())[: max(2, count // 2)]
    return chosen[: 2 * count]


async def calibrate(load: Load, versions: Sequence[str]) -> Scale:
    """How far the server's answers are from the references, each version asked alone.

    Raises:
        BenchError: it can't be asked, its answers don't name the version, or the versions can't be
            told apart.
    """
    away: list[float] = []
    count = max(2 * len(load.task.questions), CALIBRATED * load.task.clients)
    for version in versions:
        await load.swap(version)
        for answer in await load.asked(count):
            if answer.error:
                raise BenchError(f"the server fails before any swap: {answer.error}")
            if answer.version != version:
                raise BenchError(f"an answer of {version} names {answer.version!r} as its model")
            away.append(answer.away)
    return scale_of(load.references, away)


async def run_round(
    load: Load, plan: Swaps, versions: Sequence[str], scale: Scale, *, is_odd: bool
) -> dict[str, Any]:
    """The record of a block without swaps and of one with a swap to each of `versions`; which one
    comes first changes from round to round. Raises as `Load.swap`."""
    blocks = {} if is_odd else {"steady": await load.steady(plan.steady_seconds)}
    blocks["swaps"] = await load.swapping(versions, plan.answers_each)
    if is_odd:
        blocks["steady"] = await load.steady(plan.steady_seconds)
    return round_record(blocks, load.history, scale.tolerance, len(versions))


async def run_rounds(
    load: Load, plan: Swaps, versions: Sequence[str], folder: Path
) -> tuple[list[dict[str, Any]], str]:
    """The records of all rounds, those that `folder` holds already included, and notes on them.

    Raises:
        BenchError: as `calibrate` and `run_round`.
    """
    scale = await calibrate(load, versions)
    say(f"noise {scale.noise:.4f} nats, variants {scale.separation:.4f} apart")
    await load.steady(plan.steady_seconds)  # a warm-up
    turns, records = cycle(versions), []
    for number, swaps in enumerate(plan.sizes(), 1):
        path = folder / f"round-{number:02}.json"
        coming = list(islice(turns, swaps))
        if not path.is_file():
            record = await run_round(load, plan, coming, scale, is_odd=bool(number % 2))
            path.write_text(json.dumps(record) + "\n", encoding="utf-8")
        records.append(json.loads(path.read_text(encoding="utf-8")))
        say(json.dumps(row_of(number, records[-1])))
    notes = (
        f"{load.task.clients} clients, {len(versions)} variants of one adapter, which differ by "
        f"{scale.separation:.3f} nats or more; an answer over {scale.tolerance:.3f} nats from its "
        f"version's would be mixed, the farthest was {max(r['away_max'] for r in records):.3f}"
    )
    return records, notes


def keep_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Write what the rounds in `folder` have in common.

    Raises:
        BenchError: those that are there were run otherwise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "settings.json"
    text = json.dumps(settings) + "\n"
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise BenchError(f"--folder {folder} holds rounds with other settings; name another")
    path.write_text(text, encoding="utf-8")


async def measure(
    task: Task, plan: Swaps, versions: Sequence[str], folder: Path, prompts: int
) -> tuple[list[dict[str, Any]], str]:
    """As `run_rounds`, on the `prompts` questions of `task` that tell the variants apart best.

    Raises:
        BenchError: what is needed is not there, or the server does not do what it must.
    """
    key = os.environ.get("SQLWRIGHT_API_KEY")
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
        headers={"Authorization": f"Bearer {key}"} if key else {},
    ) as session:
        await check_model(session, Target(task.url))
        say("asking a fresh engine what each variant answers")
        model = str(resolve_base_model(BASE_MODEL))
        every = await references_of(session, task, versions, folder, model)
        references = every.best(prompts)
        asked = tuple(q for q in task.questions if q.prompt in references.of)
        load = Load(session, replace(task, questions=asked), references, MonotonicClock())
        return await run_rounds(load, plan, versions, folder)


def main(
    base_url: Annotated[str, typer.Option(help="Address of the server.")],
    store: Annotated[Path | None, typer.Option(help="The server's; default: the usual.")] = None,
    swaps: Annotated[int, typer.Option(min=1, help="In all.")] = 1000,
    rounds: Annotated[int, typer.Option(min=1, help="Blocks with and without swaps.")] = 5,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at a time.")] = 32,
    answers: Annotated[int, typer.Option(min=1, help="Between a swap and the next.")] = 8,
    steady_seconds: Annotated[float, typer.Option(help="Length of a block without.")] = 8.0,
    variants: Annotated[int, typer.Option(min=2, help="Versions that take turns.")] = 4,
    lowest: Annotated[float, typer.Option(min=0, max=1, help="The least factor.")] = 0.25,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts that are asked.")] = 16,
    sql_share: Annotated[float, typer.Option(min=0, max=1, help="Of /generate-sql.")] = 0.1,
    alias: Annotated[str, typer.Option(help="Name that is swapped; gone after.")] = "swaps",
    bundle: Annotated[Path, typer.Option(help="The adapter.")] = BUNDLED,
    data: Annotated[str, typer.Option(help="`samples`, or a JSONL file.")] = SAMPLES,
    folder: Annotated[Path, typer.Option(help="Where rounds stay.")] = Path("runs/swaps"),
    results: Annotated[Path, typer.Option(help="Where the figures are written.")] = RESULTS,
) -> None:
    """Swap adapters under load; the server must follow the store at STORE."""
    place, plan = (
        store or default_store(),
        Swaps(swaps, min(rounds, swaps), answers, steady_seconds),
    )
    try:
        url = Target(base_url).root
        questions = tuple(candidates(data, prompts))
        versions = make_variants(bundle, place, factors(variants, lowest))
        task = Task(url, place, alias, questions, concurrency, sql_share)
        shared = {"versions": versions, "clients": concurrency, "sql_share": sql_share}
        keep_settings(folder, asdict(plan) | shared | {"data": data, "prompts": prompts})
        try:
            records, notes = asyncio.run(measure(task, plan, versions, folder, prompts))
        finally:
            change_alias(place, alias, lambda _: None, action="withdraw", actor="benchmark")
    except (BenchError, BaseModelError, BundleError, OSError) as error:
        typer.echo(f"swaps: error: {error}", err=True)
        raise typer.Exit(1) from error
    figures = figures_of(records, notes)
    paths = [str(write_figure(figure, results)) for figure in figures]
    summary = {figure.figure: figure.value for figure in figures}
    typer.echo(json.dumps(summary | {"rows": figures[0].rows, "figures": paths}))


if __name__ == "__main__":
    # A TERM withdraws the name too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    typer.run(main)
