"""The one seam to the engine: vLLM's public HTTP API over a UNIX socket or a URL.

Only here are our terms translated to vLLM's; nothing here knows of SQL.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from server.errors import (
    BadRequest,
    EngineFailed,
    EngineTimeout,
    NotReady,
    ServerError,
    Unprocessable,
)

# A keep-alive connection can be closed by vLLM between two requests.
RETRIES = 2


@dataclass(frozen=True, slots=True)
class Completion:
    """One whole completion; `logprobs` has the natural logarithm for each token."""

    text: str
    logprobs: tuple[float, ...]
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Reply:
    """An engine's answer that is passed on: chunks as they come."""

    content_type: str
    chunks: AsyncIterator[bytes]


class Engine(Protocol):
    """What the facade needs of an engine; `model` is "base" or an adapter's versioned name."""

    async def complete(self, model: str, prompt: str, *, max_tokens: int) -> Completion: ...

    def forward(self, path: str, body: dict[str, Any]) -> Any:
        """An async context manager of the engine's `Reply` to `body` posted to `path`."""

    async def is_healthy(self) -> bool: ...

    async def close(self) -> None: ...


class VllmEngine:
    """vLLM's OpenAI server at `url`, or behind the UNIX socket `socket`."""

    def __init__(
        self, *, url: str = "", socket: Path | None = None, timeout: float = 120.0
    ) -> None:
        self.url = url.rstrip("/") or "http://engine"
        self.socket = socket
        self.timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """Opened at first use, since it belongs to the running event loop."""
        if self._session is None:
            connector = (
                aiohttp.UnixConnector(str(self.socket), limit=0)
                if self.socket
                else aiohttp.TCPConnector(limit=0)
            )
            self._session = aiohttp.ClientSession(connector=connector, timeout=self.timeout)
        return self._session

    async def complete(self, model: str, prompt: str, *, max_tokens: int) -> Completion:
        """Greedy completion of `prompt` with token log-probabilities."""
        body = {
            "model": model,
            "prompt": prompt,
            "max_tokens": max_tokens,
            "temperature": 0,
            "logprobs": 0,
        }
        async with self._post("/v1/completions", body) as response:
            record = await response.json()
        choice, usage = record["choices"][0], record["usage"]
        return Completion(
            choice["text"],
            tuple(choice["logprobs"]["token_logprobs"]),
            choice["finish_reason"] or "stop",
            usage["prompt_tokens"],
            usage["completion_tokens"],
        )

    @asynccontextmanager
    async def forward(self, path: str, body: dict[str, Any]) -> AsyncIterator[Reply]:
        async with self._post(path, body) as response:
            yield Reply(response.content_type, response.content.iter_any())

    async def is_healthy(self) -> bool:
        try:
            timeout = aiohttp.ClientTimeout(total=5)
            async with self.session.get(f"{self.url}/health", timeout=timeout) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def _post(self, path: str, body: dict[str, Any]) -> AsyncIterator[aiohttp.ClientResponse]:
        response = await self._send(path, body)
        try:
            if response.status != 200:
                raise await _refusal(response)
            yield response
        except TimeoutError as error:
            raise EngineTimeout("the engine did not answer in time", hint="try again") from error
        except aiohttp.ClientError as error:
            raise EngineFailed("the engine broke off its answer", hint="try again") from error
        finally:
            # Closing, not releasing: an unread answer ends here, and vLLM stops generating.
            response.close()

    async def _send(self, path: str, body: dict[str, Any]) -> aiohttp.ClientResponse:
        for attempt in range(RETRIES + 1):
            try:
                return await self.session.post(self.url + path, json=body)
            except aiohttp.ServerDisconnectedError:
                if attempt == RETRIES:
                    break
            except TimeoutError as error:
                raise EngineTimeout(
                    "the engine did not answer in time", hint="try again"
                ) from error
            except (aiohttp.ClientError, OSError):
                break
            await asyncio.sleep(0.01)
        raise NotReady("the engine can't be reached", hint="try again shortly", retry_after=2)


async def _refusal(response: aiohttp.ClientResponse) -> ServerError:
    """The engine's error as ours: 4xx keeps its message, the rest says only that it failed."""
    try:
        record = await response.json()
        detail = record.get("error") or {}
        message = str(detail.get("message", ""))
    except (aiohttp.ClientError, ValueError, AttributeError):
        detail, message = {}, ""
    if response.status in (400, 422) and message:
        kind = Unprocessable if response.status == 422 else BadRequest
        error: ServerError = kind(message, param=detail.get("param"))
        if "context length" in message:
            error.code = "context_length_exceeded"
            error.hint = "shorten the prompt or lower max_tokens"
        return error
    if response.status in (429, 503):
        return NotReady("the engine is busy", hint="try again shortly", retry_after=1)
    failed = EngineFailed(f"the engine answered {response.status}", hint="try again")
    failed.__cause__ = RuntimeError(message[:500])
    return failed
