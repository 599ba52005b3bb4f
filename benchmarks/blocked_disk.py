"""`python -m benchmarks.blocked_disk`: what a store whose disk hangs costs other traffic.

Blocks of steady load take turns: in every second one `aliases.json` is a pipe that nobody writes
to, as a file on a mount that hangs, and the server is told again and again to look at it. Latency
of requests for what is served already must not change. Writes the figure `blocked_disk_p99_ratio`.
"""

import asyncio
import json
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import typer

from benchmarks.plan import BenchError, Target
from eval.task.figure import RESULTS, Figure, write_figure
from eval.task.store import ALIASES, default_store

TOUCH_SECONDS = 0.5


@contextmanager
def hanging(path: Path) -> Iterator[None]:
    """While open, whoever reads `path` waits; then what was there is back."""
    aside = path.with_name(f".{path.name}.aside")
    path.rename(aside)
    os.mkfifo(path)
    try:
        yield
    finally:
        _let_go(path)
        aside.rename(path)


def _let_go(pipe: Path) -> None:
    """Remove the pipe, and have its readers find it empty."""
    held = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    pipe.unlink()
    os.close(held)


@dataclass
class Load:
    """Completions of `model` at `url`, `clients` at a time."""

    session: aiohttp.ClientSession
    url: str
    model: str
    clients: int
    max_tokens: int
    milliseconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    async def block(self, seconds: float) -> list[float]:
        """The latencies of one block, ms."""
        before, end = len(self.milliseconds), time.monotonic() + seconds
        await asyncio.gather(*(self._client(end) for _ in range(self.clients)))
        return self.milliseconds[before:]

    async def _client(self, end: float) -> None:
        body = {"model": self.model, "prompt": "SELECT", "max_tokens": self.max_tokens}
        while time.monotonic() < end:
            began = time.monotonic()
            async with self.session.post(f"{self.url}/v1/completions", json=body) as response:
                text = await response.text()
            self.milliseconds.append(1000 * (time.monotonic() - began))
            if response.status != 200:
                self.failures.append(text[:200])


async def _touch(folder: Path) -> None:
    """Change something in the store from time to time, so that servers look at it."""
    mark = folder / ".benchmark"
    try:
        while True:
            mark.touch()
            await asyncio.sleep(TOUCH_SECONDS)
    finally:
        mark.unlink(missing_ok=True)


async def measure(load: Load, store: Path, blocks: int, seconds: float) -> list[dict[str, Any]]:
    """A row for each pair of blocks: p50 and p99 in ms, steady and with a disk that hangs."""
    rows = []
    touching = asyncio.create_task(_touch(store))
    try:
        await load.block(seconds / 2)  # a warm-up
        for number in range(blocks):
            steady = await load.block(seconds) if number % 2 else None
            with hanging(store / ALIASES):
                await asyncio.sleep(2 * TOUCH_SECONDS)  # until it is looked at
                hung = await load.block(seconds)
            steady = steady or await load.block(seconds)
            rows.append({"steady": _quantiles(steady), "hanging": _quantiles(hung)})
    finally:
        touching.cancel()
        await asyncio.gather(touching, return_exceptions=True)
    return rows


def _quantiles(latencies: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(latencies, n=100, method="inclusive")
    return {"n": len(latencies), "p50": round(cuts[49], 2), "p99": round(cuts[98], 2)}


def figure_of(rows: list[dict[str, Any]], load: Load, seconds: float) -> Figure:
    """The median over pairs of blocks of p99 while the disk hangs, over p99 without."""
    ratios = [row["hanging"]["p99"] / row["steady"]["p99"] for row in rows]
    return Figure(
        "blocked_disk_p99_ratio",
        value=round(statistics.median(ratios), 3),
        unit="p99 while the store's disk hangs / without",
        n=len(rows),
        interval=(round(min(ratios), 3), round(max(ratios), 3)),
        notes=(
            f"{load.clients} clients, blocks of {seconds:g} s in turns, {len(load.milliseconds):,} "
            f"completions of {load.max_tokens} tokens, {len(load.failures)} failed; interval: "
            "least and greatest ratio of the pairs"
        ),
        rows=rows,
    )


async def _run(
    url: str, model: str, clients: int, tokens: int, store: Path, blocks: int, seconds: float
) -> tuple[list[dict[str, Any]], Load]:
    timeout = aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        load = Load(session, url, model, clients, tokens)
        return await measure(load, store, blocks, seconds), load


def main(
    base_url: Annotated[str, typer.Option(help="Address of the server.")],
    store: Annotated[Path | None, typer.Option(help="The server's; default: the usual.")] = None,
    model: Annotated[str, typer.Option(help="What is asked.")] = "spider",
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at a time.")] = 8,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of each completion.")] = 8,
    blocks: Annotated[int, typer.Option(min=2, help="Pairs of blocks.")] = 6,
    seconds: Annotated[float, typer.Option(min=1, help="Length of a block.")] = 10.0,
    results: Annotated[Path, typer.Option(help="Where the figure is written.")] = RESULTS,
) -> None:
    """Measure p99 with and without a store that hangs."""
    place = store or default_store()
    try:
        if not (place / ALIASES).is_file():
            raise BenchError(f"--store {place}: has no {ALIASES}")
        url = Target(base_url).root
        rows, load = asyncio.run(_run(url, model, concurrency, max_tokens, place, blocks, seconds))
    except (BenchError, aiohttp.ClientError, OSError) as error:
        typer.echo(f"blocked_disk: error: {error}", err=True)
        raise typer.Exit(1) from error
    figure = figure_of(rows, load, seconds)
    path = write_figure(figure, results)
    typer.echo(json.dumps({figure.figure: figure.value, "rows": rows, "file": str(path)}))


if __name__ == "__main__":
    typer.run(main)
