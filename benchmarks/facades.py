"""`python -m benchmarks.facades`: several servers on one store, while versions are published.

As soon as a publish has returned, every server is asked for the new version by its full name: none
may call it unknown. How long each takes until the public name means the new version is measured
besides, under steady load on that name. Writes the figures `facades_unknown` and
`facades_converge_seconds`.
"""

import asyncio
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import typer

from benchmarks.plan import BenchError, Target
from benchmarks.variants import BUNDLED, factors, make_variants
from eval.task.bundle import BundleError
from eval.task.figure import RESULTS, Figure, write_figure
from eval.task.store import change_alias, default_store, point_alias

PROMPT = "SELECT"
POLL_SECONDS = 0.02
GIVE_UP_SECONDS = 60.0


@dataclass
class Servers:
    """The servers at `urls`, whose store is `store`; what they were asked under load."""

    session: aiohttp.ClientSession
    urls: Sequence[str]
    store: Path
    alias: str
    answers: int = 0
    failures: list[str] = field(default_factory=list)

    async def complete(self, url: str, model: str) -> tuple[int, str]:
        """Status and model of a short completion."""
        body = {"model": model, "prompt": PROMPT, "max_tokens": 2, "temperature": 0}
        async with self.session.post(f"{url}/v1/completions", json=body) as response:
            record = await response.json()
            return response.status, str(record.get("model", record))

    async def load(self, url: str) -> None:
        """Ask for the public name without a pause; runs until cancelled."""
        while True:
            status, model = await self.complete(url, self.alias)
            self.answers += 1
            if status != 200:
                self.failures.append(f"{url}: {status} {model[:200]}")

    async def converge(self, url: str, version: str, began: float) -> float:
        """Seconds from `began` until the public name means `version` at `url`.

        Raises:
            BenchError: it does not within `GIVE_UP_SECONDS`.
        """
        while time.monotonic() - began < GIVE_UP_SECONDS:
            async with self.session.get(f"{url}/v1/models/{self.alias}") as response:
                record = await response.json()
            if record.get("root") == f"{self.alias}@{version}":
                return time.monotonic() - began
            await asyncio.sleep(POLL_SECONDS)
        raise BenchError(f"{url} does not follow --store {self.store}")

    async def publish(self, version: str) -> dict[str, Any]:
        """Make `version` active; what each server then says, and when it follows."""
        await asyncio.to_thread(point_alias, self.store, self.alias, version, actor="benchmark")
        began, name = time.monotonic(), f"{self.alias}@{version}"
        asked = await asyncio.gather(*(self.complete(url, name) for url in self.urls))
        seconds = await asyncio.gather(*(self.converge(u, version, began) for u in self.urls))
        return {
            "version": version,
            "unknown": sum((status, model) != (200, name) for status, model in asked),
            "seconds": [round(value, 3) for value in seconds],
        }


async def measure(
    urls: Sequence[str], store: Path, alias: str, versions: Sequence[str], clients: int
) -> tuple[list[dict[str, Any]], Servers]:
    """A row a publish, and what was asked meanwhile.

    Raises:
        BenchError: a server can't be asked, or does not follow the store.
    """
    timeout = aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        servers = Servers(session, urls, store, alias)
        rows = [await servers.publish(versions[0])]
        tasks = [asyncio.create_task(servers.load(url)) for url in urls for _ in range(clients)]
        try:
            for version in versions[1:]:
                rows.append(await servers.publish(version))
                await asyncio.sleep(0.5)
        except (aiohttp.ClientError, OSError) as error:
            raise BenchError(f"a server can't be asked: {error}") from error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return rows, servers


def figures_of(rows: list[dict[str, Any]], servers: Servers) -> list[Figure]:
    """Requests that were told of an unknown version, or failed, and the slowest convergence."""
    seconds = sorted(value for row in rows for value in row["seconds"])
    wrong = sum(row["unknown"] for row in rows) + len(servers.failures)
    notes = (
        f"{len(servers.urls)} servers on one store, {len(rows)} publishes, {servers.answers} "
        "requests for the public name under way, none of which may fail; a version that is new to "
        "a server is loaded first"
    )
    middle = seconds[len(seconds) // 2]
    said = f"{notes}; p50 {middle:.2f} s"
    asked = len(rows) * len(servers.urls) + servers.answers
    return [
        Figure("facades_unknown", wrong, "requests", asked, notes=notes, rows=rows),
        Figure("facades_converge_seconds", seconds[-1], "s, the slowest", len(seconds), notes=said),
    ]


def main(
    base_url: Annotated[list[str], typer.Option(help="Address of a server; more than once.")],
    store: Annotated[Path | None, typer.Option(help="Theirs; default: the usual.")] = None,
    publishes: Annotated[int, typer.Option(min=2, help="How many.")] = 20,
    clients: Annotated[int, typer.Option(min=1, help="Of each server, under way.")] = 2,
    variants: Annotated[int, typer.Option(min=2, help="Versions that take turns.")] = 4,
    bundle: Annotated[Path, typer.Option(help="The adapter.")] = BUNDLED,
    alias: Annotated[str, typer.Option(help="Name that is published; gone after.")] = "facades",
    results: Annotated[Path, typer.Option(help="Where the figures are written.")] = RESULTS,
) -> None:
    """Publish versions under load on several servers of one store."""
    place = store or default_store()
    try:
        if len(base_url) < 2:
            raise BenchError("--base-url: name two servers or more")
        made = make_variants(bundle, place, factors(variants, 0.7))
        turns = list(itertools.islice(itertools.cycle(made), publishes))
        urls = [Target(url).root for url in base_url]
        try:
            rows, servers = asyncio.run(measure(urls, place, alias, turns, clients))
        finally:
            change_alias(place, alias, lambda _: None, action="withdraw", actor="benchmark")
    except (BenchError, BundleError, aiohttp.ClientError, OSError) as error:
        typer.echo(f"facades: error: {error}", err=True)
        raise typer.Exit(1) from error
    for failure in servers.failures[:5]:
        typer.echo(f"facades: failed: {failure}", err=True)
    figures = figures_of(rows, servers)
    paths = [str(write_figure(figure, results)) for figure in figures]
    typer.echo(json.dumps({f.figure: f.value for f in figures} | {"files": paths}))


if __name__ == "__main__":
    typer.run(main)
