"""What the server's tests share: an engine that answers what it was told, a store with a bundle,
the application around both, and the one way to assert an error."""

import asyncio
import json
import signal
import struct
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI

from eval.task.bundle import CONFIG, WEIGHTS, Manifest, write_manifest
from eval.task.prompt import TEMPLATE
from eval.task.store import publish
from server.adapters.admission import Admission
from server.adapters.loading import Loader
from server.adapters.table import AdapterTable
from server.app import create_app
from server.completions import GREEDY, Completion, Sampling
from server.databases import Databases, sample_databases
from server.engine import Reply
from server.errors import BadRequest, EngineFailed, ServerError
from server.generate import Generator
from server.metrics import Metrics
from server.settings import Settings
from server.supervisor import MODULES

# A shell that runs the tests in the background has them, and so their children, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

GOOD_SQL = "SELECT name FROM users"
QUESTION = {"natural_language_query": "Show me all users"}
ERROR_KEYS = {"type", "code", "message", "param", "hint", "request_id"}
MAX_ERROR_BYTES = 4096
BASE_SHA256 = "b" * 64
PROMPT_IDS = tuple(range(10))


@dataclass(frozen=True)
class Ask:
    """One thing that the fake engine was asked: by `complete`, `reply` or `forward`."""

    how: str
    model: str
    text: str
    body: dict[str, Any]

    @property
    def is_warm_up(self) -> bool:
        return self.how == "complete" and self.body["max_tokens"] == 1

    @property
    def grammar(self) -> str:
        """The grammar that was sent along; "" without one."""
        sampling = self.body.get("sampling")
        return sampling.grammar if sampling else ""


def completion_of(
    text: str,
    logprobs: tuple[float, ...] = (-0.1, -0.2),
    finish_reason: str = "stop",
    tokens: tuple[str, ...] = (),
) -> Completion:
    """A completion of `PROMPT_IDS`; a token without text ends it unless `tokens` are given."""
    tokens = tokens or (text, *("" for _ in logprobs[1:]))[: len(logprobs)]
    ids = tuple(range(len(logprobs)))
    return Completion(text, logprobs, finish_reason, PROMPT_IDS, ids, tokens)


