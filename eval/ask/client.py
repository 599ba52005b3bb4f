"""Asks a server over HTTP: bounded concurrency, one shared session, retries with back-off.

Knows nothing of SQL: bodies go out, answers come back.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

import aiohttp

from eval.ask.api import Answer, Api, Body, read_answer
from eval.ask.connection import (
    Reply,
    Server,
    ServerError,
    Trouble,
    error_message,
    error_of,
    exchange,
    open_session,
    retry_after_seconds,
)
from eval.ask.models import offered, shown
from eval.ask.throttle import Throttle

# What holds for every other request too. Of the first request more does: see `_holds_for_all`.
FATAL = {401: "set SQLWRIGHT_API_KEY", 402: "see your account there"}
FATAL_AT_START = FATAL | {
    403: "set SQLWRIGHT_API_KEY",
    404: "check --model, --api and --base-url",
    405: "check --base-url and --api",
    400: "check --model, --api and --extra-body",
    422: "check --model, --api and --extra-body",
}
REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAY_NAME_MODEL = frozenset({400, 404, 422})
# Fields that differ from question to question.
OF_QUESTION = frozenset({"prompt", "messages", "ddl", "natural_language_query", "dialect"})
RETRIED = frozenset({Trouble.UNREACHABLE, Trouble.CUT, Trouble.BUSY})
OVERLOADED = frozenset({429, 503})
BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 30.0
# A server that asks for a longer pause gets no further request for this item.
MAX_RETRY_AFTER_SECONDS = 300.0
# So many requests in a row without an answer, and at least one of each worker's, say that the
# server is gone.
MIN_LOST_IN_A_ROW = 5

Keep = Callable[[str, Answer], None]


async def ask_all(server: Server, api: Api, bodies: Mapping[str, Body], keep: Keep) -> None:
    """Send every body and hand each answer to `keep` under the body's key as it comes.

    The first request goes alone: what makes all others pointless stops there. Later failures are
    answers with an `error`, unless the server is gone.

    Raises:
        ServerError: the server can't be reached, refuses the first request as it would any, or
            stopped answering; what was answered until then has been kept.
    """
    async with open_session(server) as session:
        caller = Caller(session, server, api)
        pending = iter(bodies.items())
        for key, body in islice(pending, 1):
            keep(key, await caller.ask(body, is_first=True))
        workers = [
            asyncio.create_task(caller.work(pending, keep)) for _ in range(server.concurrency)
        ]
        try:
            await asyncio.gather(*workers)
        finally:  # else the others go on while the session closes
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)


class Caller:
    """One session's requests to one route."""

    def __init__(self, session: aiohttp.ClientSession, server: Server, api: Api) -> None:
        self.session = session
        self.server = server
        self.api = api
        self.throttle = Throttle(server.concurrency, server.sleep)
        self.lost_in_a_row = 0

    async def work(self, pending: Iterator[tuple[str, Body]], keep: Keep) -> None:
        """Ask until `pending`, which all workers share, is empty."""
        for key, body in pending:
            keep(key, await self.ask(body))

    async def ask(self, body: Body, *, is_first: bool = False) -> Answer:
        """Post `body`, again after a pause where the failure may pass.

        A request that ran out of time is not sent again: the answer would take as long.

        Raises:
            ServerError: the failure holds for all requests, or nothing answers any more.
        """
        for attempt in range(self.server.retries + 1):
            reply = await self._post(body)
            await self._refuse(reply, body, is_first=is_first)
            pause = self._pause(reply, attempt)
            if pause is None:
                break
            if reply.status in OVERLOADED:
                await self.throttle.pause(pause)
            else:
                await self.server.sleep(pause)
        if reply.trouble:
            self._give_up(reply)
        return _answer_of(reply, self.api)

    async def _post(self, body: Body) -> Reply:
        async with self.throttle.slot():
            reply = await exchange(self.session, self.server, self.api.path, body)
        if reply.trouble:
            self.lost_in_a_row += 1
        else:
            self.lost_in_a_row = 0
            self.throttle.answered()
        return reply

    def _pause(self, reply: Reply, attempt: int) -> float | None:
        """Seconds to wait before the next attempt; None if this reply is final."""
        if reply.trouble not in RETRIED or attempt >= self.server.retries:
            return None
        spread = self.server.jitter()
        wait = retry_after_seconds(reply.retry_after)
        if wait is not None:
            return wait + spread if wait <= MAX_RETRY_AFTER_SECONDS else None
        # Half fixed, half random, so that refused requests don't come back together.
        longest = min(MAX_BACKOFF_SECONDS, BACKOFF_SECONDS * 2.0**attempt)
        return longest * (1 + spread) / 2

    def _give_up(self, reply: Reply) -> None:
        """Raise ServerError if no worker has had an answer for long."""
        if self.lost_in_a_row >= max(MIN_LOST_IN_A_ROW, self.server.concurrency):
            raise ServerError(
                f"{self.server.url(self.api.path)}: the last {self.lost_in_a_row} requests got no "
                f"answer ({_failure(reply)}); the same command goes on from the answers so far"
            )

    async def _refuse(self, reply: Reply, body: Body, *, is_first: bool) -> None:
        """Raise ServerError if every other request would fare the same."""
        url = self.server.url(self.api.path)
        if is_first and reply.trouble in (Trouble.UNREACHABLE, Trouble.NOT_HTTP):
            raise ServerError(f"can't reach {url}: {reply.failure}; is the server running?")
        if is_first and reply.status in REDIRECTS:
            raise ServerError(f"{url}: redirects to {reply.location}: give that as --base-url")
        if reply.status not in FATAL and not (is_first and _holds_for_all(reply, body)):
            return
        remedy = FATAL_AT_START[reply.status or 0]
        if reply.status in MAY_NAME_MODEL:
            remedy = "; ".join(filter(None, (remedy, await self._models(body))))
        raise ServerError(f"{url}: {_failure(reply)}; {remedy}")

    async def _models(self, body: Body) -> str:
        """What the server offers, in words; empty where it does not say."""
        try:
            names = await offered(self.session, self.server)
        except ServerError:
            return ""
        return shown(names, str(body.get("model", "")))


def _holds_for_all(reply: Reply, body: Body) -> bool:
    """Whether a refusal of the first request is no word on its question alone.

    A 400 or 422 is one on what `param` names; of a 400 that names nothing one can't know.
    """
    if reply.status not in (400, 422):
        return reply.status in FATAL_AT_START
    named = str(error_of(reply.text).get("param") or "").partition(".")[0]
    if "context" in error_message(reply.text):  # the length of one prompt, whatever it names
        return False
    if named:
        return named in body.keys() - OF_QUESTION or named == "model"
    return reply.status == 422


def _failure(reply: Reply) -> str:
    return reply.failure or f"{reply.status}: {error_message(reply.text)}"


def _answer_of(reply: Reply, api: Api) -> Answer:
    is_answer = reply.status == 200
    answer = read_answer(api, reply.text) if is_answer else Answer(error=_failure(reply))
    return replace(answer, latency_ms=reply.latency_ms)
