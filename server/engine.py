"""The one seam to the engine: vLLM's public HTTP API over a UNIX socket or a URL.

Only here are our terms translated to vLLM's; nothing here knows of SQL.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from server.completions import (
    GREEDY,
    Completion,
    Sampling,
    read_completions,
    read_next_tokens,
    read_replies,
    read_scores,
)
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
CLOSED = (aiohttp.ServerDisconnectedError, ConnectionResetError, aiohttp.ClientOSError)
# Both routes then say which tokens they read and wrote.
WITH_IDS = {"return_token_ids": True}
NUM_LIKELIEST = 20  # the most that vLLM gives unless told otherwise
# vLLM's ways to say that a prompt is too long.
TOO_LONG = ("context length", "maximum model length")


@dataclass(frozen=True, slots=True)
class Reply:
    """An engine's answer that is passed on: chunks as they come."""

    content_type: str
    chunks: AsyncIterator[bytes]


class Engine(Protocol):
    """What the facade needs of an engine; `model` is "base" or an adapter's versioned name."""

    async def complete(
        self,
        model: str,
        prompt: str | Sequence[int],
        *,
        max_tokens: int,
        stop_token_ids: Sequence[int] = (),
        sampling: Sampling = GREEDY,
    ) -> list[Completion]: ...

    async def reply(
        self, model: str, message: str, *, max_tokens: int, sampling: Sampling = GREEDY
    ) -> list[Completion]: ...

    async def score(
        self, model: str, prompt_ids: Sequence[int], token_ids: Sequence[int]
    ) -> tuple[float, ...]: ...

    async def next_tokens(self, model: str, prompts: Sequence[str]) -> list[dict[int, float]]: ...

    def forward(self, path: str, body: dict[str, Any]) -> Any:
        """An async context manager of the engine's `Reply` to `body` posted to `path`."""

    async def unload(self, model: str) -> None: ...

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

    async def complete(
        self,
        model: str,
        prompt: str | Sequence[int],
        *,
        max_tokens: int,
        stop_token_ids: Sequence[int] = (),
        sampling: Sampling = GREEDY,
    ) -> list[Completion]:
        """Completions of `prompt`, a text or token ids, with token log-probabilities."""
        asked = prompt if isinstance(prompt, str) else list(prompt)
        body = {"model": model, "prompt": asked, "max_tokens": max_tokens, **sampling.body()}
        if stop_token_ids:
            body["stop_token_ids"] = list(stop_token_ids)
        record = await self._record("/v1/completions", body | {"logprobs": 0, **WITH_IDS})
        with _readable():
            return read_completions(record, sampling)

    async def reply(
        self, model: str, message: str, *, max_tokens: int, sampling: Sampling = GREEDY
    ) -> list[Completion]:
        """Answers to one user's message in the model's own chat template."""
        messages = [{"role": "user", "content": message}]
        body = {"model": model, "messages": messages, "max_tokens": max_tokens, **sampling.body()}
        record = await self._record("/v1/chat/completions", body | {"logprobs": True, **WITH_IDS})
        with _readable():
            return read_replies(record, sampling)

    async def score(
        self, model: str, prompt_ids: Sequence[int], token_ids: Sequence[int]
    ) -> tuple[float, ...]:
        """The model's own log-probability of each of `token_ids` after `prompt_ids`.

        vLLM computes them in the prefill, without its prefix cache; one token is decoded in vain.
        """
        ids = [*prompt_ids, *token_ids]
        body = {"model": model, "prompt": ids, "max_tokens": 1, "temperature": 0}
        record = await self._record("/v1/completions", body | {"prompt_logprobs": 0})
        with _readable():
            return read_scores(record, token_ids)

    async def next_tokens(self, model: str, prompts: Sequence[str]) -> list[dict[int, float]]:
        """For each prompt the `NUM_LIKELIEST` likeliest next tokens' ids with their natural
        log-probabilities; NaN where the model gives no number."""
        body = {"model": model, "prompt": list(prompts), "max_tokens": 1, "temperature": 0}
        likeliest = {"logprobs": NUM_LIKELIEST, "return_tokens_as_token_ids": True}
        record = await self._record("/v1/completions", body | likeliest)
        with _readable():
            return read_next_tokens(record, len(prompts))

    async def unload(self, model: str) -> None:
        """Have the engine forget an adapter; one that it has not loaded is no error."""
        try:
            async with self._post("/v1/unload_lora_adapter", {"lora_name": model}):
                pass
        except (BadRequest, Unprocessable):
            return  # not loaded

    async def _record(self, path: str, body: dict[str, Any]) -> Any:
        async with self._post(path, body) as response:
            with _readable():
                return await response.json()

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
            except TimeoutError as error:
                raise EngineTimeout(
                    "the engine did not answer in time", hint="try again"
                ) from error
            except (aiohttp.ClientError, OSError) as error:
                if attempt == RETRIES or not isinstance(error, CLOSED) or _is_refused(error):
                    break
            await asyncio.sleep(0.01)
        raise NotReady("the engine can't be reached", hint="try again shortly", retry_after=2)


@contextmanager
def _readable() -> Iterator[None]:
    """Turns whatever is wrong with the engine's answer into an error of the engine."""
    try:
        yield
    except (LookupError, TypeError, ValueError) as error:
        raise EngineFailed("the engine's answer can't be read", hint="try again") from error


def _is_refused(error: BaseException) -> bool:
    """True if there was no connection at all, so that another try now is in vain."""
    return isinstance(error, aiohttp.ClientConnectorError)


async def _refusal(response: aiohttp.ClientResponse) -> ServerError:
    """The engine's error as ours: 4xx keeps its message, the rest says only that it failed."""
    try:
        record = await response.json()
        detail = record.get("error") or {}
        message = str(detail.get("message", ""))
    except (aiohttp.ClientError, ValueError, AttributeError):
        detail, message = {}, ""
    if response.status in (400, 422):
        kind = Unprocessable if response.status == 422 else BadRequest
        param = detail.get("param")
        refused = message or "the engine refused the request"
        error: ServerError = kind(refused, param=param if isinstance(param, str) else None)
        if any(words in message for words in TOO_LONG):
            error.code = "context_length_exceeded"
            error.hint = "shorten the prompt or lower max_tokens"
        return error
    if response.status in (429, 503):
        return NotReady("the engine is busy", hint="try again shortly", retry_after=1)
    failed = EngineFailed(f"the engine answered {response.status}", hint="try again")
    failed.__cause__ = RuntimeError(message[:500])
    return failed
