"""`python -m benchmarks.rollout`: one real rollout, a candidate against the version that serves.

Publishes two bundles under a name of its own, the second as a shadow or a canary, and asks the
server questions of a data set until its evidence has decided, or the questions are used up. What
was decided, after how many questions and seconds, is read from the store. Writes the figure
`rollout_real`.
"""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from itertools import count, cycle
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import typer

from benchmarks.client import ReplyError, request_body
from benchmarks.plan import BenchError, Target
from benchmarks.swapping import post
from benchmarks.variants import BUNDLED
from benchmarks.workload import Question, load_workload
from eval.task.audit import read_last
from eval.task.bundle import BundleError
from eval.task.figure import RESULTS, Figure, write_figure
from eval.task.store import (
    Alias,
    add_version,
    change_alias,
    default_store,
    publish,
    read_aliases,
)

POLL_SECONDS = 0.2
SETTLE_SECONDS = 120.0


class Rollout:
    """Questions to `alias` of the server at `url`, whose store is `store`."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, store: Path, alias: str, begun: Alias
    ) -> None:
        self.session = session
        self.target = Target(url, model=alias)
        self.store = store
        self.alias = alias
        self.begun = begun
        self.asked = 0
        self.failed: list[str] = []

    def is_over(self) -> bool:
        return read_aliases(self.store)[self.alias] != self.begun

    async def run(self, questions: Sequence[Question], clients: int, most: int) -> float:
        """Ask until it is over, or `most` questions were asked; the seconds that took."""
        began, numbers = time.monotonic(), count()
        tickets = zip(range(most), cycle(questions), numbers, strict=False)
        await asyncio.gather(*(self._client(tickets) for _ in range(clients)))
        while not self.is_over() and time.monotonic() - began < SETTLE_SECONDS:
            await asyncio.sleep(POLL_SECONDS)  # the last of them are compared after their answers
        return time.monotonic() - began

    async def _client(self, tickets: Iterator[tuple[int, Question, int]]) -> None:
        for _, question, number in tickets:
            if self.is_over():
                return
            body = request_body(self.target, question) | {"user": f"user {number % 97}"}
            try:
                await post(self.session, self.target.url, body)
            except ReplyError as error:
                self.failed.append(f"{error.kind}: {error}")
            self.asked += 1


def verdict_of(store: Path, alias: str) -> dict[str, Any]:
    """What the audit log says of the decision; empty where there is none."""
    lines = read_last(store, 20, alias)
    return next((line for line in lines if line["actor"] == "rollout"), {})


def figure_of(rollout: Rollout, seconds: float, mode: str, names: tuple[str, str]) -> Figure:
    """The questions that were needed; who won, and why, in the notes."""
    line = verdict_of(rollout.store, rollout.alias)
    notes = (
        f"{mode} of {names[1]} against {names[0]}, share {rollout.begun.share:g}: "
        f"{line.get('action', 'undecided')} after {seconds:.0f} s; {line.get('detail', '')}; "
        f"{len(rollout.failed)} requests failed"
    )
    return Figure("rollout_real", rollout.asked, "questions until it was decided", 1, notes=notes)


async def measure(
    url: str, store: Path, alias: str, questions: Sequence[Question], clients: int, most: int
) -> tuple[Rollout, float]:
    """Run the rollout that `alias` has.

    Raises:
        BenchError: the server does not answer as `alias`.
    """
    timeout = aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        rollout = Rollout(session, url, store, alias, read_aliases(store)[alias])
        try:
            first = request_body(rollout.target, questions[0])
            await post(session, rollout.target.url, first)  # loads both versions
        except ReplyError as error:
            raise BenchError(f"{url} does not serve {alias!r}: {error}") from error
        return rollout, await rollout.run(questions, clients, most)


def begin(store: Path, alias: str, bundles: tuple[Path, Path], mode: str, share: float) -> None:
    """Publish the first bundle as `alias`, with the second as its candidate."""
    publish(bundles[0], store, alias, actor="benchmark")
    version = add_version(bundles[1], store).short
    canary, shadow = (version, None) if mode == "canary" else (None, version)

    def change(entry: Alias | None) -> Alias:
        assert entry is not None  # published above
        return Alias(entry.active, entry.previous, canary, shadow, share)

    change_alias(store, alias, change, action=mode, actor="benchmark")


def main(
    base_url: Annotated[str, typer.Option(help="Address of the server.")],
    candidate: Annotated[Path, typer.Option(help="Bundle that is tried.")],
    active: Annotated[Path, typer.Option(help="Bundle that serves.")] = BUNDLED,
    store: Annotated[Path | None, typer.Option(help="The server's; default: the usual.")] = None,
    data: Annotated[str, typer.Option(help="JSONL file of questions.")] = "data/dev.jsonl",
    mode: Annotated[str, typer.Option(help="shadow or canary.")] = "shadow",
    share: Annotated[float, typer.Option(min=0.01, max=1, help="Of the questions.")] = 0.5,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at a time.")] = 8,
    most: Annotated[int, typer.Option(min=1, help="Questions, at most.")] = 5000,
    alias: Annotated[str, typer.Option(help="Name of the rollout; gone after.")] = "rollout",
    results: Annotated[Path, typer.Option(help="Where the figure is written.")] = RESULTS,
) -> None:
    """Roll a candidate out against real questions until the evidence decides."""
    place = store or default_store()
    try:
        if mode not in ("shadow", "canary"):
            raise BenchError(f"--mode {mode!r}: shadow or canary")
        questions = load_workload(data).questions
        begin(place, alias, (active, candidate), mode, share)
        try:
            rollout, seconds = asyncio.run(
                measure(Target(base_url).root, place, alias, questions, concurrency, most)
            )
            figure = figure_of(rollout, seconds, mode, (active.name, candidate.name))
        finally:
            change_alias(place, alias, lambda _: None, action="withdraw", actor="benchmark")
    except (BenchError, BundleError, OSError) as error:
        typer.echo(f"rollout: error: {error}", err=True)
        raise typer.Exit(1) from error
    path = write_figure(figure, results)
    typer.echo(json.dumps({"questions": figure.value, "notes": figure.notes, "file": str(path)}))


if __name__ == "__main__":
    typer.run(main)