class FakeEngine:
    """Answers what it was told, then `GOOD_SQL` for ever, and remembers what it was asked.

    What it is asked under a grammar has masked log-probabilities; scored, each token has -0.6.
    """

    def __init__(self) -> None:
        self.asked: list[Ask] = []
        self.answers: deque[Completion] = deque()
        self.failures: dict[str, ServerError] = {}
        self.gate: asyncio.Event | None = None
        self.healthy = True
        self.has_grammars = True
        self.can_score = True
        self.chunks: list[bytes | Exception] = [b'{"object":"text_completion"}']
        self.content_type = "application/json"
        self.forwards_open = 0
        self.unloaded: list[str] = []
        self.likeliest: dict[str, list[dict[int, float]]] = {}

    def enqueue(
        self,
        text: str,
        logprobs: tuple[float, ...] = (-0.1, -0.2),
        finish_reason: str = "stop",
        tokens: tuple[str, ...] = (),
    ) -> None:
        self.answers.append(completion_of(text, logprobs, finish_reason, tokens))

    def fail(self, error: ServerError, model: str = "") -> None:
        """From now on raise `error`, for one model or for all."""
        self.failures[model] = error

    @property
    def questions(self) -> list[Ask]:
        """What clients asked: all but the one-token warm-ups."""
        return [ask for ask in self.asked if not ask.is_warm_up]

    @property
    def warmed(self) -> list[str]:
        return [ask.model for ask in self.asked if ask.is_warm_up]

    async def _answer(self, how: str, model: str, text: str, **body: Any) -> list[Completion]:
        sampling: Sampling = body["sampling"]
        await self._meet(Ask(how, model, text, body))
        if body["max_tokens"] == 1:
            return [completion_of("SELECT", (-0.1,), "length")]
        if sampling.grammar and not self.has_grammars:
            raise BadRequest("Grammar error: no such backend")
        found = [
            self.answers.popleft() if self.answers else completion_of(GOOD_SQL)
            for _ in range(sampling.n)
        ]
        return [replace(one, is_masked=bool(sampling.grammar)) for one in found]

    async def _meet(self, ask: Ask) -> None:
        self.asked.append(ask)
        if self.gate:
            await self.gate.wait()
        if error := self.failures.get(ask.model) or self.failures.get(""):
            raise error

    async def complete(
        self,
        model: str,
        prompt: str | Sequence[int],
        *,
        max_tokens: int,
        stop_token_ids: Sequence[int] = (),
        sampling: Sampling = GREEDY,
    ) -> list[Completion]:
        body = {"max_tokens": max_tokens, "stop_token_ids": tuple(stop_token_ids)}
        return await self._answer("complete", model, str(prompt), **body, sampling=sampling)

    async def reply(
        self, model: str, message: str, *, max_tokens: int, sampling: Sampling = GREEDY
    ) -> list[Completion]:
        return await self._answer("reply", model, message, max_tokens=max_tokens, sampling=sampling)

    async def score(
        self, model: str, prompt_ids: Sequence[int], token_ids: Sequence[int]
    ) -> tuple[float, ...]:
        body = {"max_tokens": 0, "token_ids": tuple(token_ids)}
        await self._meet(Ask("score", model, str(prompt_ids), body))
        if not self.can_score:
            raise EngineFailed("no score")
        return tuple(-0.6 for _ in token_ids)

    async def next_tokens(self, model: str, prompts: Sequence[str]) -> list[dict[int, float]]:
        """What `likeliest` has for the model's alias."""
        await self._meet(Ask("next_tokens", model, prompts[0], {"max_tokens": 1}))
        return self.likeliest[model.split("@")[0]]

    @asynccontextmanager
    async def forward(self, path: str, body: dict[str, Any]) -> AsyncIterator[Reply]:
        await self._meet(Ask("forward", body["model"], path, body))
        self.forwards_open += 1
        try:
            yield Reply(self.content_type, self._chunks())
        finally:
            self.forwards_open -= 1

    async def _chunks(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    async def unload(self, model: str) -> None:
        self.unloaded.append(model)

    async def is_healthy(self) -> bool:
        return self.healthy

    async def close(self) -> None:
        self.healthy = False


def safetensors(tensors: dict[str, list[list[float]]], **metadata: str) -> bytes:
    """A safetensors file of float32 matrices."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name, rows in tensors.items():
        flat = [value for row in rows for value in row]
        offsets = [len(data), len(data) + 4 * len(flat)]
        header[name] = {"dtype": "F32", "shape": [len(rows), len(rows[0])], "data_offsets": offsets}
        data += struct.pack(f"<{len(flat)}f", *flat)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def lora_tensors(layer: str, rank: int, inputs: int = 16, outputs: int = 16) -> dict[str, Any]:
    """The two factors of one adapted layer, of small numbers."""
    name = f"base_model.model.{layer}"
    return {
        f"{name}.lora_A.weight": [[0.01] * inputs for _ in range(rank)],
        f"{name}.lora_B.weight": [[0.02] * rank for _ in range(outputs)],
    }


def make_bundle(folder: Path, tag: str = "one", **changes: Any) -> Path:
    """Write a whole bundle; another `tag` gives another digest."""
    folder.mkdir(parents=True)
    fields: dict[str, Any] = {
        "base_model": "some/base",
        "base_model_sha256": BASE_SHA256,
        "quantisation": "nf4",
        "rank": 8,
        "alpha": 16,
        "target_modules": ["q_proj"],
        "prompt_template": TEMPLATE,
        "serialisation": "columns",
        "dialect": "sqlite",
        "stop": "eos",
        "data": [],
        "recipe": {},
        "commit": "0" * 7,
        "created": "2026-11-22T00:00:00Z",
    }
    fields |= changes
    rank, modules = fields["rank"], fields["target_modules"]
    config = {"r": rank, "lora_alpha": fields["alpha"], "peft_type": "LORA", "bias": "none"}
    (folder / CONFIG).write_text(json.dumps(config | {"target_modules": modules}))
    tensors: dict[str, Any] = {}
    for module in modules:
        tensors |= lora_tensors(f"model.layers.0.self_attn.{module}", rank)
    (folder / WEIGHTS).write_bytes(safetensors(tensors, tag=tag))
    write_manifest(folder, Manifest(**fields))
    return folder


def publish_new(store: Path, alias: str = "spider", tag: str = "one", **changes: Any) -> str:
    """Publish a bundle made for the purpose; returns the version's 12 digits."""
    staging = store.parent / f"staging-{alias}-{tag}"
    return publish(make_bundle(staging, tag, **changes), store, alias).short


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error of a response, after its whole shape was checked."""
    assert response.headers["content-type"] == "application/json"
    assert len(response.content) <= MAX_ERROR_BYTES
    body = response.json()
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) == ERROR_KEYS
    is_ours = response.status_code >= 500
    assert error["type"] == ("server_error" if is_ours else "invalid_request_error")
    for key in ("code", "message", "request_id"):
        assert isinstance(error[key], str)
        assert error[key]
    assert error["request_id"] == response.headers["x-request-id"]
    for leak in ("Traceback", 'File "', "site-packages", "/root", "/tmp"):
        assert leak not in response.text
    return error


def assert_error(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """`response` is this error in the one wire shape; returns it for closer looks."""
    assert response.status_code == status, response.text
    error = error_of(response)
    assert error["code"] == code, error
    return error


def client_of(app: FastAPI) -> httpx.AsyncClient:
    """A client of `app`; what the application raises is answered as in service."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://server")


def make_client(generator: Generator, **settings: Any) -> httpx.AsyncClient:
    """A client of an application with other settings than the usual ones."""
    values: dict[str, Any] = {"store": generator.adapters.store} | settings
    return client_of(create_app(generator, Settings(**values)))


@pytest.fixture(autouse=True)
def _fresh_structlog() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    publish_new(folder)
    return folder


def make_table(
    store: Path,
    engine: FakeEngine,
    metrics: Metrics | None = None,
    *,
    slots: int = 16,
    clock: Callable[[], float] = time.monotonic,
    **loading: Any,
) -> AdapterTable:
    """A table of what `store` has; `loading` as `Loader` takes it."""
    metrics = metrics or Metrics()
    loader = Loader(store, engine, metrics, **loading)
    return AdapterTable(loader, metrics, slots=slots, clock=clock)


@pytest.fixture
def table(store: Path, engine: FakeEngine) -> AdapterTable:
    admission = Admission(BASE_SHA256, max_rank=32, modules=frozenset(MODULES))
    return make_table(store, engine, admission=admission)


@pytest.fixture
async def generator(table: AdapterTable, engine: FakeEngine) -> Generator:
    await table.refresh()
    return Generator(
        engine=engine,
        adapters=table,
        databases=Databases(sample_databases(), "shop"),
        metrics=table.metrics,
        default_adapter="spider",
        max_tokens=128,
        max_model_len=2048,
    )


@pytest.fixture
def app(generator: Generator) -> FastAPI:
    values: dict[str, Any] = {"store": generator.adapters.store}
    return create_app(generator, Settings(**values))


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as opened:
        yield opened
