"""Asks a server over HTTP: bounded concurrency, one shared session, retries with back-off.

Knows nothing of SQL: bodies go out, answers come back.
"""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from urllib.parse import urlsplit

import aiohttp

from eval.api import Answer, Api, Body, read_answer

RETRIED = frozenset({429, 502, 503, 504})
# Answers to the first request that every other one would get too.
FATAL_AT_START = {
    401: "set SQLWRIGHT_API_KEY",
    403: "set SQLWRIGHT_API_KEY",
    404: "check --model, --api and --base-url; GET /v1/models lists the models",
    405: "check --base-url and --api",
    422: "check --model and --api; GET /v1/models lists the models",
}
CONNECT_SECONDS = 10.0
BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 30.0
# A server that asks for a longer pause gets no further request for this item.
MAX_RETRY_AFTER_SECONDS = 300.0

Keep = Callable[[str, Answer], None]


class ServerError(RuntimeError):
    """The server can't be asked at all; the message names its address and the remedy."""


@dataclass(frozen=True)
class Server:
    """Where the server is and how it is asked; `sleep` and `jitter` (0..1) are for tests."""

    base_url: str
    api_key: str | None = None
    concurrency: int = 16
    timeout_seconds: float = 120.0
    retries: int = 5
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: Callable[[], float] = random.random

    def url(self, path: str) -> str:
        """The address of a route; a base URL may end in `/v1`, as OpenAI's clients want it."""
        return self.base_url.rstrip("/").removesuffix("/v1") + path


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP exchange; without a status, `failure` says why there was no response."""

    status: int | None = None
    text: str = ""
    retry_after: str | None = None
    failure: str = ""
    is_unreachable: bool = False
    is_transient: bool = False
    latency_ms: float = 0.0


def check_base_url(url: str) -> str:
    """Return `url` if it can be asked.

    Raises:
        ServerError: no http(s) address, or it holds a password.
    """
    if "@" in url:
        raise ServerError("--base-url must hold no password; set SQLWRIGHT_API_KEY for a key")
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise ServerError(f"--base-url {url!r} must look like http://HOST:PORT")
    return url


def check_api_key(key: str | None) -> str | None:
    """Return `key` without the white space that files end with.

    Raises:
        ServerError: it holds what no HTTP header may.
    """
    key = key.strip() if key else ""
    if not (key.isascii() and key.isprintable()):
        raise ServerError("the API key must be of printable ASCII characters")
    return key or None


async def ask_all(server: Server, api: Api, bodies: Mapping[str, Body], keep: Keep) -> None:
    """Send every body and hand each answer to `keep` under the body's key as it comes.

    The first request goes alone: what makes all others pointless stops there. Later failures are
    answers with an `error`.

    Raises:
        ServerError: the server can't be reached, or refuses the first request as it would any.
    """
    headers = {"Authorization": f"Bearer {server.api_key}"} if server.api_key else {}
    timeout = aiohttp.ClientTimeout(total=server.timeout_seconds, sock_connect=CONNECT_SECONDS)
    connector = aiohttp.TCPConnector(limit=server.concurrency)
    async with aiohttp.ClientSession(
        headers=headers, timeout=timeout, connector=connector
    ) as session:
        caller = Caller(session, server, api)
        pending = iter(bodies.items())
        for key, body in islice(pending, 1):
            keep(key, await caller.ask(body, is_first=True))
        await asyncio.gather(*(caller.work(pending, keep) for _ in range(server.concurrency)))


@dataclass(frozen=True)
class Caller:
    """One session's requests to one route."""

    session: aiohttp.ClientSession
    server: Server
    api: Api

    async def work(self, pending: Iterator[tuple[str, Body]], keep: Keep) -> None:
        """Ask until `pending`, which all workers share, is empty."""
        for key, body in pending:
            keep(key, await self.ask(body))

    async def ask(self, body: Body, *, is_first: bool = False) -> Answer:
        """Post `body`, again after a pause where the failure may pass.

        A request that ran out of time is not sent again: the answer would take as long.

        Raises:
            ServerError: `is_first` and the failure holds for all requests.
        """
        for attempt in range(self.server.retries + 1):
            reply = await self._post(body)
            if is_first:
                self._refuse(reply)
            pause = self._pause(reply, attempt)
            if pause is None:
                break
            await self.server.sleep(pause)
        return _answer_of(reply, self.api)

    async def _post(self, body: Body) -> Reply:
        started = time.perf_counter()
        try:
            async with self.session.post(self.server.url(self.api.path), json=body) as response:
                text = await response.text(encoding="utf-8", errors="replace")
                reply = Reply(
                    response.status,
                    text,
                    retry_after=response.headers.get("Retry-After"),
                    is_transient=response.status in RETRIED,
                )
        except (TimeoutError, aiohttp.ClientError) as error:
            reply = _failed(error, self.server.timeout_seconds)
        return replace(reply, latency_ms=round(1000 * (time.perf_counter() - started), 1))

    def _pause(self, reply: Reply, attempt: int) -> float | None:
        """Seconds to wait before the next attempt; None if this reply is final."""
        if not reply.is_transient or attempt >= self.server.retries:
            return None
        spread = self.server.jitter()
        wait = retry_after_seconds(reply.retry_after)
        if wait is not None:
            return wait + spread if wait <= MAX_RETRY_AFTER_SECONDS else None
        # Half fixed, half random, so that refused requests don't come back together.
        longest = min(MAX_BACKOFF_SECONDS, BACKOFF_SECONDS * 2.0**attempt)
        return longest * (1 + spread) / 2

    def _refuse(self, reply: Reply) -> None:
        url = self.server.url(self.api.path)
        if reply.is_unreachable:
            raise ServerError(f"can't reach {url}: {reply.failure}; is the server running?")
        if reply.status in FATAL_AT_START:
            said = error_message(reply.text)
            raise ServerError(f"{url}: {reply.status}: {said}; {FATAL_AT_START[reply.status]}")


def _failed(error: BaseException, timeout_seconds: float) -> Reply:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    said = str(cause) or type(cause).__name__
    match error:
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            return Reply(failure=said, is_unreachable=True, is_transient=True)
        case TimeoutError():
            return Reply(failure=f"no response within {timeout_seconds:g} s")
        case aiohttp.ClientConnectionError() | aiohttp.ClientPayloadError():
            return Reply(failure=said, is_transient=True)
        case _:  # what answers there does not speak HTTP
            return Reply(failure=said, is_unreachable=True)


def _answer_of(reply: Reply, api: Api) -> Answer:
    if reply.status is None:
        answer = Answer(error=reply.failure)
    elif reply.status != 200:
        answer = Answer(error=f"{reply.status}: {error_message(reply.text)}")
    else:
        answer = read_answer(api, reply.text)
    return replace(answer, latency_ms=reply.latency_ms)


def retry_after_seconds(value: str | None, now: datetime | None = None) -> float | None:
    """The pause that a `Retry-After` header asks for, given in seconds or as an HTTP date.

    None where there is no header or it can't be read.
    """
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())


def error_message(text: str) -> str:
    """The message of an error response, in our shape, vLLM's or FastAPI's; else its first words."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    body = body if isinstance(body, dict) else {}
    error = body["error"] if isinstance(body.get("error"), dict) else body
    parts = [error.get("message") or error.get("detail"), error.get("hint")]
    said = "; ".join(str(part) for part in parts if part) or text
    return " ".join(said.split())[:300] or "no message"
