"""Steady load on one public name while an operator points it at one version after another.

Knows when each swap was asked for and when the server said it was done, and so which versions an
answer may come from; `reference.py` says which one it does come from.
"""

import asyncio
import random
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import aiohttp

from benchmarks.client import ReplyError, error_text, read_body, request_body
from benchmarks.load import Clock, closed_loop
from benchmarks.measures import Outcome
from benchmarks.plan import Api, BenchError, Target
from benchmarks.reference import TOP, References, read_tokens
from benchmarks.workload import Question
from eval.task.store import point_alias

POLL_SECONDS = 0.01
ACK_SECONDS = 120.0

Verdict = Literal["right", "failed", "mixed", "stale"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer under load, on the client's clock; `away` in nats from what its version says."""

    api: Api
    started: float
    ended: float
    version: str = ""
    away: float = 0.0
    nearest: str = ""
    error: str = ""

    @property
    def ms(self) -> float:
        return (self.ended - self.started) * 1000


@dataclass(frozen=True, slots=True)
class Swap:
    """The name was pointed at `version` from `began` on; the server said so at `acked`."""

    version: str
    began: float
    acked: float


def verdict(answer: Answer, history: Sequence[Swap], tolerance: float) -> Verdict:
    """What is wrong with an answer, after the swaps of `history` in their order.

    Mixed: it is not what the version that it names answers. Stale: it names a version that was
    replaced, as the server had said, before the request was sent.
    """
    if answer.error:
        return "failed"
    if answer.api is Api.COMPLETIONS and not answer.away <= tolerance:
        return "mixed"
    last = bisect_right(history, answer.started, key=lambda swap: swap.acked) - 1
    may_name = {s.version for s in history[max(0, last) :] if s.began <= answer.ended}
    return "right" if answer.version in may_name else "stale"


@dataclass(frozen=True)
class Task:
    """What is asked of whom: `alias` of `store` at `url`, by `clients` at a time. One in
    `1 / sql_share` requests asks for SQL, all others are completions with log-probabilities."""

    url: str
    store: Path
    alias: str
    questions: tuple[Question, ...]
    clients: int
    sql_share: float = 0.1
    max_tokens: int = 24
    seed: int = 0


class Load:
    """The load and the swaps on one server; `history` has all swaps so far."""

    def __init__(
        self, session: aiohttp.ClientSession, task: Task, references: References, clock: Clock
    ) -> None:
        self.session = session
        self.task = task
        self.references = references
        self.clock = clock
        self.history: list[Swap] = []
        self.answers: list[Answer] = []
        self._questions = cycle(task.questions)
        self._random = random.Random(task.seed)

    async def swap(self, version: str) -> None:
        """Point the name at `version` and wait until the server answers from it.

        Raises:
            BenchError: it does not within `ACK_SECONDS`.
        """
        began = self.clock.now()
        await asyncio.to_thread(
            point_alias, self.task.store, self.task.alias, version, actor="benchmark"
        )
        while await self._serving() != version:
            if self.clock.now() - began > ACK_SECONDS:
                raise BenchError(
                    f"the server did not take version {version} in {ACK_SECONDS:g} s; is "
                    f"--store {self.task.store} its store? Its log says why"
                )
            await self.clock.sleep(POLL_SECONDS)
        self.history.append(Swap(version, began, self.clock.now()))

    async def _serving(self) -> str:
        """The version that the name means at the server now; empty for none."""
        url = f"{self.task.url}/v1/models/{self.task.alias}"
        try:
            async with self.session.get(url) as response:
                record = await response.json()
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise BenchError(f"can't reach {self.task.url}: {error}") from error
        return _version(record.get("root"))

    async def steady(self, seconds: float) -> list[Answer]:
        """The answers of a block without a swap."""
        end = self.clock.now() + seconds
        return await self._run(iter(lambda: self.clock.now() >= end, True))

    async def swapping(self, versions: Sequence[str], answers_each: int) -> list[Answer]:
        """The answers of a block in which the name is pointed at each of `versions`, the next one
        when `answers_each` answers have come since the server took the last.

        Raises:
            BenchError: as `swap`.
        """
        done = False

        async def swap_all() -> None:
            nonlocal done
            try:
                for version in versions:
                    await self.swap(version)
                    enough = len(self.answers) + answers_each
                    while len(self.answers) < enough:
                        await self.clock.sleep(POLL_SECONDS)
            finally:
                done = True

        swapper = asyncio.create_task(swap_all())
        answers = await self._run(iter(lambda: done, True))
        await swapper
        return answers

    async def asked(self, count: int) -> list[Answer]:
        """`count` completions, and no question for SQL, of the version that is served now."""
        return await self._run(iter(range(count)), self._complete)

    async def _run(self, tickets: Iterator[Any], send: Any = None) -> list[Answer]:
        begin, clients = len(self.answers), self.task.clients
        send = send or self._send
        await closed_loop(send, self._questions, self.clock, clients=clients, tickets=tickets)
        return self.answers[begin:]

    async def _send(self, question: Question, _: float) -> Outcome:
        is_sql = self._random.random() < self.task.sql_share
        return await (self._ask_sql if is_sql else self._complete)(question)

    async def _complete(self, question: Question, _: float = 0.0) -> Outcome:
        body = completion_body(self.task, self.task.alias, question)
        return await self._ask(Api.COMPLETIONS, body, question.prompt)

    async def _ask_sql(self, question: Question) -> Outcome:
        target = Target(self.task.url, model=self.task.alias)
        return await self._ask(Api.GENERATE_SQL, request_body(target, question), question.prompt)

    async def _ask(self, api: Api, body: dict[str, Any], prompt: str) -> Outcome:
        started = self.clock.now()
        try:
            record = await post(self.session, Target(self.task.url, api).url, body)
            answer = self._read(api, record, prompt, started)
        except ReplyError as error:
            answer = Answer(api, started, self.clock.now(), error=f"{error.kind}: {error}")
        self.answers.append(answer)
        return Outcome(e2el_ms=answer.ms)

    def _read(self, api: Api, record: Mapping[str, Any], prompt: str, started: float) -> Answer:
        ended, version = self.clock.now(), _version(record.get("model"))
        if api is not Api.COMPLETIONS:
            return Answer(api, started, ended, version)
        tokens = read_tokens(record)
        away = self.references.away(tokens, prompt, version)
        return Answer(api, started, ended, version, away, self.references.nearest(tokens, prompt))


def _version(model: object) -> str:
    """The 12 digits in `alias@digest12`."""
    return str(model).partition("@")[2]


def completion_body(task: Task, model: str, question: Question) -> dict[str, Any]:
    """Asks for `question.prompt`'s completion with the likeliest tokens of each position."""
    target = Target(task.url, Api.COMPLETIONS, model, task.max_tokens)
    return request_body(target, question) | {"logprobs": TOP}


async def post(session: aiohttp.ClientSession, url: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer's JSON.

    Raises:
        ReplyError: there is none; `kind` is the status, or what went wrong.
    """
    try:
        async with session.post(url, json=body) as response:
            if response.status != 200:
                raise ReplyError(str(response.status), error_text(await response.read()))
            reply = await read_body(response.content.iter_any(), lambda: 0.0)
            return reply.record
    except TimeoutError as error:
        raise ReplyError("timeout", "no whole answer in time") from error
    except (aiohttp.ClientError, OSError) as error:
        raise ReplyError("connection", str(error) or type(error).__name__) from error
